//! The kinds of promises (PROTOCOL 16.2).

use std::fmt;

/// What a promise is for: the value of `X-Tinker-Request-Type` (PROTOCOL 16.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestType {
    /// Creation of a model.
    CreateModel,
    /// A forward pass.
    Forward,
    /// A forward and backward pass.
    ForwardBackward,
    /// An optimizer step.
    OptimStep,
    /// A training checkpoint.
    SaveWeights,
    /// A sampler checkpoint or snapshot.
    SaveWeightsForSampler,
    /// An external export.
    SaveWeightsExternal,
    /// Restoring a checkpoint.
    LoadWeights,
    /// Sampling.
    Sample,
    /// Upload of a custom loss.
    CreateCustomLoss,
    /// Unloading a model.
    UnloadModel,
}

impl RequestType {
    /// The wire text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateModel => "CreateModel",
            Self::Forward => "Forward",
            Self::ForwardBackward => "ForwardBackward",
            Self::OptimStep => "OptimStep",
            Self::SaveWeights => "SaveWeights",
            Self::SaveWeightsForSampler => "SaveWeightsForSampler",
            Self::SaveWeightsExternal => "SaveWeightsExternal",
            Self::LoadWeights => "LoadWeights",
            Self::Sample => "Sample",
            Self::CreateCustomLoss => "CreateCustomLoss",
            Self::UnloadModel => "UnloadModel",
        }
    }

    /// Whether results of this kind are asked for as protobuf (PROTOCOL 5.1).
    pub fn prefers_protobuf(self) -> bool {
        matches!(self, Self::Sample | Self::Forward | Self::ForwardBackward)
    }
}

impl fmt::Display for RequestType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
