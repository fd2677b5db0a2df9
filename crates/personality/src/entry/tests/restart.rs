//! The way out is stopped before every one of its instructions and begun again, as the monitor does when attention
//! comes late. Single steps take the monitor's place: a handler of SIGTRAP sees each instruction.

use super::*;
use core::sync::atomic::AtomicUsize;

unsafe extern "C" {
    fn cormus_exit_start();
    fn cormus_exit_end();
}

/// The trap flag in rflags.
const TRAP_FLAG: i64 = 0x100;

/// How many instructions of the way out are let pass before it is begun again.
static STOP_AFTER: AtomicUsize = AtomicUsize::new(0);
static PASSED: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_step(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted context, which is the handler's until it returns.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let way_out = cormus_exit_start as *const () as i64..cormus_exit_end as *const () as i64;
    let (rip, flags) = (libc::REG_RIP as usize, libc::REG_EFL as usize);
    // `popfq` has just cleared it; set it for as long as there is something to step through.
    registers[flags] |= TRAP_FLAG;
    if !way_out.contains(&registers[rip]) {
        if PASSED.load(Ordering::Relaxed) != 0 {
            registers[flags] &= !TRAP_FLAG;
        }
        return;
    }
    if PASSED.fetch_add(1, Ordering::Relaxed) == STOP_AFTER.load(Ordering::Relaxed) {
        area().attention.store(1, Ordering::SeqCst);
        registers[rip] = way_out.start;
        registers[flags] &= !TRAP_FLAG;
        STOPPED.store(1, Ordering::Relaxed);
    }
}

/// Makes the calling thread handle its steps on a stack of their own: the way out's stack pointer stands on the frame.
fn handle_steps() {
    let stack = Vec::leak(std::vec![0u8; 64 << 10]);
    let alternate = libc::stack_t {
        ss_sp: stack.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: stack.len(),
    };
    // SAFETY: the stack is leaked, so it outlives the thread.
    let result = unsafe { libc::sigaltstack(&raw const alternate, core::ptr::null_mut()) };
    assert_eq!(result, 0);
    // SAFETY: all zeroes are a valid sigaction.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_step;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler touches its context and atomics only.
    let result =
        unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, core::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Stops before each instruction of one way out, once each; how many there are.
fn check_all(rax: u64) -> usize {
    for after in 0.. {
        STOP_AFTER.store(after, Ordering::Relaxed);
        PASSED.store(0, Ordering::Relaxed);
        STOPPED.store(0, Ordering::Relaxed);
        STEPPING.set(true);
        take_area();
        SEEN.set(Vec::new());
        let mut image = pattern(rax);
        // SAFETY: the image is valid for reads and writes, and the thread has an area.
        unsafe { cormus_test_enter(&mut image) };
        STEPPING.set(false);
        let seen = SEEN.take();
        let regs = seen[0].1;
        let mut expected = pattern(rax);
        expected.general[RAX] = RESULT;
        expected.general[RCX] = if rax == WITH_OTHER_RCX {
            OTHER
        } else {
            regs.rip
        };
        expected.general[R11] = expected.flags;
        assert_eq!(image, expected, "stopped after {after} instructions");
        if STOPPED.load(Ordering::Relaxed) == 0 {
            return after;
        }
        assert_eq!(
            seen.len(),
            2,
            "attention after {after} instructions is seen"
        );
        assert_eq!(
            seen[1],
            (
                "attention",
                Regs {
                    rax: RESULT,
                    rcx: expected.general[RCX],
                    ..regs
                }
            )
        );
    }
    unreachable!("a way out has an end")
}

#[test]
fn the_way_out_can_begin_again_anywhere() {
    handle_steps();
    assert!(check_all(PLAIN) > 40, "by a jump");
    assert!(check_all(WITH_OTHER_RCX) > 40, "by iretq");
}
