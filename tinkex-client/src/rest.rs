//! The REST part of the API that needs no session.

use tinkex_http::HttpClient;
use tinkex_types::{Health, ServerCapabilities};

use crate::{Error, endpoints};

/// Asks the service about itself (REST 3, G). A cheap clone. Each call takes 60 s an attempt at most and is repeated as
/// the service client's retry policy says, by default 10 times within 5 minutes.
#[derive(Clone, Debug)]
pub struct RestClient {
    http: HttpClient,
}

impl RestClient {
    pub(crate) fn new(http: HttpClient) -> Self {
        Self { http }
    }

    /// Whether the service is up (`GET /api/v1/healthz`).
    ///
    /// # Errors
    /// Where the request fails.
    pub async fn health(&self) -> Result<Health, Error> {
        endpoints::health(&self.http).await
    }

    /// The models on offer (`GET /api/v1/get_server_capabilities`).
    ///
    /// # Errors
    /// Where the request fails.
    pub async fn server_capabilities(&self) -> Result<ServerCapabilities, Error> {
        endpoints::capabilities(&self.http).await
    }
}
