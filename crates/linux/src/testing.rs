//! A platform of host memory, for unit tests: real threads play vCPUs, a stretch of the heap plays the window.
//!
//! [`init`] once in every test; [`task`] gives the calling thread a task. Tests of one process share the machine-wide
//! state, as threads of a machine do.
#![allow(unsafe_code, reason = "plays the machine's memory with host memory")]
#![allow(
    dead_code,
    unused_imports,
    reason = "each family of tests takes what it needs"
)]

pub mod host;
mod thread;

pub(crate) use thread::{call, kernel, sibling, task};

use crate::Errno;
use crate::platform::{AtomicOp, Platform, set_platform};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use cormus_hypercall::area::VcpuArea;
use cormus_hypercall::change::ChangeBoard;
use cormus_hypercall::clock::ClockPage;
use cormus_hypercall::edge::EdgeBoard;
use cormus_hypercall::layout::{HEAP_OFFSET, REGION_BASE};
use cormus_hypercall::map::{MapRequest, kind};
use cormus_hypercall::{Call, WAIT_UNINTERRUPTIBLE};
use std::alloc::{Layout, alloc_zeroed};
use std::boxed::Box;
use std::cell::Cell;
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::vec::Vec;

/// Bytes of the region behind its first chunk.
const REGION_HEAP: u64 = 512 << 20;
/// Bytes of the window. The first page is never mapped.
const WINDOW: u64 = 256 << 20;
/// vCPUs, and so threads of a test process that make calls.
const AREA_COUNT: u32 = 512;

struct TestPlatform {
    region: u64,
    window: u64,
    areas: u64,
    clock: ClockPage,
    board: u64,
    changes: u64,
    start: Instant,
    region_used: AtomicU64,
    window_used: AtomicU64,
    area_used: AtomicU32,
    sleep: Mutex<()>,
    wakes: Condvar,
}

fn zeroes(len: usize) -> u64 {
    let layout = Layout::from_size_align(len, 4096).expect("a layout");
    // SAFETY: the size is not zero.
    unsafe { alloc_zeroed(layout) as u64 }
}

fn instance() -> &'static TestPlatform {
    static INSTANCE: OnceLock<&'static TestPlatform> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let platform: &'static TestPlatform = Box::leak(Box::new(TestPlatform {
            region: zeroes((HEAP_OFFSET + REGION_HEAP) as usize),
            window: zeroes(WINDOW as usize),
            areas: zeroes(size_of::<VcpuArea>() * AREA_COUNT as usize),
            // SAFETY: integers and atomics of zero are valid.
            clock: unsafe { core::mem::zeroed() },
            board: zeroes(size_of::<EdgeBoard>()),
            changes: zeroes(size_of::<ChangeBoard>()),
            start: Instant::now(),
            region_used: AtomicU64::new(0),
            window_used: AtomicU64::new(0x1_0000),
            area_used: AtomicU32::new(0),
            sleep: Mutex::new(()),
            wakes: Condvar::new(),
        }));
        platform.clock.multiplier.store(1, Ordering::Relaxed);
        platform
            .clock
            .base_monotonic_ns
            .store(1_000_000_000, Ordering::Relaxed);
        let dynamic: &'static dyn Platform = platform;
        set_platform(Box::leak(Box::new(dynamic)));
        platform
    })
}

/// Sets the platform up; any number of times.
pub(crate) fn init() {
    instance();
}

/// Where a buffer of a hypercall lies: window addresses are translated, others are the host's own.
fn host_address(address: u64) -> u64 {
    if address < WINDOW {
        instance().window + address
    } else {
        address
    }
}

/// A fresh, zeroed stretch of the window; its user address.
pub(crate) fn user_memory(len: usize) -> u64 {
    let len = (len as u64).next_multiple_of(4096) + 4096;
    let address = instance().window_used.fetch_add(len, Ordering::Relaxed);
    assert!(address + len <= WINDOW, "the test window is full");
    address
}

/// A hypercall about mappings, as a test reads it: what, where, how long, and the protection or the new place.
pub(crate) type MapCall = (&'static str, u64, u64, u64);

std::thread_local! {
    static MAP_CALLS: std::cell::RefCell<Vec<MapCall>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The calls about mappings that the calling thread has made since the last question.
pub(crate) fn take_map_calls() -> Vec<MapCall> {
    MAP_CALLS.with(|calls| core::mem::take(&mut *calls.borrow_mut()))
}

fn record(call: Call, [_, address, len, detail, _]: [u64; 5]) {
    MAP_CALLS.with(|calls| {
        calls.borrow_mut().push((call.name(), address, len, detail));
    });
}

fn record_maps(requests: u64, count: u64) {
    // SAFETY: the personality passes the address and the count of a live slice.
    let requests =
        unsafe { core::slice::from_raw_parts(requests as *const MapRequest, count as usize) };
    for request in requests {
        let name = match request.kind {
            kind::ANONYMOUS => "anonymous",
            kind::FILE => "file",
            kind::REGION => "region",
            kind::COPY => "copy",
            _ => "reserve",
        };
        let detail = u64::from(request.protection);
        MAP_CALLS.with(|calls| {
            calls
                .borrow_mut()
                .push((name, request.address, request.len, detail));
        });
    }
}

impl TestPlatform {
    fn area_index(&self) -> u32 {
        std::thread_local! { static INDEX: Cell<u32> = const { Cell::new(u32::MAX) }; }
        INDEX.with(|index| {
            if index.get() == u32::MAX {
                let fresh = self.area_used.fetch_add(1, Ordering::Relaxed);
                assert!(fresh < AREA_COUNT, "too many test threads");
                let area = self.areas + u64::from(fresh) * size_of::<VcpuArea>() as u64;
                // SAFETY: the area is this thread's alone until its number is known.
                unsafe { (*(area as *mut VcpuArea)).index = fresh };
                index.set(fresh);
            }
            index.get()
        })
    }

    /// Bytes from `address` on that are in the window, `len` at most.
    fn mapped(&self, address: u64, len: usize) -> usize {
        if address < 4096 {
            return 0;
        }
        len.min(WINDOW.saturating_sub(address) as usize)
    }

    fn word(&self, address: u64) -> Option<&AtomicU32> {
        if self.mapped(address, 4) < 4 || !address.is_multiple_of(4) {
            return None;
        }
        // SAFETY: the word lies in the window's memory, which is never freed.
        Some(unsafe { AtomicU32::from_ptr((self.window + address) as *mut u32) })
    }

    fn wait(&self, [word, expected, deadline, flags, _]: [u64; 5]) -> u64 {
        // SAFETY: the personality passes the address of a live word.
        let word = unsafe { AtomicU32::from_ptr(word as *mut u32) };
        let area = self.area();
        let guard = self.sleep.lock().expect("the lock");
        if word.load(Ordering::SeqCst) != expected as u32 {
            return 0;
        }
        if flags & WAIT_UNINTERRUPTIBLE == 0 && area.kicked.load(Ordering::SeqCst) != 0 {
            return Errno::EINTR.to_return();
        }
        if deadline == 0 {
            drop(self.wakes.wait(guard).expect("the lock"));
            return 0;
        }
        let left = deadline.saturating_sub(crate::time::monotonic_ns());
        let (guard, _) = self
            .wakes
            .wait_timeout(guard, Duration::from_nanos(left))
            .expect("the lock");
        drop(guard);
        if crate::time::monotonic_ns() >= deadline {
            return Errno::ETIMEDOUT.to_return();
        }
        0
    }

    fn wake_all(&self) -> u64 {
        let _guard = self.sleep.lock().expect("the lock");
        self.wakes.notify_all();
        0
    }
}

impl Platform for TestPlatform {
    fn hypercall(&self, call: Call, arguments: [u64; 5]) -> u64 {
        match call {
            Call::Wait => self.wait(arguments),
            Call::Wake => self.wake_all(),
            Call::Yield => {
                std::thread::yield_now();
                0
            }
            Call::VcpuKick => {
                let area = self.area_of(arguments[0] as u32);
                area.kicked.store(1, Ordering::SeqCst);
                area.attention.store(1, Ordering::SeqCst);
                self.wake_all()
            }
            Call::RegionGrow => {
                let used = self.region_used.fetch_add(arguments[0], Ordering::Relaxed);
                if used + arguments[0] > REGION_HEAP {
                    return Errno::ENOMEM.to_return();
                }
                HEAP_OFFSET + used
            }
            Call::RegionDiscard => {
                let pointer = self.region(arguments[0]);
                // SAFETY: the personality gives up memory of the region that it owns.
                unsafe { pointer.write_bytes(0, arguments[1] as usize) };
                0
            }
            Call::Log | Call::ClockSync | Call::EdgeFlush => 0,
            Call::WindowNew => {
                // Windows of test processes are told apart by number only.
                static NEXT_WINDOW: AtomicU32 = AtomicU32::new(1);
                u64::from(NEXT_WINDOW.fetch_add(1, Ordering::Relaxed))
            }
            Call::Map => {
                record_maps(arguments[0], arguments[1]);
                arguments[1]
            }
            Call::Unmap | Call::Protect | Call::Move | Call::Advise => {
                record(call, arguments);
                0
            }
            Call::Rewrite => {
                let [site, number, stub, ..] = arguments;
                record(call, [0, site, number, stub, 0]);
                0
            }
            Call::WindowFree => 0,
            Call::Random => {
                let len = arguments[1] as usize;
                // SAFETY: the personality passes a buffer of its own.
                let buffer =
                    unsafe { core::slice::from_raw_parts_mut(arguments[0] as *mut u8, len) };
                let mut source = std::fs::File::open("/dev/urandom").expect("a source");
                std::io::Read::read_exact(&mut source, buffer).expect("random bytes");
                arguments[1]
            }
            _ => host::serve(call, arguments),
        }
    }

    fn area(&self) -> &'static VcpuArea {
        self.area_of(self.area_index())
    }

    fn area_of(&self, index: u32) -> &'static VcpuArea {
        assert!(index < AREA_COUNT, "an area that does not exist");
        let address = self.areas + u64::from(index) * size_of::<VcpuArea>() as u64;
        // SAFETY: the array is never freed, and all that changes after a thread's start is atomic.
        unsafe { &*(address as *const VcpuArea) }
    }

    fn region(&self, address: u64) -> *mut u8 {
        (self.region + (address - REGION_BASE)) as *mut u8
    }

    fn clock(&self) -> &'static ClockPage {
        &instance().clock
    }

    fn board(&self) -> &'static EdgeBoard {
        // SAFETY: zeroed memory of the type's size and alignment, never freed.
        unsafe { &*(self.board as *const EdgeBoard) }
    }

    fn changes(&self) -> &'static ChangeBoard {
        // SAFETY: zeroed memory of the type's size and alignment, never freed.
        unsafe { &*(self.changes as *const ChangeBoard) }
    }

    fn tsc(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    unsafe fn copy_from_user(&self, dst: *mut u8, src: u64, len: usize) -> usize {
        let count = self.mapped(src, len);
        // SAFETY: the range lies in the window's memory, and `dst` is valid by the caller's contract.
        unsafe { core::ptr::copy((self.window + src) as *const u8, dst, count) };
        len - count
    }

    unsafe fn copy_to_user(&self, dst: u64, src: *const u8, len: usize) -> usize {
        let count = self.mapped(dst, len);
        // SAFETY: as in `copy_from_user`.
        unsafe { core::ptr::copy(src, (self.window + dst) as *mut u8, count) };
        len - count
    }

    fn clear_user(&self, dst: u64, len: usize) -> usize {
        let count = self.mapped(dst, len);
        // SAFETY: the range lies in the window's memory.
        unsafe { ((self.window + dst) as *mut u8).write_bytes(0, count) };
        len - count
    }

    fn load_user_u32(&self, address: u64) -> Option<u32> {
        Some(self.word(address)?.load(Ordering::SeqCst))
    }

    fn update_user_u32(&self, address: u64, op: AtomicOp, operand: u32) -> Option<u32> {
        Some(op.apply(self.word(address)?, operand))
    }

    fn compare_swap_user_u32(&self, address: u64, expected: u32, new: u32) -> Option<u32> {
        let word = self.word(address)?;
        Some(
            match word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(old) | Err(old) => old,
            },
        )
    }

    fn fpu_size(&self) -> usize {
        832
    }

    fn fpu_save(&self, _dst: u64) -> bool {
        true
    }

    fn fpu_restore(&self, _src: u64) -> bool {
        true
    }

    fn fpu_reset(&self) {}

    fn fs_base(&self) -> u64 {
        0
    }

    fn set_fs_base(&self, _base: u64) {}

    /// The host's heap looks after itself.
    fn trim_heap(&self) {}

    fn vcpu_exit(&self) -> ! {
        panic!("a test's thread left its vCPU");
    }
}
