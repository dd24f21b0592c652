//! The fake server as a child process, ended when its handle is dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::program;
use crate::workspace::Workspace;

/// How long the server may take to print its address.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How many lines of its output are kept for a failure report.
const KEPT_LINES: usize = 40;

/// A running fake server.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    base_url: String,
    kept: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Where it listens, for example `http://127.0.0.1:41234`.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The last lines it printed.
    pub(super) fn last_words(&self) -> String {
        let kept =
            self.kept.lock().map(|lines| lines.iter().cloned().collect::<Vec<_>>()).unwrap_or_default();
        if kept.is_empty() {
            return "the fake server printed nothing more".to_owned();
        }
        format!("last lines of the fake server:\n{}", kept.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended on its own; then both calls have nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Builds the server, starts it on a free port with the control routes, and waits for its address.
///
/// # Errors
///
/// When it does not build, does not start, or prints no address in time.
pub(super) fn start(workspace: &Workspace) -> Result<Server, String> {
    let executable = program::build(workspace, &["-p", "tinkex-testkit", "--bin", "tinkex-testkit"])?;
    let mut child = Command::new(&executable)
        .args(["serve", "--port", "0", "--control"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {executable}: {e}"))?;
    let kept = Arc::new(Mutex::new(VecDeque::new()));
    let (sender, receiver) = mpsc::channel();
    if let Some(errors) = child.stderr.take() {
        follow(errors, None, Arc::clone(&kept));
    }
    if let Some(output) = child.stdout.take() {
        follow(output, Some(sender), Arc::clone(&kept));
    }
    // From here on every way out ends the child.
    let mut server = Server { child, base_url: String::new(), kept };
    let first = receiver
        .recv_timeout(START_LIMIT)
        .map_err(|_| format!("{executable} printed no address\n{}", server.last_words()))?;
    server.base_url =
        address(&first).ok_or_else(|| format!("{executable} printed '{first}' instead of an address"))?;
    Ok(server)
}

/// Reads a pipe to its end, so that the child never blocks on it; sends the first line, keeps the last ones.
fn follow(
    pipe: impl Read + Send + 'static,
    mut first: Option<Sender<String>>,
    kept: Arc<Mutex<VecDeque<String>>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(sender) = first.take() {
                // The receiver is gone only if the start was given up.
                drop(sender.send(line));
                continue;
            }
            if let Ok(mut kept) = kept.lock() {
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        }
    });
}

/// The first URL in a line, without a slash at its end.
fn address(line: &str) -> Option<String> {
    let url = line.split_whitespace().find(|word| word.starts_with("http://"))?;
    Some(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_first_line() {
        assert_eq!(address("http://127.0.0.1:4000"), Some("http://127.0.0.1:4000".to_owned()));
        assert_eq!(
            address("listening on http://127.0.0.1:4000/ now"),
            Some("http://127.0.0.1:4000".to_owned())
        );
        assert_eq!(address("listening"), None);
    }
}
