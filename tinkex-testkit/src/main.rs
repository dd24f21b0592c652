//! `tinkex-testkit serve`: the fake server as a program, for clients in other languages and for trying things out. It
//! samples and trains.
//!
//! The first line on standard output is the base URL; the program then serves until it is interrupted.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{Behaviour, FakeServer};

const USAGE: &str = "\
usage: tinkex-testkit serve [--port N] [--dialect production|skyrl|tuft|hatchery] [--seed N]
                            [--config KEY=VALUE]... [--tokens SECONDS] [--control]

  --port N            the port on 127.0.0.1; 0, the default, takes a free one
  --dialect NAME      which server to be like; production is the default
  --seed N            the seed of everything random
  --config KEY=VALUE  a client flag; VALUE is JSON, or else text; may be repeated
  --tokens SECONDS    take only tokens of this life, which clients get for their key, and tell them so
  --control           open the /control/ routes, over which other programs script the server";

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Serve {
    help: bool,
    port: u16,
    dialect: Option<String>,
    seed: u64,
    config: Map<String, Value>,
    tokens: Option<u64>,
    control: bool,
}

impl Serve {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        match arguments.next().as_deref() {
            Some("serve") => {}
            Some("help" | "--help" | "-h") => return Ok(Self { help: true, ..Self::default() }),
            Some(other) => return Err(format!("unknown command {other:?}")),
            None => return Err("no command".to_owned()),
        }
        let mut serve = Self::default();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--control" => serve.control = true,
                "--help" | "-h" => serve.help = true,
                "--dialect" => serve.dialect = Some(value()?),
                "--port" => serve.port = number(&flag, &value()?)?,
                "--tokens" => serve.tokens = Some(number(&flag, &value()?)?),
                "--seed" => serve.seed = number(&flag, &value()?)?,
                "--config" => {
                    let pair = value()?;
                    let (key, text) = pair.split_once('=').ok_or("--config needs KEY=VALUE")?;
                    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
                    serve.config.insert(key.to_owned(), value);
                }
                _ => return Err(format!("unknown flag {flag:?}")),
            }
        }
        Ok(serve)
    }
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{flag}: {text:?} is no number, or too great"))
}

/// The service that the flags describe.
fn service(serve: &Serve) -> Result<Service, String> {
    let name = serve.dialect.as_deref().unwrap_or("production");
    let dialect = Dialect::named(name)
        .ok_or_else(|| format!("unknown dialect {name:?}; known are production, skyrl, tuft and hatchery"))?;
    let service = Service::with_options(ServiceOptions { seed: serve.seed, ..ServiceOptions::of(dialect) });
    let mut config = serve.config.clone();
    if let Some(lifetime) = serve.tokens {
        service.set_token_lifetime(Duration::from_secs(lifetime));
        service.demand_tokens(true);
        config.insert("pjwt_auth_enabled".to_owned(), Value::Bool(true));
    }
    if !config.is_empty() {
        let config = Value::Object(config);
        let reply = service.control("config", &config).ok_or("this server has no configuration")?;
        if !reply.status.is_success() {
            return Err(format!("--config: {}", String::from_utf8_lossy(&reply.body)));
        }
    }
    Ok(service)
}

async fn run(serve: Serve) -> Result<(), String> {
    let server = FakeServer::with(service(&serve)?);
    server.control(serve.control);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, serve.port));
    let socket = server.listen_on(address).await.map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    // Polled before the address is out, so that whoever reads the address can already interrupt.
    tokio::select! {
        biased;
        _ = interrupt.as_mut() => return Ok(()),
        () = std::future::ready(()) => announce(&socket.url()),
    }
    let stopped = interrupt.await.map_err(|e| format!("cannot wait for an interrupt: {e}"));
    drop(socket);
    // Violations went to whoever asked /control/verify; the end of the program is no test.
    let _ = server.verify();
    stopped
}

#[expect(clippy::print_stdout, reason = "the address on standard output is this program's interface")]
fn announce(url: &str) {
    println!("{url}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Serve::parse(std::env::args().skip(1)) {
        Ok(serve) if serve.help => {
            announce(USAGE);
            Ok(())
        }
        Ok(serve) => run(serve).await,
        Err(error) => Err(format!("{error}\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
