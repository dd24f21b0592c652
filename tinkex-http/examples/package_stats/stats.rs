//! The client: one method per endpoint, and nothing about retries but a policy.

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use tinkex_http::{
    ApiRequest, ApiResponse, HttpClient, HttpError, ReqwestTransport, RetryPolicy, SharedTransport,
};

use super::busy_server::BusyServer;

/// What the service knows of a package.
#[derive(Deserialize)]
struct Downloads {
    package: String,
    last_week: u64,
}

/// A client of the service. Clones would share its connections, its retry budget and its limits.
struct PackageStats(HttpClient);

impl PackageStats {
    fn new(url: &str) -> Result<Self, Box<dyn Error>> {
        let transport = SharedTransport::new(ReqwestTransport::new()?);
        let policy = RetryPolicy::default().max_retries(4).max_elapsed(Duration::from_secs(30));
        Ok(Self(HttpClient::builder(url.parse()?, transport).policy(policy).build()?))
    }

    /// Asks for the downloads of a package. 408, 409, 429, 5xx and broken connections are tried again, when the server says
    /// or else after growing pauses; whatever happens, it is over after 20 s.
    async fn downloads(&self, package: &str) -> Result<ApiResponse, HttpError> {
        let request = ApiRequest::get("downloads", format!("/packages/{package}/downloads"));
        self.0.send(&request.deadline(Duration::from_secs(20))).await
    }
}

/// Asks a server of its own, and shows what that one saw.
pub(crate) async fn run_offline(mut say: impl FnMut(String)) -> Result<(), Box<dyn Error>> {
    let server = BusyServer::start().await?;
    say(format!("A package registry is running at {}. It is busy at times.\n", server.url()));
    let packages = ["serde", "tokio", "left-pad"].map(str::to_owned);
    run(&server.url(), &packages, &mut say).await?;
    say("\nWhat the registry saw:".to_owned());
    server.log().into_iter().for_each(|line| say(format!("  {line}")));
    Ok(())
}

/// Asks for each of the packages, and says what came of it.
pub(crate) async fn run(
    url: &str,
    packages: &[String],
    mut say: impl FnMut(String),
) -> Result<(), Box<dyn Error>> {
    let stats = PackageStats::new(url)?;
    say(format!("Downloads of the last week, from {url}:"));
    for package in packages {
        match stats.downloads(package).await {
            Ok(response) => {
                let Downloads { package, last_week } = response.json()?;
                let (attempts, seconds) = (response.attempts, response.elapsed.as_secs_f64());
                say(format!(
                    "  {package:<10} {last_week:>9}   after {attempts} attempt(s) in {seconds:.1} s"
                ));
            }
            // The error says what was asked, how often, and what the server answered.
            Err(error) => say(format!("  {package:<10} unknown     {error}")),
        }
    }
    Ok(())
}
