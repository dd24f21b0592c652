//! Tests of what comes from the environment: the test runs itself again, in a process with an environment of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tinkex_http::ReqwestTransport;
use tokio::process::Command;

use crate::support::{PATIENCE, call_once, client};

/// Names the address that a child is to call.
const URL: &str = "TINKEX_TEST_URL";
/// What a child puts before its result.
const MARK: &str = "outcome: ";

/// In a child: makes a transport from the environment, calls the address it was given, and prints how that went.
pub(crate) async fn is_child() -> bool {
    let Ok(url) = std::env::var(URL) else { return false };
    match ReqwestTransport::new() {
        Err(error) => println!("\n{MARK}not built: {error}"),
        Ok(transport) => match call_once(&client(&url, &transport)).await {
            Ok(()) => println!("\n{MARK}ok"),
            Err(error) => println!("\n{MARK}{error}"),
        },
    }
    true
}

/// Runs the test of that name as a child that calls `url`, with these variables; how its call went.
pub(crate) async fn outcome(test: &str, url: &str, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(URL, url).kill_on_drop(true);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().copied());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix(MARK));
    found.unwrap_or_else(|| panic!("the child said nothing: {text}")).to_owned()
}

/// A directory of its own with one file, gone with the value.
pub(crate) struct TemporaryFile {
    directory: PathBuf,
    path: PathBuf,
}

impl TemporaryFile {
    pub(crate) fn new(name: &str, content: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tinkex-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        Self { directory, path }
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(crate) fn directory(&self) -> &str {
        self.directory.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
