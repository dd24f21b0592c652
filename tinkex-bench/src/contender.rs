//! The contenders, each a process of its own while it is measured.

mod bare;
mod python;
mod recording;
mod tinkex;
mod wakers;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AnyError;
use crate::cell::Cell;
use crate::driver::drive;
use crate::reading::Reading;

pub(crate) use python::Python;
use recording::Recording;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contender {
    /// This client.
    Tinkex,
    /// This client, with a Prometheus recorder installed.
    Measured,
    /// A loop over `reqwest` that sends and reads the same bytes, and does nothing else.
    Bare,
    /// The official Python SDK.
    Python,
}

impl Contender {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 4] = [Self::Tinkex, Self::Measured, Self::Bare, Self::Python];

    /// Those that are compared with each other.
    pub(crate) const SIDE_BY_SIDE: [Self; 3] = [Self::Tinkex, Self::Bare, Self::Python];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tinkex => "tinkex",
            Self::Measured => "measured",
            Self::Bare => "bare",
            Self::Python => "python",
        }
    }

    /// The contender of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.name() == name)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tinkex => "tinkex",
            Self::Measured => "tinkex, metrics on",
            Self::Bare => "bare reqwest",
            Self::Python => "Python SDK",
        })
    }
}

/// Runs a contender that is written in Rust, in this process, and gives its figures.
pub(crate) fn work(contender: Contender, url: String, cell: Cell) -> Result<Reading, AnyError> {
    // Every connection is an open file.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = crate::runtime()?;
    // A task of its own: what runs on the main thread wakes it from another one, which costs everybody alike.
    let task = runtime.spawn(async move {
        match contender {
            Contender::Tinkex => drive(&tinkex::Tinkex::prepare(&url, cell.http).await?, &cell).await,
            Contender::Measured => {
                let _recording = Recording::begin()?;
                drive(&tinkex::Tinkex::prepare(&url, cell.http).await?, &cell).await
            }
            Contender::Bare => drive(&bare::Bare::prepare(&url, &cell)?, &cell).await,
            Contender::Python => Err("the Python SDK runs in Python".into()),
        }
    });
    runtime.block_on(task)?
}
