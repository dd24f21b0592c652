//! The demo as a child process: when it ran, and when it was in which trouble.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use tinkex_dashboard::picture::{Band, Stretch};
use tinkex_dashboard::{Failure, time};

/// An address that nobody listens at now.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Runs the demo to its end, with its metrics at this address and its lines on this terminal.
pub(crate) fn run(demo: &Path, metrics: SocketAddr) -> Result<Stretch, Failure> {
    let from = time::now();
    let mut child = Command::new(demo)
        .arg(format!("--metrics={metrics}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", demo.display()))?;
    let mut bands = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            mark(&line, time::now(), &mut bands);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the demo failed ({status})").into());
    }
    Ok(Stretch { from, to: time::now(), bands })
}

/// Reads the lines that tell of the beginning and of the end of a trouble.
fn mark(line: &str, now: f64, bands: &mut Vec<Band>) {
    if let Some((_, trouble)) = line.split_once("trouble begins: ") {
        let name = trouble.split(" (").next().unwrap_or(trouble).trim().to_owned();
        bands.push(Band { name, from: now, to: now });
    } else if line.trim_end().ends_with("trouble ends")
        && let Some(band) = bands.last_mut()
    {
        band.to = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_marked_with_their_names() {
        let mut bands = Vec::new();
        mark("    0.0 s  calm", 1.0, &mut bands);
        mark("    9.0 s  trouble begins: rate limit (429 to every new sample)", 2.0, &mut bands);
        mark("  WARN something", 3.0, &mut bands);
        mark("   15.0 s  trouble ends", 4.0, &mut bands);
        assert_eq!(bands, [Band { name: "rate limit".to_owned(), from: 2.0, to: 4.0 }]);
    }
}
