//! The result of a promise and its wire forms.

use std::sync::Arc;

use serde_json::Value;

use super::training::output::LossOutput;
use super::work::SampleWork;
use super::{Dialect, ResultEncoding, encode};
use crate::Reply;

/// A result, or what is needed to compute it at any time. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Product {
    Sample(Arc<SampleWork>),
    Loss(Arc<LossOutput>),
    /// A result that is JSON on every server.
    Plain(Arc<Value>),
}

impl Product {
    pub(crate) fn plain(value: Value) -> Self {
        Self::Plain(Arc::new(value))
    }

    /// What `complete_metadata` announces: the bytes of the protobuf form where there is one. A sample is computed
    /// here at the first need, so nothing may be locked.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Sample(work) => work.result().protobuf.len(),
            Self::Loss(output) => output.protobuf().len(),
            Self::Plain(value) => value.to_string().len(),
        }
    }

    /// Bytes it takes while it is kept, as far as they matter: samples are small.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Loss(output) => output.held_bytes(),
            Self::Sample(_) | Self::Plain(_) => 0,
        }
    }

    /// The answer that carries it, to a client that does or does not accept protobuf.
    pub(crate) fn reply(&self, dialect: &Dialect, accepts_protobuf: bool) -> Reply {
        let as_protobuf = match dialect.result_encoding {
            ResultEncoding::FollowsAccept => accepts_protobuf,
            ResultEncoding::Protobuf => true,
            ResultEncoding::Json => false,
        };
        match self {
            Self::Sample(work) if as_protobuf => Reply::proto(work.result().protobuf.clone()),
            Self::Sample(work) => Reply::json(200, &encode::json(work, work.result())),
            Self::Loss(output) if as_protobuf => Reply::proto(output.protobuf().clone()),
            Self::Loss(output) => Reply::json(200, &output.to_json()),
            Self::Plain(value) => Reply::json(200, value),
        }
    }
}
