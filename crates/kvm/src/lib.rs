//! A thin safe layer over KVM: the only crate that opens its device.
//!
//! [`Kvm`] is the open device, [`Vm`] one virtual machine, [`Vcpu`] one virtual processor that runs
//! code at CPL3 in long mode. Registers cross by the shared run page only, because on a nested host
//! without hardware support ([`Kind::Pvm`]) every ioctl on a vCPU costs 5 µs.

mod cpuid;
mod device;
pub mod interrupt;
mod setup;
mod vcpu;
mod vm;

pub use device::{Kind, Kvm, OpenError};
pub use kvm_bindings::kvm_regs as Registers;
pub use setup::{KERNEL_CS, USER_CS, USER_SS, VcpuSetup};
pub use vcpu::{Exit, Processor, RunError, Vcpu};
pub use vm::{Error, Vm};
