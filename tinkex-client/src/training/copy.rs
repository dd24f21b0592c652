//! Copying a checkpoint into another project (PROTOCOL 14, REST C9).

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use tinkex_types::{CopyWeightsRequest, InvalidInput, TinkerPath};

use super::save::{Checkpoint, SamplerCheckpoint};

/// A copy to be made. A checkpoint or a path is the source and nothing else.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it is made by ServiceClient::copy_weights"]
pub struct CopyWeights {
    source: String,
    project: Option<String>,
    ttl: Option<Duration>,
    access_token: Option<String>,
}

impl CopyWeights {
    /// A copy of a checkpoint, which lives for ever.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), project: None, ttl: None, access_token: None }
    }

    /// Sets the project that gets the copy. Default: the service client's.
    pub fn destination_project(mut self, project_id: impl Into<String>) -> Self {
        self.project = Some(project_id.into());
        self
    }

    /// Sets how long the copy lives: an hour to ten years, in whole seconds. Default for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the permission to read weights of somebody else. It travels in a header and is never printed.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }

    /// The request, to the given project where none is named, and the token.
    pub(crate) fn request(
        self,
        own_project: Option<&str>,
    ) -> Result<(CopyWeightsRequest, Option<HeaderValue>), InvalidInput> {
        let mut request = CopyWeightsRequest::new(self.source);
        request.destination_project_id = self.project.or_else(|| own_project.map(str::to_owned));
        request.ttl_seconds = self.ttl.map(|ttl| ttl.as_secs());
        request.validate()?;
        if request.destination_project_id.is_none() {
            let problem = "is missing: name one here, or as the service client's project";
            return Err(InvalidInput::new("destination project", problem));
        }
        let token = self.access_token.map(|token| {
            let token = HeaderValue::try_from(token);
            token.map_err(|_| InvalidInput::new("weights_access_token", "cannot be sent in a header"))
        });
        let mut token = token.transpose()?;
        if let Some(token) = &mut token {
            token.set_sensitive(true);
        }
        Ok((request, token))
    }
}

impl From<&Checkpoint> for CopyWeights {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self::new(checkpoint.path.as_str())
    }
}

impl From<&SamplerCheckpoint> for CopyWeights {
    fn from(checkpoint: &SamplerCheckpoint) -> Self {
        Self::new(checkpoint.path.as_str())
    }
}

impl From<Checkpoint> for CopyWeights {
    fn from(checkpoint: Checkpoint) -> Self {
        Self::new(checkpoint.path)
    }
}

impl From<SamplerCheckpoint> for CopyWeights {
    fn from(checkpoint: SamplerCheckpoint) -> Self {
        Self::new(checkpoint.path)
    }
}

impl From<&TinkerPath> for CopyWeights {
    fn from(source: &TinkerPath) -> Self {
        Self::new(source.as_str())
    }
}

impl From<TinkerPath> for CopyWeights {
    fn from(source: TinkerPath) -> Self {
        Self::from(&source)
    }
}

impl From<&String> for CopyWeights {
    fn from(source: &String) -> Self {
        Self::new(source)
    }
}

impl From<&str> for CopyWeights {
    fn from(source: &str) -> Self {
        Self::new(source)
    }
}

impl From<String> for CopyWeights {
    fn from(source: String) -> Self {
        Self::new(source)
    }
}

/// Leaves the token out.
impl fmt::Debug for CopyWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyWeights")
            .field("source", &self.source)
            .field("project", &self.project)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
