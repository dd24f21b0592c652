//! The program `tinkex-testkit`.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Wire;

async fn serve(arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tinkex-testkit"))
        .arg("serve")
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (child, line.trim().to_owned())
}

#[tokio::test]
async fn it_prints_its_address_and_can_be_scripted() {
    let (_child, url) = serve(&["--port", "0", "--control"]).await;
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut wire = Wire::open(address).await;
    wire.send_to("/control/script", &json!({"route": "asample", "steps": [{"status": 429}]})).await.unwrap();
    let (head, _) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire.send("asample", &json!({"n": 1})).await.unwrap();
    let (head, _) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    wire.send_to("/control/requests?route=asample", &json!({})).await.unwrap();
    let (_, body) = wire.response().await;
    let log: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(log[0]["json"], json!({"n": 1}));
}

#[tokio::test]
async fn dialect_and_flags_come_from_the_command_line() {
    for dialect in ["production", "skyrl", "tuft", "hatchery"] {
        let (_child, url) = serve(&["--dialect", dialect, "--seed", "7"]).await;
        assert!(url.starts_with("http://127.0.0.1:"), "{dialect}: {url}");
    }
    let (_child, url) = serve(&["--config", "pjwt_auth_enabled=true", "--config", "made_up=text"]).await;
    let mut wire = Wire::open(url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    wire.send("client/config", &json!({"sdk_version": "0"})).await.unwrap();
    let (head, body) = wire.response().await;
    let config: Value = serde_json::from_slice(&body).unwrap_or_default();
    assert_eq!((&config["pjwt_auth_enabled"], &config["made_up"]), (&json!(true), &json!("text")), "{head}");
}

#[tokio::test]
async fn tokens_come_from_the_command_line() {
    let (_child, url) = serve(&["--tokens", "60"]).await;
    let mut wire = Wire::open(url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    wire.send("client/config", &json!({"sdk_version": "0"})).await.unwrap();
    let (_, body) = wire.response().await;
    let config: Value = serde_json::from_slice(&body).unwrap_or_default();
    assert_eq!(config["pjwt_auth_enabled"], true);
    wire.send("create_session", &json!({})).await.unwrap();
    let (head, _) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_it_in_good_order() {
    let (mut child, url) = serve(&[]).await;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let kill = format!("kill -INT {}", child.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn wrong_arguments_are_told_with_the_usage() {
    for arguments in
        [&["dance"][..], &["serve", "--port"], &["serve", "--port", "x"], &["serve", "--what"], &[]]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tinkex-testkit")).args(arguments).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("usage: "), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}
