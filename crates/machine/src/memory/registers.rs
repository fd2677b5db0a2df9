//! Registers of a guest thread, as its program had them.
//!
//! A vCPU that ran the program has them. One that was in the personality has them in the frame at the top of its stack, whose
//! place and form `cormus_hypercall::area` gives, but for vector registers beyond XMM15, which the personality never touches. In
//! between lie the few instructions that build the frame (`entry.s` of crate `personality`).

use crate::blob::{Blob, Place};
use cormus_hypercall::area::{BlobHeader, NOT_A_SYSCALL, Regs, USER_CS, USER_SS, VcpuArea};
use cormus_hypercall::layout::{AREA_SIZE, REGION_BASE, area_address};
use cormus_kvm::Processor;
use std::mem::offset_of;

/// Bytes of XMM0 to XMM15 and of the word that aligns them, below the frame.
const XMM_LEN: usize = 256;
const BELOW_FRAME: u64 = XMM_LEN as u64 + 8;
const FRAME_LEN: u64 = size_of::<Regs>() as u64;
/// `struct user_regs_struct`: those of the frame, bases of fs and gs, selectors ds, es, fs, gs.
pub(super) const GENERAL_COUNT: usize = 27;
const FRAME_COUNT: usize = size_of::<Regs>() / 8;
/// Bytes of `struct user_fpregs_struct`, which XSAVE's first part is.
pub(super) const VECTOR_LEN: usize = 512;
/// Where XMM0 stands in it.
const XMM_OFFSET: usize = 160;

/// The registers of one thread in the forms of `<sys/user.h>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ThreadRegisters {
    /// `struct user_regs_struct`.
    pub(super) general: [u64; GENERAL_COUNT],
    /// `struct user_fpregs_struct`.
    pub(super) vector: [u8; VECTOR_LEN],
}

/// What a vCPU's area holds of its program's registers; of interest while the vCPU is in the personality.
#[derive(Clone, Debug)]
pub(super) struct AreaTop {
    /// End of the stack, by its place.
    stack_top: u64,
    entry_rsp: u64,
    entry_rcx: u64,
    frame: [u64; FRAME_COUNT],
    xmm: [u8; XMM_LEN],
    /// The return address of the function that the entry calls.
    returns_to: u64,
}

impl AreaTop {
    /// Reads it with a function that is given an offset in the area.
    pub(super) fn read<E>(
        index: u32,
        read: impl Fn(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<AreaTop, E> {
        let word = |offset: u64| {
            let mut bytes = [0; 8];
            read(offset, &mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        let bottom = AREA_SIZE - FRAME_LEN - BELOW_FRAME;
        let mut frame = [0; FRAME_COUNT];
        for (register, place) in frame.iter_mut().zip((AREA_SIZE - FRAME_LEN..).step_by(8)) {
            *register = word(place)?;
        }
        let mut xmm = [0; XMM_LEN];
        read(bottom, &mut xmm)?;
        Ok(AreaTop {
            stack_top: area_address(index) + AREA_SIZE,
            entry_rsp: word(offset_of!(VcpuArea, entry_rsp) as u64)?,
            entry_rcx: word(offset_of!(VcpuArea, entry_rcx) as u64)?,
            frame,
            xmm,
            returns_to: word(bottom - 8)?,
        })
    }

    fn bottom(&self) -> u64 {
        self.stack_top - FRAME_LEN - BELOW_FRAME
    }
}

impl ThreadRegisters {
    pub(super) fn new(processor: &Processor, blob: &Blob, top: &AreaTop) -> Self {
        let header = blob.header();
        let standing = of_processor(processor);
        let rip = processor.registers().rip;
        let in_personality = blob.place(rip) != Place::Program;
        let entering = (header.syscall_entry..header.upcall_entry).contains(&rip)
            && processor.registers().rsp != top.bottom();
        let frame = match (in_personality, entering) {
            (false, _) => standing,
            (true, true) => before_frame(processor, standing, header, top),
            (true, false) => top.frame,
        };
        let mut general = [0; GENERAL_COUNT];
        general[..FRAME_COUNT].copy_from_slice(&frame);
        general[FRAME_COUNT] = processor.fs_base();
        let mut vector = [0; VECTOR_LEN];
        let words = processor
            .extended()
            .iter()
            .flat_map(|word| word.to_le_bytes());
        for (to, from) in vector.iter_mut().zip(words) {
            *to = from;
        }
        // The entry saves them before it calls anything.
        let before_call =
            (header.syscall_entry..header.thread_entry).contains(&rip) && rip != top.returns_to;
        if in_personality && !before_call {
            vector[XMM_OFFSET..XMM_OFFSET + XMM_LEN].copy_from_slice(&top.xmm);
        }
        ThreadRegisters { general, vector }
    }
}

/// A processor that runs a program.
fn of_processor(processor: &Processor) -> [u64; FRAME_COUNT] {
    let r = processor.registers();
    [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        NOT_A_SYSCALL,
        r.rip,
        USER_CS,
        r.rflags,
        r.rsp,
        USER_SS,
    ]
}

/// Places of a frame's registers.
const R11: usize = 6;
const RAX: usize = 10;
const RCX: usize = 11;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const RFLAGS: usize = 18;
const RSP: usize = 19;

/// A system call whose frame is being built: of the program's registers, `rcx`, `r11` and `rsp` are used for it.
fn before_frame(
    processor: &Processor,
    mut frame: [u64; FRAME_COUNT],
    header: &BlobHeader,
    top: &AreaTop,
) -> [u64; FRAME_COUNT] {
    let rip = processor.registers().rip;
    // A rewritten call keeps the address in rcx, and its flags are the program's.
    let rewritten = rip >= header.direct_entry;
    let in_rcx = rip == header.syscall_entry || rewritten;
    let return_address = if in_rcx { frame[RCX] } else { top.entry_rcx };
    (frame[RIP], frame[RCX]) = (return_address, return_address);
    frame[ORIG_RAX] = frame[RAX];
    frame[RFLAGS] = if rewritten {
        processor.registers().rflags
    } else {
        frame[R11]
    };
    if frame[RSP] >= REGION_BASE {
        frame[RSP] = top.entry_rsp;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIP_OF_PROGRAM: u64 = 0x40_1000;
    const STACK_OF_PROGRAM: u64 = 0x1f_0000;
    const XMM: u8 = 0xaa;

    /// A processor whose registers hold the program's, but for these.
    fn processor(rip: u64, rsp: u64, rcx: u64) -> Processor {
        // As `Processor` has them.
        let mut general = [7_u64; 18];
        (general[0], general[2], general[6]) = (39, rcx, rsp);
        (general[11], general[16], general[17]) = (0x246, rip, 0x202);
        let extended = vec![u32::from_le_bytes([XMM; 4]); 1024];
        let bytes = postcard::to_allocvec(&(general, 0x1234_u64, extended)).unwrap();
        postcard::from_bytes(&bytes).unwrap()
    }

    /// An area with the program's registers in its frame, all of them 9 but for these.
    fn top() -> AreaTop {
        let mut frame = [9; FRAME_COUNT];
        (frame[RIP], frame[RSP], frame[ORIG_RAX]) = (RIP_OF_PROGRAM, STACK_OF_PROGRAM, 39);
        AreaTop {
            stack_top: area_address(3) + AREA_SIZE,
            entry_rsp: STACK_OF_PROGRAM,
            entry_rcx: RIP_OF_PROGRAM,
            frame,
            xmm: [0xbb; XMM_LEN],
            returns_to: 0,
        }
    }

    /// Wherever it stood, the program is where it was; `callee` is what its other registers are, `xmm` what XMM0 holds.
    fn check(processor: &Processor, top: &AreaTop, callee: u64, xmm: u8) {
        let found = ThreadRegisters::new(processor, &Blob::built_in(), top);
        let rip = processor.registers().rip;
        let place = [found.general[RIP], found.general[RSP]];
        assert_eq!(place, [RIP_OF_PROGRAM, STACK_OF_PROGRAM], "{rip:#x}");
        assert_eq!(found.general[0], callee, "{rip:#x}");
        assert_eq!(found.general[FRAME_COUNT], 0x1234);
        assert_eq!(found.vector[XMM_OFFSET], xmm, "{rip:#x}");
    }

    #[test]
    fn a_program_is_where_it_was() {
        let blob = Blob::built_in();
        let header = blob.header();
        let (mut top, rcx) = (top(), RIP_OF_PROGRAM);
        let (outside, inside, bottom) = (STACK_OF_PROGRAM, top.stack_top - 16, top.bottom());
        check(&processor(RIP_OF_PROGRAM, outside, 0), &top, 7, XMM);
        // The entry's first instruction, then before and after it has changed stacks.
        check(&processor(header.syscall_entry, outside, rcx), &top, 7, XMM);
        check(
            &processor(header.syscall_entry + 9, outside, 0),
            &top,
            7,
            XMM,
        );
        check(
            &processor(header.syscall_entry + 30, inside, 0),
            &top,
            7,
            XMM,
        );
        check(
            &processor(header.direct_entry + 3, outside, rcx),
            &top,
            7,
            XMM,
        );
        // The frame is there, XMM registers are being saved; then the handler has come back.
        let saving = header.syscall_entry + 100;
        check(&processor(saving, bottom, 0), &top, 9, XMM);
        top.returns_to = saving;
        check(&processor(saving, bottom, 0), &top, 9, 0xbb);
        // A call is being answered, and the way out.
        check(
            &processor(header.hypercall_return, bottom - 100, 0),
            &top,
            9,
            0xbb,
        );
        check(&processor(header.exit_start, inside, 0), &top, 9, 0xbb);
        check(&processor(header.exit_end - 1, outside, 0), &top, 9, 0xbb);
    }

    #[test]
    fn a_system_call_shows_its_number() {
        let blob = Blob::built_in();
        let entering = processor(
            blob.header().syscall_entry,
            STACK_OF_PROGRAM,
            RIP_OF_PROGRAM,
        );
        let found = ThreadRegisters::new(&entering, &blob, &top());
        assert_eq!(
            (found.general[ORIG_RAX], found.general[RFLAGS]),
            (39, 0x246)
        );
    }

    /// A state from elsewhere may have vector registers of any size.
    #[test]
    fn short_vector_state() {
        let bytes = postcard::to_allocvec(&([0_u64; 18], 0_u64, vec![1_u32])).unwrap();
        let processor: Processor = postcard::from_bytes(&bytes).unwrap();
        let found = ThreadRegisters::new(&processor, &Blob::built_in(), &top());
        assert_eq!(found.vector[..5], [1, 0, 0, 0, 0]);
    }
}
