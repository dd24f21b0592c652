//! A Prometheus recorder for the whole process, as an application would have it.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::AnyError;

/// Between two scrapes, and so between two times that what was recorded is summed up.
const INTERVAL: Duration = Duration::from_secs(1);

/// Records, and renders at every interval, until it is dropped. Rendering is part of what metrics cost.
pub(super) struct Recording(JoinHandle<()>);

impl Recording {
    /// Installs the recorder.
    pub(super) fn begin() -> Result<Self, AnyError> {
        let metrics = tinkex_observer::prometheus::install()?;
        Ok(Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                std::hint::black_box(metrics.render());
            }
        })))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.abort();
    }
}
