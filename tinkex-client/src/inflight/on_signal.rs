//! A dump of the requests in flight on each SIGUSR1, for a process that seems stuck.
//!
//! A system without that signal never dumps; asking for it there is worth a warning, not a failure.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::panic::catch_unwind;
use std::sync::Arc;

use tinkex_types::InvalidInput;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::DumpTarget;
use crate::holder::Holder;
use crate::owned_task::OwnedTask;

/// Dumps that are asked for, and begin with their service.
pub(crate) struct DumpOnSignal {
    signals: Signal,
    target: DumpTarget,
}

impl DumpOnSignal {
    /// Listens from now on: a signal that comes before the first request must not end the process.
    pub(crate) fn listen(target: DumpTarget) -> Result<Self, InvalidInput> {
        let refused = |why: String| InvalidInput::new("dump_inflight_on_signal", why);
        // A file that cannot be written is found out here, not when the dump is needed.
        if let Err(error) = open(&target) {
            return Err(refused(format!("cannot write to {target:?}: {error}")));
        }
        // tokio panics where its runtime was built without I/O.
        let signals = catch_unwind(|| signal(SignalKind::user_defined1()))
            .map_err(|_| refused("needs a runtime with I/O enabled".to_owned()))?
            .map_err(|error| refused(format!("cannot listen to SIGUSR1: {error}")))?;
        Ok(Self { signals, target })
    }

    /// Dumps until the task is dropped. The task does not keep the holder alive.
    pub(crate) fn begin(self, holder: &Arc<Holder>) -> OwnedTask {
        let Self { mut signals, target } = self;
        let runtime = holder.runtime.clone();
        let holder = Arc::downgrade(holder);
        OwnedTask::spawn(&runtime.clone(), async move {
            while signals.recv().await.is_some() {
                let Some(text) = holder.upgrade().map(|holder| super::dump(&holder)) else { return };
                let target = target.clone();
                // Off the async workers: a file, or a terminal that was stopped, may block.
                let written = runtime.spawn_blocking(move || write(&target, &text)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!("the requests in flight could not be dumped: {error}");
                }
            }
        })
    }
}

fn open(target: &DumpTarget) -> io::Result<Box<dyn Write>> {
    Ok(match target {
        DumpTarget::StandardError => Box::new(io::stderr()),
        DumpTarget::File(path) => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
    })
}

/// Writes the text in one piece, so that what others write there does not end up inside it.
fn write(target: &DumpTarget, text: &str) -> io::Result<()> {
    let mut to = open(target)?;
    to.write_all(text.as_bytes())?;
    to.flush()
}
