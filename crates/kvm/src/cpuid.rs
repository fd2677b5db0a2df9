//! What KVM is told of the processor.
//!
//! Hardware KVM answers the guest's `cpuid` from this table, so it gets all that KVM supports. Under PVM the instruction answers
//! the guest itself, and KVM only wants to know which control registers, MSRs and vector registers a vCPU may have. Asking for
//! all would cost a `cpuid` per leaf, and each is an exit to the hypervisor below: 0.35 ms of a machine's start.

use crate::device::{Kind, Kvm};
use crate::vm::Error;
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use std::arch::x86_64::__cpuid_count;

/// Says `Y` where PVM makes the guest's `cpuid` fault and answers it from the table, on processors that can.
const INTERCEPTED: &str = "/sys/module/kvm_pvm/parameters/enable_cpuid_intercept";

/// What PVM looks at, with its subleaf: vendor, features, structured features, vector state, long mode, address width.
const NEEDED: [(u32, Option<u32>); 7] = [
    (0, None),
    (1, None),
    (7, Some(0)),
    (0xd, Some(0)),
    (0x8000_0000, None),
    (0x8000_0001, None),
    (0x8000_0008, None),
];

/// Leaf 1, ECX: the kernel has enabled XSAVE, and `xgetbv` is there.
const OSXSAVE: u32 = 1 << 27;

/// The table for this host's vCPUs.
pub(crate) fn table(kvm: &kvm_ioctls::Kvm) -> Result<CpuId, Error> {
    let intercepted = || std::fs::read(INTERCEPTED).is_ok_and(|text| text.first() == Some(&b'Y'));
    if Kvm::kind() == Kind::Pvm && !intercepted() {
        let entries = NEEDED.map(entry);
        // The list is far below its limit.
        if let Ok(table) = CpuId::from_entries(&entries) {
            return Ok(table);
        }
    }
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| Error::new("read the supported CPUID", error))
}

fn entry((function, index): (u32, Option<u32>)) -> kvm_cpuid_entry2 {
    let answer = __cpuid_count(function, index.unwrap_or(0));
    kvm_cpuid_entry2 {
        function,
        index: index.unwrap_or(0),
        flags: index.map_or(0, |_| KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
        ..Default::default()
    }
}

/// The vector state that the host's kernel has enabled.
#[allow(
    unsafe_code,
    reason = "one instruction without a wrapper for this register"
)]
pub(crate) fn host_xcr0() -> u64 {
    // Not the standard library's detection, which asks for ten leaves more.
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return 1;
    }
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: the caller checked the feature, and register 0 exists wherever the instruction does.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    // SAFETY: the feature is present.
    unsafe { read() }
}
