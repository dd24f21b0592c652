//! The virtual environment with the official SDK in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// Where the virtual environment is, or would be.
fn folder(target: &Path) -> PathBuf {
    target.join("conformance-venv")
}

/// Its interpreter, which is there once `cargo xtask conformance` has run.
pub(crate) fn interpreter(target: &Path) -> PathBuf {
    folder(target).join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// A Python with the requirements installed; made below `target` on first use, reused while they stay the same.
///
/// # Errors
///
/// When there is no Python 3 with `venv`, or the packages cannot be installed.
pub(super) fn environment(target: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let wanted = fs::read_to_string(requirements).map_err(|e| format!("{}: {e}", requirements.display()))?;
    let folder = folder(target);
    let python = interpreter(target);
    if python.exists() && installed(&python, &wanted) {
        return Ok(python);
    }
    let system = system_python()?;
    println!("making a virtual environment for: {}", pinned(&wanted).join(", "));
    fs::create_dir_all(target).map_err(|e| format!("{}: {e}", target.display()))?;
    process::run(Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder)).map_err(|message| {
        format!("{message}; Debian and Ubuntu have the missing part in the package python3-venv")
    })?;
    process::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
            .arg(requirements),
    )?;
    if installed(&python, &wanted) {
        Ok(python)
    } else {
        Err(format!(
            "{} were installed, but Python does not report these versions",
            pinned(&wanted).join(", ")
        ))
    }
}

/// The `name==version` lines of a requirements file.
fn pinned(requirements: &str) -> Vec<&str> {
    requirements.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Whether a Python has every pinned requirement in exactly that version.
fn installed(python: &Path, requirements: &str) -> bool {
    let program = "import importlib.metadata as m, sys\n\
                   sys.exit(any(m.version(r.split('==')[0]) != r.split('==')[1] for r in sys.argv[1:]))";
    let outcome = Command::new(python).args(["-c", program]).args(pinned(requirements)).output();
    outcome.is_ok_and(|output| output.status.success())
}

fn system_python() -> Result<&'static str, String> {
    for name in ["python3", "python"] {
        let probe = "import sys; sys.exit(sys.version_info < (3, 11))";
        if Command::new(name).args(["-c", probe]).output().is_ok_and(|output| output.status.success()) {
            return Ok(name);
        }
    }
    Err("the conformance run needs Python 3.11 or newer as `python3`; it was not found".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn comments_and_blank_lines_are_no_requirements() {
        assert_eq!(super::pinned("# the SDK\n\ntinker==0.38.0\n"), ["tinker==0.38.0"]);
    }
}
