//! A package registry in sixty lines, which sends its callers away at first. The client knows nothing of it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answers on a port of this machine until it is dropped.
pub(crate) struct BusyServer {
    url: String,
    log: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl BusyServer {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let log = Arc::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&log)));
        Ok(Self { url, log, task })
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// What was asked and answered, oldest first.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for BusyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, log: Arc<Mutex<Vec<String>>>) {
    let mut asked = HashMap::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let Some(path) = path_of_request(&mut stream).await else { continue };
        let times: &mut u32 = asked.entry(path.clone()).or_default();
        *times += 1;
        let (status, header, body) = match (path.split('/').nth(2), *times) {
            (Some("serde"), _) => ("200 OK", "", r#"{"package":"serde","last_week":9412877}"#),
            (Some("tokio"), 1) => ("503 Service Unavailable", "retry-after: 1\r\n", r#"{"detail":"busy"}"#),
            (Some("tokio"), 2) => ("502 Bad Gateway", "", ""),
            (Some("tokio"), _) => ("200 OK", "", r#"{"package":"tokio","last_week":7260131}"#),
            _ => ("404 Not Found", "", r#"{"detail":"no such package"}"#),
        };
        let hint = if header.is_empty() { "" } else { ", come back in 1 s" };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("GET {path}: {status}{hint}"));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n{body}"
        );
        // A client that has gone needs no answer.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// Reads a request without a body to its end.
async fn path_of_request(stream: &mut TcpStream) -> Option<String> {
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
    String::from_utf8_lossy(&request).split(' ').nth(1).map(str::to_owned)
}
