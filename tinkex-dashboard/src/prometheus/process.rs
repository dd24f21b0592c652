//! A Prometheus process with data of its own, ended when its handle is dropped.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{Api, Program};
use crate::{Failure, time};

/// How long it may take until it answers queries.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How many lines of its log a failure shows.
const SHOWN_LINES: usize = 20;

/// A running Prometheus.
#[derive(Debug)]
pub struct Server {
    child: Child,
    api: Api,
    /// Its configuration and its data.
    _folder: TempDir,
}

impl Server {
    /// Starts it on a free port, to scrape `target` every `interval` (such as `1s`) as the job `tinkex`, and waits until
    /// it has tried the first time, whether or not anybody listens there. (It takes up to five seconds to heed its targets.)
    ///
    /// # Errors
    ///
    /// Where it does not start and scrape within 20 s each, with the last lines of its log.
    pub fn start(prometheus: &Program, target: SocketAddr, interval: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let configuration = folder.path().join("prometheus.yml");
        fs::write(
            &configuration,
            format!(
                "global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\n\
                 scrape_configs:\n- job_name: tinkex\n  static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )?;
        let mut child = Command::new(prometheus.path())
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, log) = mpsc::channel();
        if let Some(errors) = child.stderr.take() {
            follow(errors, sender);
        }
        // From here on every way out ends the child.
        let mut server = Self { child, api: Api::at("127.0.0.1:0"), _folder: folder };
        server.api = Api::at(&address(&log)?);
        time::wait_for("Prometheus to be ready", START_LIMIT, || server.api.ready())?;
        time::wait_for("Prometheus to scrape", START_LIMIT, || {
            let tried = !server.api.at_time("up", time::now())?.is_empty();
            tried.then_some(()).ok_or_else(|| "there is no `up` so far".into())
        })?;
        Ok(server)
    }

    /// Its queries.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended on its own; then both calls have nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the log to its end, so that the child never blocks on it.
fn follow(log: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            // Nobody listens once the address is known.
            drop(lines.send(line));
        }
    });
}

/// The address that the log names.
fn address(log: &Receiver<String>) -> Result<String, Failure> {
    let mut last = VecDeque::new();
    loop {
        match log.recv_timeout(START_LIMIT) {
            Ok(line) => {
                if let Some((_, found)) = line.split_once("msg=\"Listening on\" address=") {
                    return Ok(found.trim().to_owned());
                }
                last.push_back(line);
                if last.len() > SHOWN_LINES {
                    last.pop_front();
                }
            }
            Err(_) => {
                let last = last.into_iter().collect::<Vec<_>>().join("\n");
                return Err(format!("Prometheus does not say where it listens; its log ends:\n{last}").into());
            }
        }
    }
}
