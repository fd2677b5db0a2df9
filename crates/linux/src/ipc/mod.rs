//! Objects through which threads and processes meet: futexes, pipes, event descriptors, readiness.
//!
//! Every object is plain memory with a [`crate::sync::WaitQueue`] (futexes have queues of their own, keyed by address);
//! each family of calls lies beside its object.

pub mod deadline;
pub mod futex;
