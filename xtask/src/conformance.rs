//! `cargo xtask conformance`: the official Python SDK drives our fake server, and its results are checked.
//!
//! The fake server is only worth something while the real client accepts it. This command installs that client in a
//! virtual environment below the build folder, starts the server on a free port and runs
//! `xtask/conformance/conformance.py` against it: sessions, sampling and training. The script also runs our own client's
//! example `training_reference` and compares what both clients train to. The server never outlives the command.

pub(crate) mod program;
pub(crate) mod python;
mod server;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process;
use crate::test::CLIENT_FEATURES;
use crate::workspace::Workspace;

/// The folder of the script and its requirements, below the root.
const FOLDER: &str = "xtask/conformance";
/// The example that trains what the official SDK trains.
const TRAINING_REFERENCE: &[&str] = &[
    "-p",
    "tinkex-client",
    "--example",
    "training_reference",
    "--no-default-features",
    "--features",
    CLIENT_FEATURES,
];
/// The script bounds itself to less than this; the limit here is for a script that cannot.
const LIMIT: Duration = Duration::from_secs(150);

/// Installs the SDK if needed, builds our side, starts the server and runs the script.
///
/// # Errors
///
/// When Python is missing, the SDK cannot be installed, something of ours does not build, the server does not start, or
/// a check fails.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let folder = workspace.root().join(FOLDER);
    let python = python::environment(&workspace.target_dir(), &folder.join("requirements.txt"))?;
    let training_reference = program::build(workspace, TRAINING_REFERENCE)?;
    let server = server::start(workspace)?;
    println!("fake server at {}", server.base_url());

    let mut command = Command::new(python);
    command.arg(folder.join("conformance.py")).arg(server.base_url()).arg(training_reference);
    command.stdin(Stdio::null());
    // Nothing of the user's own account may leak into a run against the fake server.
    for name in [
        "TINKER_API_KEY",
        "TINKER_BASE_URL",
        "TINKER_CREDENTIAL_CMD",
        "TINKER_PROJECT_ID",
        "TINKER_TAGS",
        "TINKER_TELEMETRY",
        "TINKER_LOG",
    ] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    println!("$ {}", process::shown(&command));
    let child = command.spawn().map_err(|e| format!("cannot start Python: {e}"))?;
    let outcome = wait(child, LIMIT);
    if outcome.is_err() {
        println!("{}", server.last_words());
    }
    outcome
}

/// Waits for a child, and ends it when it takes too long.
fn wait(mut child: Child, limit: Duration) -> Result<(), String> {
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|e| format!("cannot wait for the script: {e}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the conformance script failed ({status})")),
            None if start.elapsed() > limit => {
                let ended = child.kill().and_then(|()| child.wait());
                return Err(format!(
                    "the conformance script took more than {} ({ended:?})",
                    process::seconds(limit)
                ));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
