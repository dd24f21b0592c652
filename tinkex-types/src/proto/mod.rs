//! The protobuf messages of PROTOCOL 18, generated from `proto/tinker_public.proto` by `cargo xtask proto`.

#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    include!("generated/tinker_public.rs");
}

pub use generated::*;
