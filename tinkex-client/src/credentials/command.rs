//! The credential command: a line for the shell whose output is the credential (PROTOCOL 3.2).

use std::fmt;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tinkex_http::{AuthError, AuthProvider, CredentialFuture, WallClock};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::fixed::FixedCredential;

/// How long the command may take.
const LIMIT: Duration = Duration::from_secs(60);
/// No credential is longer than this, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Runs the command at every use. Its exit status and what it says on standard error are ignored; it gets no input.
pub(crate) struct CredentialCommand {
    line: SecretString,
    limit: Duration,
    clock: WallClock,
}

impl CredentialCommand {
    pub(crate) fn new(line: impl Into<SecretString>, clock: WallClock) -> Self {
        Self { line: line.into(), limit: LIMIT, clock }
    }

    /// What the command prints, once it has ended. Dropping the future kills it.
    async fn run(&self) -> Result<HeaderValue, AuthError> {
        let (line, limit) = (self.line.clone(), self.limit);
        // A task of its own: in a runtime without the driver that processes need, only that task fails.
        let mut task = JoinSet::new();
        task.spawn(async move { tokio::time::timeout(limit, output(line.expose_secret())).await });
        let output = match task.join_next().await {
            Some(Ok(Ok(Ok(output)))) => output,
            Some(Ok(Ok(Err(error)))) => {
                return Err(AuthError::new(format!("the credential command cannot be run: {error}"))
                    .with_source(error));
            }
            Some(Ok(Err(_))) => {
                let seconds = limit.as_secs_f64();
                return Err(AuthError::new(format!(
                    "the credential command did not end within {seconds} s; run it by hand to see what it waits for"
                )));
            }
            _ => {
                let text = "the credential command cannot be run: the runtime lacks the I/O driver; build it with enable_all()";
                return Err(AuthError::new(text));
            }
        };
        let unusable = |problem: &dyn fmt::Display| {
            AuthError::new(format!("what the credential command printed cannot be used: {problem}"))
        };
        let credential = std::str::from_utf8(&output).map_err(|_| unusable(&"it is no text"))?.trim();
        if credential.is_empty() {
            let text = "the credential command printed nothing; run it by hand to see why";
            return Err(AuthError::new(text));
        }
        let fixed = FixedCredential::new(credential, false, self.clock.clone())
            .map_err(|invalid| unusable(&invalid))?;
        fixed.credential().await?.ok_or_else(|| unusable(&"it is no credential"))
    }
}

async fn output(line: &str) -> io::Result<Vec<u8>> {
    let mut child = shell(line)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST + 1).read_to_end(&mut output).await?;
    }
    if output.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it printed more than {LONGEST} bytes")));
    }
    child.wait().await?;
    Ok(output)
}

#[cfg(not(windows))]
fn shell(line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line);
    shell
}

#[cfg(windows)]
fn shell(line: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.arg("/C").raw_arg(line);
    shell
}

impl AuthProvider for CredentialCommand {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(async { self.run().await.map(Some) })
    }

    /// The line: what it prints may change at every use, but it stands for one account.
    fn identity(&self) -> SecretString {
        self.line.clone()
    }
}

/// The line may hold secrets.
impl fmt::Debug for CredentialCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialCommand([REDACTED])")
    }
}
