//! The machine that the personality believes to run in.
//!
//! One host thread plays all vCPUs, one at a time, and the clock moves only when it is read or slept for. So an input
//! has the same effects every time. Whoever would sleep for good is first let others act that have something to do
//! on their way out; then gets a signal; then is killed.
#![allow(unsafe_code, reason = "plays the memory of a machine with host memory")]

mod edges;

use super::window::{Place, Window};
use cormus_hypercall::area::{Upcall, VcpuArea, state};
use cormus_hypercall::boot::{MORE_REQUESTS, Request};
use cormus_hypercall::change::ChangeBoard;
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::edge::{BOARD_SLOTS, EdgeBoard, NEWS_REQUEST, NEWS_TIMER};
use cormus_hypercall::layout::{
    AREA_SIZE, AREAS_OFFSET, BOARD_OFFSET, CHANGES_OFFSET, CLOCK_OFFSET, HEAP_OFFSET, REGION_BASE,
    VCPU_COUNT_MAX,
};
use cormus_hypercall::map::{MapRequest, advice, kind};
use cormus_hypercall::{Call, WAIT_UNINTERRUPTIBLE};
use cormus_linux::entry;
use cormus_linux::platform::{AtomicOp, Platform, set_platform};
use cormus_linux::signal::SigInfo;
use cormus_linux::testing::host;
use cormus_linux_abi::{Errno, PAGE_SIZE, SysResult, as_bytes};
use edges::Edges;
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Bytes of the region's heap; a machine has no more memory either.
const HEAP_LEN: u64 = 96 << 20;
/// What reading the clock takes.
const TICK_NS: u64 = 100;
/// Most bytes of a file that a mapping shows.
const SHOWN_MAX: u64 = 64 << 10;
/// The signal that ends a sleep: SIGUSR1.
const SIGNAL: u32 = 10;
/// SIGKILL.
const KILL: u32 = 9;

pub(super) use cormus_hypercall::area::Regs;
pub(super) use edges::PUBLISHED_PORT;

/// What a thread that leaves its vCPU unwinds with.
struct Left;

/// A vCPU on which a thread lives.
#[derive(Clone, Debug)]
struct Vcpu {
    window: u32,
    regs: Regs,
    started: bool,
    /// It is somewhere below on the host's stack.
    busy: bool,
}

#[derive(Default)]
struct State {
    windows: BTreeMap<u32, Window>,
    next_window: u32,
    vcpus: BTreeMap<u32, Vcpu>,
    requests: Vec<Request>,
    heap_used: u64,
    /// When the alarm rings.
    alarm_ns: u64,
    edges: Edges,
}

/// The machine.
pub(super) struct World {
    region: u64,
    state: Mutex<State>,
    current: AtomicU32,
    clock_ns: AtomicU64,
    fs_base: AtomicU64,
    ended: AtomicBool,
    /// How often the current call would have slept for good.
    stuck: Cell<u32>,
}

// SAFETY: one thread at a time uses the machine; `run` holds a lock for that.
unsafe impl Sync for World {}

/// The machine of this process.
pub(super) fn world() -> &'static World {
    static WORLD: OnceLock<&'static World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let layout = Layout::from_size_align((HEAP_OFFSET + HEAP_LEN) as usize, 4096);
        // SAFETY: the size is not zero.
        let region = unsafe { alloc_zeroed(layout.expect("a layout")) as u64 };
        let world: &'static World = Box::leak(Box::new(World {
            region,
            state: Mutex::default(),
            current: AtomicU32::new(0),
            clock_ns: AtomicU64::new(1_000_000_000),
            fs_base: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            stuck: Cell::new(0),
        }));
        world.clock().multiplier.store(1, Ordering::Relaxed);
        let offset = 1_700_000_000_000_000_000;
        world
            .clock()
            .real_offset_ns
            .store(offset, Ordering::Relaxed);
        let dynamic: &'static dyn Platform = world;
        set_platform(Box::leak(Box::new(dynamic)));
        world
    })
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no input has failed before")
    }

    fn at<T>(&self, offset: u64) -> &'static T {
        assert!(offset + size_of::<T>() as u64 <= HEAP_OFFSET);
        // SAFETY: inside the region, which is never freed; integers and atomics only, so that any bytes are valid.
        unsafe { &*((self.region + offset) as *const T) }
    }

    /// Writes to the region as the monitor does.
    pub(super) fn put(&self, address: u64, bytes: &[u8]) {
        let place = self.region(address);
        // SAFETY: the callers stay in what belongs to the monitor, or in an edge's ring.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    }

    /// Reads a byte of the region as the monitor does.
    pub(super) fn get(&self, address: u64) -> u8 {
        // SAFETY: as in `put`.
        unsafe { self.region(address).read_volatile() }
    }

    /// Begins a machine anew.
    pub(super) fn boot(&self) {
        let used = self.state().heap_used;
        *self.state() = State {
            heap_used: used,
            ..State::default()
        };
        for index in 0..VCPU_COUNT_MAX {
            self.area_of(index)
                .state
                .store(state::FREE, Ordering::SeqCst);
        }
        self.set_area(0, 0);
        self.ended.store(false, Ordering::SeqCst);
        self.current.store(0, Ordering::SeqCst);
        let window = self.new_window();
        self.state().vcpus.insert(0, Vcpu::new(window));
        self.enter(0, entry::boot);
    }

    fn set_area(&self, index: u32, task: u64) {
        let start = self.region + AREAS_OFFSET + u64::from(index) * AREA_SIZE;
        let area = start as *mut VcpuArea;
        // SAFETY: the area is nobody's before the machine begins.
        unsafe { (&raw mut (*area).index).write(index) };
        // SAFETY: as above.
        unsafe { (&raw mut (*area).task).write(task) };
    }

    fn new_window(&self) -> u32 {
        let mut state = self.state();
        let number = state.next_window;
        state.next_window += 1;
        state.windows.insert(number, Window::default());
        number
    }

    /// vCPUs on which threads live, but for the first.
    pub(super) fn threads(&self) -> Vec<u32> {
        let state = self.state();
        state
            .vcpus
            .keys()
            .copied()
            .filter(|index| *index != 0)
            .collect()
    }

    pub(super) fn window_count(&self) -> usize {
        self.state().windows.len()
    }

    /// Whether the personality has ended the machine.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Lets the world ask something of the machine.
    pub(super) fn request(&self, request: Request) {
        self.state().requests.push(request);
        self.announce(NEWS_REQUEST);
    }

    fn announce(&self, number: u32) {
        let news = &self.board().news;
        let tail = news.tail.load(Ordering::Relaxed);
        news.slots[tail as usize % BOARD_SLOTS].store(number, Ordering::Relaxed);
        news.tail.store(tail.wrapping_add(1), Ordering::SeqCst);
    }

    /// Enters the personality on a vCPU and leaves it by the usual way; the program's registers then, unless the
    /// thread has ended.
    pub(super) fn enter(&self, index: u32, act: impl FnOnce(&mut Regs)) -> Option<Regs> {
        let mut regs = {
            let mut state = self.state();
            let vcpu = state.vcpus.get_mut(&index)?;
            assert!(!vcpu.busy, "one thread in one place");
            vcpu.busy = true;
            vcpu.regs
        };
        let before = self.current.swap(index, Ordering::SeqCst);
        let stuck = self.stuck.replace(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.start(index, &mut regs);
            act(&mut regs);
            self.way_out(&mut regs);
        }));
        self.stuck.set(stuck);
        self.current.store(before, Ordering::SeqCst);
        let mut state = self.state();
        match result {
            Ok(()) => {
                let vcpu = state.vcpus.get_mut(&index)?;
                (vcpu.busy, vcpu.regs) = (false, regs);
                Some(regs)
            }
            Err(payload) if payload.is::<Left>() => {
                state.vcpus.remove(&index);
                let area = self.area_of(index);
                area.kicked.store(0, Ordering::SeqCst);
                area.state.store(state::FREE, Ordering::SeqCst);
                None
            }
            Err(payload) => {
                drop(state);
                resume_unwind(payload)
            }
        }
    }

    fn start(&self, index: u32, regs: &mut Regs) {
        let fresh = {
            let mut state = self.state();
            let vcpu = state.vcpus.get_mut(&index).expect("a thread's vCPU");
            !std::mem::replace(&mut vcpu.started, true)
        };
        if fresh && index != 0 {
            let top = AREAS_OFFSET + (u64::from(index) + 1) * AREA_SIZE;
            *regs = *self.at::<Regs>(top - size_of::<Regs>() as u64);
            entry::thread_start(regs);
            self.way_out(regs);
        }
    }

    fn way_out(&self, regs: &mut Regs) {
        let mut rounds = 0;
        while self.area().attention.load(Ordering::SeqCst) != 0 {
            entry::attention(regs);
            rounds += 1;
            assert!(rounds < 10_000, "the way out has no end");
        }
    }

    /// Lets threads act that have something to do on their way out. Whether one had.
    fn run_others(&self) -> bool {
        let waiting: Vec<u32> = {
            let state = self.state();
            let idle = state.vcpus.iter().filter(|(_, vcpu)| !vcpu.busy);
            idle.map(|(index, _)| *index).collect()
        };
        let mut acted = false;
        for index in waiting {
            let begun = self
                .state()
                .vcpus
                .get(&index)
                .is_some_and(|vcpu| vcpu.started);
            if begun && self.area_of(index).attention.load(Ordering::SeqCst) != 0 {
                self.enter(index, |_| {});
                acted = true;
            }
        }
        acted
    }

    fn wait(&self, [word, expected, deadline, flags, _]: [u64; 5]) -> SysResult {
        // SAFETY: the personality passes the address of a live word.
        let word = unsafe { AtomicU32::from_ptr(word as *mut u32) };
        let changed = || word.load(Ordering::SeqCst) != expected as u32;
        let interruptible = flags & WAIT_UNINTERRUPTIBLE == 0;
        if changed() {
            return Ok(0);
        }
        if interruptible && self.area().kicked.load(Ordering::SeqCst) != 0 {
            return Err(Errno::EINTR);
        }
        let news = &self.board().news;
        let has_news = news.head.load(Ordering::SeqCst) != news.tail.load(Ordering::SeqCst);
        if interruptible && has_news || self.run_others() {
            return Ok(0);
        }
        // One thread alone plays all, and gives the vCPU away only here: nobody can hold a lock.
        assert!(
            interruptible,
            "sleeps for a lock, or for somebody who cannot come"
        );
        let alarm = self.state().alarm_ns;
        if alarm != 0 && (deadline == 0 || alarm <= deadline) {
            self.clock_ns.fetch_max(alarm, Ordering::SeqCst);
            self.ring_if_due();
            return Ok(0);
        }
        if deadline != 0 {
            self.clock_ns.fetch_max(deadline, Ordering::SeqCst);
            return Err(Errno::ETIMEDOUT);
        }
        self.unstick();
        Ok(0)
    }

    fn ring_if_due(&self) {
        let mut state = self.state();
        if state.alarm_ns != 0 && state.alarm_ns <= self.clock_ns.load(Ordering::SeqCst) {
            state.alarm_ns = 0;
            self.announce(NEWS_TIMER);
        }
    }

    /// The current thread would sleep for good: it gets a signal, and the next time its process ends.
    fn unstick(&self) {
        let task = cormus_linux::task::current();
        let times = self.stuck.replace(self.stuck.get() + 1);
        match times {
            0 => {
                let info = SigInfo::sent(SIGNAL, 0, 0, 0);
                // A full queue of signals is as good.
                let _ = cormus_linux::signal::send_to_task(task, info);
            }
            1 => task.process.begin_exit(KILL),
            2..100 => {}
            _ => panic!("sleeps on although its process ends"),
        }
    }

    /// A copy of a page of the region.
    fn region_page(&self, offset: u64) -> Box<[u8; PAGE_SIZE as usize]> {
        let mut page = Box::new([0; PAGE_SIZE as usize]);
        // SAFETY: the personality maps what it owns of the region.
        unsafe {
            core::ptr::copy_nonoverlapping(
                (self.region + offset) as *const u8,
                page.as_mut_ptr(),
                page.len(),
            );
        }
        page
    }

    /// Does something to the bytes of a window that may be accessed so, a stretch of a page at a time; how many are left.
    fn access(
        &self,
        window: u32,
        mut address: u64,
        len: usize,
        write: bool,
        mut act: impl FnMut(*mut u8, usize),
    ) -> usize {
        let mut left = len;
        let mut state = self.state();
        let Some(window) = state.windows.get_mut(&window) else {
            return left;
        };
        while left > 0 {
            let offset = address % PAGE_SIZE;
            let part = left.min((PAGE_SIZE - offset) as usize);
            let page = window.page(address, write, |offset| self.region_page(offset));
            let start = match page {
                None => break,
                Some(Place::Own(bytes)) => bytes.as_mut_ptr(),
                Some(Place::Region(offset)) => (self.region + offset) as *mut u8,
            };
            act(start.wrapping_add(offset as usize), part);
            address += part as u64;
            left -= part;
        }
        left
    }

    fn current_window(&self) -> u32 {
        let current = self.current.load(Ordering::SeqCst);
        let state = self.state();
        state.vcpus.get(&current).map_or(0, |vcpu| vcpu.window)
    }

    /// Copies between the personality's memory and a window; how many bytes are left.
    fn copy(&self, window: u32, address: u64, own: u64, len: usize, to_window: bool) -> usize {
        let mut own = own as *mut u8;
        self.access(window, address, len, to_window, |place, part| {
            let (from, to) = if to_window {
                (own, place)
            } else {
                (place, own)
            };
            // SAFETY: `place` has `part` bytes by `access`, the personality's buffer by its caller.
            unsafe { core::ptr::copy(from, to, part) };
            own = own.wrapping_add(part);
        })
    }

    fn word(&self, address: u64, write: bool) -> Option<&AtomicU32> {
        let mut found = None;
        if !address.is_multiple_of(4) {
            return None;
        }
        self.access(self.current_window(), address, 4, write, |place, _| {
            found = Some(place)
        });
        // SAFETY: an aligned word of a page, which stays where it is while its process is in a call.
        found.map(|place| unsafe { AtomicU32::from_ptr(place.cast()) })
    }

    fn map(&self, requests: u64, count: u64) -> SysResult {
        // SAFETY: the personality passes the address and the count of a live slice.
        let requests =
            unsafe { core::slice::from_raw_parts(requests as *const MapRequest, count as usize) };
        for request in requests {
            if request.kind == kind::COPY {
                let mut state = self.state();
                let source = state
                    .windows
                    .get(&(request.source as u32))
                    .expect("a window");
                let pages = source.private(request.address, request.len);
                state.window(request.window).put_private(pages);
                continue;
            }
            let mut contents = Vec::new();
            if request.kind == kind::FILE {
                contents = vec![0; request.len.min(SHOWN_MAX) as usize];
                let buffer = contents.as_mut_ptr() as u64;
                let len = contents.len() as u64;
                let read = host::serve(
                    Call::FileRead,
                    [request.source, request.offset, buffer, len, 0],
                );
                contents.truncate(Errno::from_return(read)? as usize);
            }
            self.state().window(request.window).map(request, &contents);
        }
        Ok(count)
    }

    /// A read or write of a file whose buffer lies in the window.
    fn file(&self, call: Call, [handle, offset, buffer, len, _]: [u64; 5]) -> SysResult {
        let window = self.current_window();
        let mut bytes = vec![0; len.min(1 << 20) as usize];
        let own = bytes.as_mut_ptr() as u64;
        let mut len = bytes.len();
        if call == Call::FileWrite {
            len -= self.copy(window, buffer, own, len, false);
            if len == 0 && !bytes.is_empty() {
                return Err(Errno::EFAULT);
            }
        }
        let arguments = [handle, offset, own, len as u64, 0];
        let done = Errno::from_return(host::serve(call, arguments))?;
        if call == Call::FileRead {
            let left = self.copy(window, buffer, own, done as usize, true);
            if left as u64 == done && done > 0 {
                return Err(Errno::EFAULT);
            }
            return Ok(done - left as u64);
        }
        Ok(done)
    }

    fn memory(&self, call: Call, [a, b, c, d, e]: [u64; 5]) -> SysResult {
        let mut state = self.state();
        let window = state.window(a as u32);
        match call {
            Call::Unmap => window.unmap(b, c),
            Call::Protect => window.protect(b, c, d as u32)?,
            Call::Advise if d == advice::DROP => window.discard(b, c),
            Call::Move => window.relocate([b, c, d, e])?,
            Call::Resident => {
                for page in 0..c / PAGE_SIZE {
                    let here = window.is_resident(b + page * PAGE_SIZE);
                    // SAFETY: the personality passes a buffer with a byte for each page.
                    unsafe { ((d + page) as *mut u8).write(u8::from(here)) };
                }
            }
            Call::WindowUsage => return Ok(window.page_count() * PAGE_SIZE),
            _ => {}
        }
        Ok(0)
    }

    fn answer(&self, call: Call, arguments: [u64; 5]) -> SysResult {
        let [a, b, c, d, e] = arguments;
        match call {
            Call::Wait => return self.wait(arguments),
            Call::Yield => drop(self.run_others()),
            Call::VcpuStart => {
                let vcpu = Vcpu::new(b as u32);
                let before = self.state().vcpus.insert(a as u32, vcpu);
                assert!(before.is_none(), "the vCPU is in use");
            }
            Call::VcpuKick => {
                let area = self.area_of(a as u32);
                area.kicked.store(1, Ordering::SeqCst);
                area.attention.store(1, Ordering::SeqCst);
            }
            Call::WindowNew => return Ok(u64::from(self.new_window())),
            Call::WindowFree => {
                let freed = self.state().windows.remove(&(a as u32));
                assert!(freed.is_some(), "a window is freed once");
            }
            Call::WindowSwitch => {
                let current = self.current.load(Ordering::SeqCst);
                let mut state = self.state();
                let vcpu = state.vcpus.get_mut(&current).expect("a thread's vCPU");
                vcpu.window = a as u32;
            }
            Call::Map => return self.map(a, b),
            Call::Copy => {
                let left = self.copy(a as u32, b, c, d as usize, e == 1);
                if left as u64 == d && d > 0 {
                    return Err(Errno::EFAULT);
                }
                return Ok(d - left as u64);
            }
            Call::Unmap
            | Call::Protect
            | Call::Advise
            | Call::Move
            | Call::SyncMap
            | Call::Resident
            | Call::WindowUsage => return self.memory(call, arguments),
            Call::RegionGrow => return self.grow(a),
            Call::RegionDiscard => {
                let place = self.region(a);
                // SAFETY: the personality gives up memory of the region that it owns.
                unsafe { place.write_bytes(0, b as usize) };
            }
            Call::FileRead | Call::FileWrite if c < cormus_hypercall::layout::WINDOW_SIZE => {
                return self.file(call, arguments);
            }
            Call::Random => {
                // SAFETY: the personality passes a buffer of its own.
                unsafe { (a as *mut u8).write_bytes(0x5a, b as usize) };
                return Ok(b);
            }
            Call::TimerSet => {
                self.state().alarm_ns = a;
                self.ring_if_due();
            }
            Call::RequestTake => return self.take_request(a, b),
            Call::MachineExit => self.ended.store(true, Ordering::SeqCst),
            Call::CpuTime => return Ok(self.clock_ns.load(Ordering::SeqCst) / 2),
            Call::EdgeListen
            | Call::EdgeAccept
            | Call::EdgeClose
            | Call::EdgeShutdown
            | Call::EdgeName => return self.edge(call, arguments),
            Call::Wake
            | Call::Log
            | Call::ClockSync
            | Call::EdgeFlush
            | Call::Barrier
            | Call::Trace => {}
            Call::FileRead | Call::FileWrite => {
                // A frame of the region by its address; what lies elsewhere is the personality's own.
                let is_frame = c.wrapping_sub(REGION_BASE) < HEAP_OFFSET + HEAP_LEN;
                let own = if is_frame { self.region(c) as u64 } else { c };
                return Errno::from_return(host::serve(call, [a, b, own, d, e]));
            }
            _ => return Errno::from_return(host::serve(call, arguments)),
        }
        Ok(0)
    }

    fn grow(&self, len: u64) -> SysResult {
        let mut state = self.state();
        if state.heap_used + len > HEAP_LEN {
            return Err(Errno::ENOMEM);
        }
        state.heap_used += len;
        Ok(HEAP_OFFSET + state.heap_used - len)
    }

    fn take_request(&self, buffer: u64, len: u64) -> SysResult {
        let (request, more) = {
            let mut state = self.state();
            let Some(request) = state.requests.pop() else {
                return Ok(0);
            };
            (request, !state.requests.is_empty())
        };
        let bytes = postcard::to_allocvec(&request).expect("a request in bytes");
        assert!(bytes.len() as u64 <= len);
        // SAFETY: the personality passes a buffer of its own.
        unsafe { core::ptr::copy(bytes.as_ptr(), buffer as *mut u8, bytes.len()) };
        Ok(bytes.len() as u64 | if more { MORE_REQUESTS } else { 0 })
    }

    /// Sets why the monitor enters the personality next.
    pub(super) fn set_upcall(&self, index: u32, upcall: Upcall) {
        let start = self.region + AREAS_OFFSET + u64::from(index) * AREA_SIZE;
        let area = start as *mut VcpuArea;
        // SAFETY: the monitor writes this while the vCPU does not run.
        unsafe { (&raw mut (*area).upcall).write(upcall) };
    }

    /// Reads from the window of a vCPU's program; zeroes where it cannot.
    pub(super) fn peek(&self, index: u32, address: u64, bytes: &mut [u8]) {
        let window = self.state().vcpus.get(&index).map(|vcpu| vcpu.window);
        if let Some(window) = window {
            let (own, len) = (bytes.as_mut_ptr() as u64, bytes.len());
            self.copy(window, address, own, len, false);
        }
    }

    /// Writes to the window of a vCPU's program, as the program would.
    pub(super) fn poke(&self, index: u32, address: u64, bytes: &[u8]) {
        let window = self.state().vcpus.get(&index).map(|vcpu| vcpu.window);
        if let Some(window) = window {
            self.copy(window, address, bytes.as_ptr() as u64, bytes.len(), true);
        }
    }
}

impl Vcpu {
    fn new(window: u32) -> Vcpu {
        Vcpu {
            window,
            regs: Regs::default(),
            started: false,
            busy: false,
        }
    }
}

impl State {
    fn window(&mut self, number: u32) -> &mut Window {
        let window = self.windows.get_mut(&number);
        window.unwrap_or_else(|| panic!("window {number} is not in use"))
    }
}

impl Platform for World {
    fn hypercall(&self, call: Call, arguments: [u64; 5]) -> u64 {
        self.answer(call, arguments)
            .unwrap_or_else(Errno::to_return)
    }

    fn area(&self) -> &'static VcpuArea {
        self.area_of(self.current.load(Ordering::SeqCst))
    }

    fn area_of(&self, index: u32) -> &'static VcpuArea {
        assert!(index < VCPU_COUNT_MAX, "an area that does not exist");
        self.at(AREAS_OFFSET + u64::from(index) * AREA_SIZE)
    }

    fn region(&self, address: u64) -> *mut u8 {
        let offset = address.checked_sub(REGION_BASE).expect("a region address");
        assert!(offset < HEAP_OFFSET + HEAP_LEN, "a region address");
        (self.region + offset) as *mut u8
    }

    fn clock(&self) -> &'static ClockPage {
        self.at(CLOCK_OFFSET)
    }

    fn board(&self) -> &'static EdgeBoard {
        self.at(BOARD_OFFSET)
    }

    fn changes(&self) -> &'static ChangeBoard {
        self.at(CHANGES_OFFSET)
    }

    fn tsc(&self) -> u64 {
        self.clock_ns.fetch_add(TICK_NS, Ordering::SeqCst)
    }

    unsafe fn copy_from_user(&self, dst: *mut u8, src: u64, len: usize) -> usize {
        self.copy(self.current_window(), src, dst as u64, len, false)
    }

    unsafe fn copy_to_user(&self, dst: u64, src: *const u8, len: usize) -> usize {
        self.copy(self.current_window(), dst, src as u64, len, true)
    }

    fn clear_user(&self, dst: u64, len: usize) -> usize {
        self.access(self.current_window(), dst, len, true, |place, part| {
            // SAFETY: `place` has `part` bytes by `access`.
            unsafe { place.write_bytes(0, part) };
        })
    }

    fn load_user_u32(&self, address: u64) -> Option<u32> {
        Some(self.word(address, false)?.load(Ordering::SeqCst))
    }

    fn update_user_u32(&self, address: u64, op: AtomicOp, operand: u32) -> Option<u32> {
        Some(op.apply(self.word(address, true)?, operand))
    }

    fn compare_swap_user_u32(&self, address: u64, expected: u32, new: u32) -> Option<u32> {
        let word = self.word(address, true)?;
        let result = word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
        Some(result.unwrap_or_else(|other| other))
    }

    fn fpu_size(&self) -> usize {
        832
    }

    fn fpu_save(&self, dst: u64) -> bool {
        // The personality's own buffers, or the program's memory.
        if dst >= cormus_hypercall::layout::WINDOW_SIZE {
            return true;
        }
        self.clear_user(dst, self.fpu_size()) == 0
    }

    fn fpu_restore(&self, _src: u64) -> bool {
        true
    }

    fn fpu_reset(&self) {}

    fn fs_base(&self) -> u64 {
        self.fs_base.load(Ordering::SeqCst)
    }

    fn set_fs_base(&self, base: u64) {
        self.fs_base.store(base, Ordering::SeqCst);
    }

    /// The host's heap looks after itself.
    fn trim_heap(&self) {}

    fn vcpu_exit(&self) -> ! {
        resume_unwind(Box::new(Left))
    }
}

/// A structure for the program's memory.
pub(super) fn words<const N: usize>(words: &[u64; N]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| as_bytes(word).to_vec())
        .collect()
}
