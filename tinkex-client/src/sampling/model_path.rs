//! Where the saved weights are that a sampling client is made of.

use tinkex_types::{InvalidInput, TinkerPath};

use crate::SamplerCheckpoint;

/// The weights that a sampling client reads: a [`SamplerCheckpoint`], or a path such as
/// `tinker://RUN/sampler_weights/NAME`. A [`Checkpoint`](crate::Checkpoint) is none, since samplers cannot read it:
///
/// ```compile_fail,E0277
/// # fn example(service: tinkex_client::ServiceClient, checkpoint: tinkex_client::Checkpoint) {
/// let builder = service.sampling_client().model_path(checkpoint);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPath {
    text: String,
    /// A server's own words are not judged.
    from_server: bool,
}

impl ModelPath {
    /// Text must be a `tinker://` path (PROTOCOL 15.1).
    pub(super) fn check(&self) -> Result<(), InvalidInput> {
        match self.from_server && !self.text.trim().is_empty() {
            true => Ok(()),
            false => self.text.parse::<TinkerPath>().map(drop),
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl From<String> for ModelPath {
    fn from(text: String) -> Self {
        Self { text, from_server: false }
    }
}

impl From<&str> for ModelPath {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for ModelPath {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&TinkerPath> for ModelPath {
    fn from(path: &TinkerPath) -> Self {
        path.as_str().into()
    }
}

impl From<TinkerPath> for ModelPath {
    fn from(path: TinkerPath) -> Self {
        Self::from(&path)
    }
}

impl From<SamplerCheckpoint> for ModelPath {
    fn from(checkpoint: SamplerCheckpoint) -> Self {
        Self { text: checkpoint.path, from_server: true }
    }
}

impl From<&SamplerCheckpoint> for ModelPath {
    fn from(checkpoint: &SamplerCheckpoint) -> Self {
        checkpoint.clone().into()
    }
}
