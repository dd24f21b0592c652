//! `--metrics ADDRESS`: serves the run's metrics, for Prometheus to scrape.

use std::net::SocketAddr;

use metrics::Recorder;

use super::{Failure, Screen};

/// The metrics are served until this is dropped.
pub(super) struct Served {
    #[cfg(feature = "prometheus-listener")]
    _listening: Option<tinkex_client::prometheus::Listening>,
}

/// Reads the address. A build that cannot serve says what it lacks.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    match cfg!(feature = "prometheus-listener") {
        true => {
            text.parse().map_err(|_| format!("--metrics needs an address like 127.0.0.1:9000, not {text}"))
        }
        false => Err("--metrics needs a build with `--features prometheus-listener`".to_owned()),
    }
}

/// Installs `own` as the recorder; where there is an address, together with one that is served there.
#[cfg(feature = "prometheus-listener")]
pub(super) fn install(
    own: impl Recorder + Send + Sync + 'static,
    address: Option<SocketAddr>,
    screen: &Screen,
) -> Result<Served, Failure> {
    use metrics_util::layers::FanoutBuilder;
    use tinkex_client::prometheus;

    let Some(address) = address else {
        metrics::set_global_recorder(own).map_err(|_| "there is a recorder already")?;
        return Ok(Served { _listening: None });
    };
    // An application without a recorder of its own calls `prometheus::install_with_listener` instead.
    let (served, listening) = prometheus::listening_recorder(address)?;
    let both = FanoutBuilder::default().add_recorder(own).add_recorder(served).build();
    metrics::set_global_recorder(both).map_err(|_| "there is a recorder already")?;
    screen.line(&format!("The metrics are at {} while this runs.", listening.url()));
    Ok(Served { _listening: Some(listening) })
}

#[cfg(not(feature = "prometheus-listener"))]
pub(super) fn install(
    own: impl Recorder + Send + Sync + 'static,
    _: Option<SocketAddr>,
    _: &Screen,
) -> Result<Served, Failure> {
    metrics::set_global_recorder(own).map_err(|_| "there is a recorder already")?;
    Ok(Served {})
}
