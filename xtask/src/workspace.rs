//! Where the workspace lies and how cargo is called inside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The folder above this crate, so the commands work from every subfolder.
    ///
    /// `cargo run` names it; a program started without cargo falls back to where it was built.
    pub(crate) fn here() -> Self {
        let own = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        Self { root: own.parent().unwrap_or(&own).to_path_buf() }
    }

    /// The folder that holds the root `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's build folder: `CARGO_TARGET_DIR`, or `target` below the root.
    pub(crate) fn target_dir(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) if !dir.is_empty() => self.root.join(dir),
            _ => self.root.join("target"),
        }
    }

    /// A cargo invocation in the root, with a clean environment.
    ///
    /// `cargo run` tells this program about the package `xtask` through variables such as `CARGO_PKG_NAME`. Build
    /// scripts of dependencies watch those, and would be rebuilt whenever a nested cargo saw them; so they are dropped.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.current_dir(&self.root).args(arguments);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
            if of_a_package.iter().any(|prefix| text.starts_with(prefix)) || text == "CARGO_PRIMARY_PACKAGE" {
                command.env_remove(&name);
            }
        }
        // The servers of the demo, the tests and the bench are on this machine; a proxy cannot reach them.
        for name in ["NO_PROXY", "no_proxy"] {
            let exempt = env::var(name).unwrap_or_default();
            command.env(name, [exempt.as_str(), "127.0.0.1,localhost"].join(",").trim_start_matches(','));
        }
        command
    }
}
