//! The client from outside, over the testkit's in-memory server in virtual time.

mod harness;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod workflow;
