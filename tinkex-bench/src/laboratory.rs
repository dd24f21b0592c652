//! Server and contenders as processes of their own, and one run after the other.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::AnyError;
use crate::cell::Cell;
use crate::contender::{Contender, Python};
use crate::pinning::{Party, Pinning};
use crate::reading::Reading;
use crate::server::{Heartbeats, RunPath};

/// A running server, and what is needed to measure against it.
pub(crate) struct Laboratory {
    program: PathBuf,
    pinning: Option<Pinning>,
    python: Option<Python>,
    server: Running,
    url: String,
    runs: u64,
    asking: (tokio::runtime::Runtime, reqwest::Client),
}

impl Laboratory {
    /// Starts the server.
    pub(crate) fn open(pinning: Option<Pinning>, python: Option<Python>) -> Result<Self, AnyError> {
        let program = env::current_exe()?;
        let mut command = clean(Pinning::command(pinning, Party::Server, &program));
        let mut server = Running(command.arg("serve").stdout(Stdio::piped()).spawn()?);
        let stdout = server.0.stdout.take().ok_or("the server has no output")?;
        let mut url = String::new();
        BufReader::new(stdout).read_line(&mut url)?;
        let url = url.trim().to_owned();
        if url.is_empty() {
            return Err("the server did not start".into());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asking = (runtime, reqwest::Client::builder().no_proxy().build()?);
        Ok(Self { program, pinning, python, server, url, runs: 0, asking })
    }

    /// Whether a contender can be measured here.
    pub(crate) fn has(&self, contender: Contender) -> bool {
        contender != Contender::Python || self.python.is_some()
    }

    /// Lets one contender do the cell once.
    pub(crate) fn measure(&mut self, contender: Contender, cell: &Cell) -> Result<Reading, AnyError> {
        self.runs += 1;
        let url = format!("{}{}", self.url, RunPath::new(self.runs, cell));
        let mut command = self.worker(contender)?;
        command.args([url.as_str(), &serde_json::to_string(cell)?]);
        let output = command.stdin(Stdio::null()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            self.check_server()?;
            return Err(format!("{contender} failed ({cell}): {printed}{errors}").into());
        }
        let last = printed.lines().last().unwrap_or_default();
        let mut reading: Reading =
            serde_json::from_str(last).map_err(|e| format!("{contender} said {last:?}: {e}"))?;
        reading.heartbeats = self.heartbeats(&url)?;
        Ok(reading)
    }

    fn worker(&self, contender: Contender) -> Result<Command, AnyError> {
        let pinned = |program: &PathBuf| clean(Pinning::command(self.pinning, Party::Contender, program));
        match (contender, &self.python) {
            (Contender::Python, None) => Err("there is no Python SDK here".into()),
            (Contender::Python, Some(python)) => {
                let [interpreter, script] = python.words();
                let mut command = pinned(&interpreter);
                command.arg(script);
                Ok(command)
            }
            (contender, _) => {
                let mut command = pinned(&self.program);
                command.args(["work", contender.name()]);
                Ok(command)
            }
        }
    }

    fn heartbeats(&self, url: &str) -> Result<Heartbeats, AnyError> {
        let (runtime, client) = &self.asking;
        let request = client.get(format!("{url}/api/v1/bench/heartbeats"));
        let body = runtime.block_on(async { request.send().await?.error_for_status()?.bytes().await })?;
        Ok(serde_json::from_slice(&body)?)
    }

    fn check_server(&mut self) -> Result<(), AnyError> {
        match self.server.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the server ended ({status})").into()),
        }
    }
}

/// Nothing of the user's own account, and no proxy, may come between contender and server.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("TINKER_") || text.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    // The other contenders send no telemetry either.
    command.env("TINKER_TELEMETRY", "0").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A process that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
