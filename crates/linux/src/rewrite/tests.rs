use super::*;
use crate::testing::{self, MapCall, take_map_calls, user_memory};
use alloc::sync::Arc;
use cormus_linux_abi::PAGE_SIZE;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// As the test kernel is configured.
const TRAP_COUNT: u32 = 64;

const READ_EXEC: u64 = 5;
const READ_WRITE_EXEC: u64 = 7;
const PRIVATE: u64 = 0x22;
const SHARED: u64 = 0x21;
const FIXED: u64 = 0x10;

/// Lets one test at a time count traps, from none on: places share slots, and one is rewritten at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for slot in &PLACES {
        slot.store(0, Ordering::Relaxed);
    }
    turn
}

/// A program with a page of code; the pages below it are free.
struct Program {
    task: Arc<Task>,
    code: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Program {
    fn new(protection: u64, flags: u64) -> Program {
        let turn = turn();
        testing::init();
        let task = testing::task();
        let code = user_memory(3 * PAGE_SIZE as usize) + 2 * PAGE_SIZE;
        let arguments = [code, PAGE_SIZE, protection, flags | FIXED, u64::MAX, 0];
        testing::call(&task, nr::__NR_mmap, &arguments).unwrap();
        take_map_calls();
        Program {
            task,
            code,
            _turn: turn,
        }
    }

    /// Traps `count` times at `offset` of the code; the calls that it leads to.
    fn trap(&self, offset: u64, number: u32, count: u32) -> Vec<MapCall> {
        for _ in 0..count {
            consider(&self.task, number.into(), self.code + offset + SYSCALL_LEN);
        }
        take_map_calls()
    }

    /// Traps at `offset` until that leads to calls. A place whose slot is another's waits until that is forgotten.
    fn rewrite(&self, offset: u64) -> Vec<MapCall> {
        let mut calls = (0..2 * TRAP_COUNT).map(|_| self.trap(offset, 39, 1));
        calls.find(|calls| !calls.is_empty()).unwrap()
    }
}

#[test]
fn a_place_that_traps_often_is_rewritten_once() {
    let program = Program::new(READ_EXEC, PRIVATE);
    let page = program.code - PAGE_SIZE;
    assert_eq!(program.trap(0x10, 39, TRAP_COUNT - 1), []);
    let first = ("Rewrite", program.code + 0x10, 39, page);
    let map = ("anonymous", page, PAGE_SIZE, 5);
    assert_eq!(program.trap(0x10, 39, 1), [map, first]);
    assert_eq!(program.trap(0x10, 39, 10 * TRAP_COUNT), []);
    let second = ("Rewrite", program.code + 0x20, 1, page + STUB_SIZE);
    assert_eq!(program.trap(0x20, 1, TRAP_COUNT), [second]);
    assert_eq!(program.trap(0x30, nr::__NR_rt_sigreturn, TRAP_COUNT), []);
}

#[test]
fn pages_for_stubs_are_mapped_as_they_are_needed() {
    let program = Program::new(READ_EXEC, PRIVATE);
    let page = program.code - PAGE_SIZE;
    let fitting = PAGE_SIZE / STUB_SIZE;
    let mut calls = Vec::new();
    for place in 0..=fitting {
        calls.extend(program.rewrite(2 * place));
    }
    let maps: Vec<u64> = calls
        .iter()
        .filter(|call| call.0 == "anonymous")
        .map(|call| call.1)
        .collect();
    assert_eq!(maps, [page, page - PAGE_SIZE]);
    assert_eq!(calls.last().unwrap().3, page - PAGE_SIZE);
    // A page that the program took away, and uses for something else, is not written to.
    let arguments = [page - PAGE_SIZE, PAGE_SIZE, 3, PRIVATE | FIXED, u64::MAX, 0];
    testing::call(&program.task, nr::__NR_mmap, &arguments).unwrap();
    take_map_calls();
    let calls = program.rewrite(0x400);
    assert_eq!(calls[0].0, "anonymous");
    assert!(
        calls
            .iter()
            .all(|call| call.3 / PAGE_SIZE != page / PAGE_SIZE - 1)
    );
}

#[test]
fn code_that_is_not_the_programs_alone_is_left() {
    for (protection, flags) in [
        (READ_EXEC, SHARED),
        (READ_WRITE_EXEC, PRIVATE),
        (1, PRIVATE),
    ] {
        let program = Program::new(protection, flags);
        assert_eq!(
            program.trap(0, 39, TRAP_COUNT),
            [],
            "{protection} {flags:#x}"
        );
    }
}

#[test]
fn two_places_of_one_slot_both_get_their_turn() {
    let _turn = turn();
    let key = |place: u64| place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let first = place(90_000, 0x1000);
    let second = (1..)
        .map(|page| place(90_000, 0x1000 + page * 2))
        .find(|&other| key(other) as usize % PLACE_COUNT == key(first) as usize % PLACE_COUNT)
        .unwrap();
    let due = |place| {
        (0..TRAP_COUNT)
            .filter(|_| is_due(place, TRAP_COUNT))
            .count()
    };
    assert_eq!((due(first), due(second)), (1, 0));
    assert_eq!(due(second), 1);
}

#[test]
fn who_is_on_the_way_is_put_before_the_call() {
    let program = Program::new(READ_EXEC, PRIVATE);
    let site = program.code + 0x10;
    let padding = program.code + 0x40;
    let Some(&("Rewrite", _, _, stub)) = program.trap(0x10, 39, TRAP_COUNT).last() else {
        panic!("not rewritten");
    };
    let mut written = [0; STUB_SIZE as usize];
    written[RETURN_ADDRESS..RETURN_ADDRESS + 8]
        .copy_from_slice(&(site + SYSCALL_LEN).to_le_bytes());
    written[BACK] = 2;
    user::write(stub, &written).unwrap();
    let distance = (stub as i64 - padding as i64 - LOAD_LEN as i64) as i32;
    user::write(padding, &JUMP_NEAR).unwrap();
    user::write_bytes(padding + 1, &distance.to_le_bytes()).unwrap();
    let check = |rip: u64, rflags: u64, expect: u64| {
        let mut regs = Regs {
            rip,
            rflags,
            ..Regs::default()
        };
        step_back(&program.task, &mut regs);
        assert_eq!(regs.rip, expect, "{rip:#x}");
    };
    for rip in [stub, stub + 10, stub + 25, padding] {
        check(rip, 0, site);
        check(rip, TRAP_FLAG, rip);
    }
    for rip in [
        site,
        site + 2,
        program.code + 0x50,
        stub + 2 * PAGE_SIZE,
        0,
        u64::MAX,
    ] {
        check(rip, 0, rip);
    }
}

#[test]
fn only_what_is_being_rewritten_is_tried_again() {
    let program = Program::new(READ_EXEC, PRIVATE);
    let site = program.code + 0x10;
    let check = |rip, expect| assert_eq!(met(&program.task, rip), expect, "{rip:#x}");
    user::write(site, &0x06_u8).unwrap();
    check(site, false);
    user::write(site, &JUMP_SHORT).unwrap();
    check(site, true);
    check(0, false);
}
