//! The contract, as a recorder, a reader of the documentation and an allocator see it.

mod contract;
mod documentation;
mod instruments;
