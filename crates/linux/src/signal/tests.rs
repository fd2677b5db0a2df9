use super::info::code;
use super::number::{SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTSTP, SIGUSR1, SIGUSR2, bit};
use super::*;
use crate::testing::{call, init, sibling, task, user_memory};
use crate::user;
use cormus_linux_abi::raw::general as abi;

const HANDLER: u64 = 0x4000;

fn set_action(task: &Arc<Task>, signal: u32, handler: u64) {
    let address = user_memory(32);
    user::write(address, &[handler, u64::from(abi::SA_RESTORER), 0x5000, 0]).unwrap();
    call(
        task,
        abi::__NR_rt_sigaction,
        &[u64::from(signal), address, 0, 8],
    )
    .unwrap();
}

fn set_mask(task: &Arc<Task>, how: u32, set: u64) -> SysResult {
    let address = user_memory(8);
    user::write(address, &set).unwrap();
    call(
        task,
        abi::__NR_rt_sigprocmask,
        &[u64::from(how), address, 0, 8],
    )
}

/// Sends `signal` to a process whose handler and mask are given: whether it is pending then, and whether the process ends.
fn check_send(handler: u64, blocked: u64, signal: u32, expect: (bool, bool)) {
    init();
    let task = task();
    if bit(signal) & UNBLOCKABLE == 0 {
        set_action(&task, signal, handler);
    }
    set_mask(&task, abi::SIG_SETMASK, blocked).unwrap();
    send_to_process(&task.process, SigInfo::sent(signal, code::USER, 1, 0)).unwrap();
    let pending = pending(&task) & bit(signal) != 0;
    let ending = task.ending.load(Ordering::SeqCst);
    assert_eq!((pending, ending), expect, "{handler:#x} {signal}");
}

#[test]
fn sending() {
    check_send(HANDLER, 0, SIGUSR1, (true, false));
    check_send(HANDLER, bit(SIGUSR1), SIGUSR1, (true, false));
    check_send(0, 0, SIGUSR1, (true, true));
    check_send(0, bit(SIGUSR1), SIGUSR1, (true, false));
    check_send(1, 0, SIGUSR1, (false, false));
    check_send(1, bit(SIGUSR1), SIGUSR1, (true, false));
    check_send(0, 0, SIGCHLD, (false, false));
    check_send(0, u64::MAX, SIGKILL, (true, true));
    check_send(0, 0, SIGSTOP, (true, false));
}

#[test]
fn stopping_and_continuing_cancel_one_another() {
    init();
    let task = task();
    set_mask(&task, abi::SIG_SETMASK, bit(SIGTSTP) | bit(SIGCONT)).unwrap();
    let send = |signal| send_to_process(&task.process, SigInfo::kernel(signal)).unwrap();
    send(SIGTSTP);
    assert_eq!(pending(&task), bit(SIGTSTP));
    send(SIGCONT);
    assert_eq!(pending(&task), bit(SIGCONT));
    send(SIGTSTP);
    assert_eq!(pending(&task), bit(SIGTSTP));
}

#[test]
fn a_process_signal_goes_to_a_thread_that_takes_it() {
    init();
    let leader = task();
    let other = sibling(&leader);
    set_action(&leader, SIGUSR2, HANDLER);
    set_mask(&leader, abi::SIG_BLOCK, bit(SIGUSR2)).unwrap();
    send_to_process(&leader.process, SigInfo::kernel(SIGUSR2)).unwrap();
    assert!(!leader.interrupted());
    assert!(other.interrupted());
    assert_eq!(
        take(&other, bit(SIGUSR2)).map(|info| info.signal),
        Some(SIGUSR2)
    );
    assert!(!other.interrupted());
}

fn check_error(number: u32, arguments: &[u64], expect: Errno) {
    init();
    let task = task();
    assert_eq!(
        call(&task, number, arguments),
        Err(expect),
        "{number} {arguments:?}"
    );
}

#[test]
fn mistakes() {
    const NOBODY: u64 = 31_999;
    let minus_one = u64::from(u32::MAX);
    check_error(abi::__NR_kill, &[NOBODY, 0], Errno::ESRCH);
    check_error(abi::__NR_kill, &[1, 65], Errno::EINVAL);
    check_error(abi::__NR_tkill, &[0, 1], Errno::EINVAL);
    check_error(abi::__NR_tgkill, &[minus_one, 1, 0], Errno::EINVAL);
    check_error(abi::__NR_rt_sigaction, &[9, 0x1_0000, 0, 4], Errno::EINVAL);
    check_error(abi::__NR_rt_sigaction, &[65, 0, 0, 8], Errno::EINVAL);
    check_error(abi::__NR_rt_sigprocmask, &[0, 0, 0, 7], Errno::EINVAL);
    check_error(abi::__NR_rt_sigprocmask, &[0, 1 << 40, 0, 8], Errno::EFAULT);
    check_error(abi::__NR_rt_sigsuspend, &[0, 4], Errno::EINVAL);
    check_error(abi::__NR_rt_sigpending, &[0, 16], Errno::EINVAL);
    check_error(abi::__NR_restart_syscall, &[], Errno::EINTR);
}

#[test]
fn alternate_stacks() {
    let check = |new: [u64; 3], sp: u64, expect: SysResult<()>| {
        let mut stack = AlternateStack {
            start: 0x1000,
            size: 0x2000,
            autodisarm: false,
        };
        assert_eq!(
            calls::change_stack(&mut stack, sp, new),
            expect,
            "{new:x?} at {sp:#x}"
        );
    };
    check([0x8000, 0, 0x4000], 0x9000, Ok(()));
    check([0x8000, 0, 0x100], 0x9000, Err(Errno::ENOMEM));
    check([0x8000, 2, 0], 0x9000, Ok(()));
    check([0x8000, 5, 0x4000], 0x9000, Err(Errno::EINVAL));
    check([0x8000, 0, 0x4000], 0x2000, Err(Errno::EPERM));
    check([0x8000, 0, 0x4000], 0x3000, Err(Errno::EPERM));
    check([0x8000, 0, 0x4000], 0x1000, Ok(()));
}
