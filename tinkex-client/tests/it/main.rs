//! The client from outside, over the testkit's in-memory server in virtual time.

mod harness;
mod workflow;
