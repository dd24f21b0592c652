//! The official SDK: a Python that has it installed, and the script that drives it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is measured against.
const SDK: &str = "0.38.0";

/// A Python with the SDK.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    interpreter: PathBuf,
    version: String,
}

impl Python {
    /// Looks for the SDK in what `interpreter` can import.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing, for the report.
    pub(crate) fn find(interpreter: Option<&Path>) -> Result<Self, String> {
        let advice = "`cargo xtask conformance` installs the SDK; --python names another interpreter";
        let Some(interpreter) = interpreter.filter(|path| path.exists()) else {
            return Err(format!("there is no Python with the SDK; {advice}"));
        };
        let program =
            "import importlib.metadata as m, platform; print(platform.python_version(), m.version('tinker'))";
        let output = Command::new(interpreter).args(["-c", program]).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        match text.unwrap_or_default().trim().split_once(' ') {
            Some((version, SDK)) => {
                Ok(Self { interpreter: interpreter.to_path_buf(), version: version.to_owned() })
            }
            Some((_, other)) => Err(format!("the Python SDK is version {other}, not {SDK}; {advice}")),
            None => Err(format!("the Python given does not have the SDK {SDK}; {advice}")),
        }
    }

    /// What it is, for the report.
    pub(crate) fn description(&self) -> String {
        format!("Python {}, tinker {SDK}", self.version)
    }

    /// The program and its first arguments: the interpreter and the script.
    pub(crate) fn words(&self) -> [PathBuf; 2] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join("sampling.py");
        [self.interpreter.clone(), script]
    }
}
