//! What the images must be for the monitor, the entry code and the C libraries.

use cormus_hypercall::area::{BLOB_MAGIC, FIXUP_COUNT_MAX};
use cormus_hypercall::layout::{IMAGE_SIZE_MAX, REGION_BASE, VDSO_SIZE_MAX};
use cormus_hypercall::{PORT, VERSION};
use cormus_personality_image::{ELF_PATH, IMAGE, VDSO, symbol};
use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpAccess, OpKind, Register,
};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, elf};

fn word(index: usize) -> u64 {
    let bytes = &IMAGE[index * 8..index * 8 + 8];
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// The instructions from `start` to `end`.
fn decode(start: u64, end: u64) -> impl Iterator<Item = Instruction> {
    let range = (start - REGION_BASE) as usize..(end - REGION_BASE) as usize;
    Decoder::with_ip(64, &IMAGE[range], start, DecoderOptions::NONE).into_iter()
}

#[test]
fn header_names_what_the_monitor_needs() {
    assert!(IMAGE.len() as u64 <= IMAGE_SIZE_MAX);
    assert_eq!(word(0), BLOB_MAGIC);
    assert_eq!(word(1), VERSION);
    let read_only_end = word(2);
    assert_eq!(read_only_end % 4096, 0);
    let names = [
        "syscall_entry",
        "upcall_entry",
        "boot_entry",
        "thread_entry",
        "exit_start",
        "exit_end",
        "hypercall_restart",
        "hypercall_return",
    ];
    for (index, name) in names.into_iter().enumerate() {
        let address = word(3 + index);
        assert!(
            (REGION_BASE..read_only_end).contains(&address),
            "{name} lies in the code"
        );
        if name != "exit_end" {
            assert_eq!(symbol(address), Some((&*format!("cormus_{name}"), 0)));
        }
    }
    let direct_entry = word(12 + 3 * FIXUP_COUNT_MAX);
    assert_eq!(symbol(direct_entry), Some(("cormus_direct_entry", 0)));
    let count = word(11) as usize;
    assert!((1..=FIXUP_COUNT_MAX).contains(&count));
    for fixup in 0..count {
        let [start, end, resume] = [0, 1, 2].map(|field| word(12 + fixup * 3 + field));
        assert!(REGION_BASE < start && start < end && end < read_only_end);
        assert!(
            resume == end || !(start..end).contains(&resume),
            "a fault at the fix-up itself would loop"
        );
    }
}

#[test]
fn way_out_ends_in_iretq_and_writes_nothing_but_flags() {
    let [start, end] = [word(7), word(8)];
    let instructions: Vec<_> = decode(start, end).collect();
    let last = instructions.last().expect("the way out has instructions");
    assert_eq!((last.mnemonic(), last.next_ip()), (Mnemonic::Iretq, end));
    let mut factory = iced_x86::InstructionInfoFactory::new();
    let mut writes = Vec::new();
    for instruction in &instructions {
        let info = factory.info(instruction);
        let memory = info.used_memory().iter();
        if memory.clone().any(|used| used.access() != OpAccess::Read) {
            writes.push(instruction.mnemonic());
        }
    }
    assert_eq!(writes, [Mnemonic::Push], "the way out may be begun again");
}

#[test]
fn hypercall_can_be_made_again() {
    let [restart, end] = [word(9), word(10)];
    let instructions: Vec<_> = decode(restart, end).collect();
    assert_eq!(instructions.len(), 2);
    assert_eq!(instructions[0].mnemonic(), Mnemonic::Nop);
    assert_eq!(instructions[1].mnemonic(), Mnemonic::Out);
    assert_eq!(instructions[1].immediate8(), PORT);
}

/// The blob's instructions.
fn code() -> Vec<Instruction> {
    let bytes = std::fs::read(ELF_PATH).expect("the linked blob is kept");
    let file = ElfFile64::<Endianness>::parse(&*bytes).expect("the linked blob is an ELF file");
    let text = file.section_by_name(".text").expect("the blob has code");
    decode(text.address(), text.address() + text.size()).collect()
}

/// The entry code saves XMM registers by legacy moves and nothing else of the extended state, so the blob may not
/// use anything that changes more: AVX, x87, MMX.
#[test]
fn code_keeps_to_the_registers_that_are_saved() {
    for instruction in code() {
        for feature in instruction.cpuid_features() {
            let forbidden = format!("{feature:?}");
            assert!(
                !forbidden.starts_with("AVX")
                    && !matches!(feature, CpuidFeature::FPU | CpuidFeature::MMX),
                "{:#x} {:?}: {instruction:?} needs {forbidden}",
                instruction.ip(),
                symbol(instruction.ip())
            );
        }
    }
}

/// A vCPU's stack has 56 KiB, and calls nest.
#[test]
fn functions_are_modest_with_the_stack() {
    const FRAME_MAX: u64 = 8 << 10;
    for instruction in code() {
        let grows = instruction.mnemonic() == Mnemonic::Sub
            && instruction.op0_register() == Register::RSP
            && instruction.op1_kind() == OpKind::Immediate32to64;
        assert!(
            !grows || instruction.immediate(1) <= FRAME_MAX,
            "{:?} takes {} bytes of stack at once; box the large value",
            symbol(instruction.ip()),
            instruction.immediate(1)
        );
    }
}

#[test]
fn vdso_is_what_c_libraries_accept() {
    assert!(VDSO.len() as u64 <= VDSO_SIZE_MAX);
    let file = ElfFile64::<Endianness>::parse(VDSO).expect("the vDSO is an ELF file");
    let endian = file.endian();
    assert_eq!(file.elf_header().e_type(endian), elf::ET_DYN);
    for header in file.elf_program_headers() {
        let flags = header.p_flags(endian);
        match header.p_type(endian) {
            elf::PT_LOAD => assert_eq!(flags, elf::PF_R | elf::PF_X),
            elf::PT_DYNAMIC => assert_eq!(flags, elf::PF_R),
            kind => panic!("a program header of type {kind:?}"),
        }
    }
    let exported: Vec<_> = file
        .dynamic_symbols()
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    for name in [
        "__vdso_clock_gettime",
        "__vdso_gettimeofday",
        "__vdso_time",
        "__vdso_clock_getres",
        "__vdso_getcpu",
    ] {
        assert!(exported.contains(&name), "{name} is not exported");
    }
    assert!(
        exported.iter().all(|name| !name.starts_with("cormus")),
        "{exported:?}"
    );
}
