//! The dynamic flags: read at the time of use, fetched again while the session lives (PROTOCOL 4.2).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tinkex_http::HttpClient;
use tinkex_types::DynamicConfig;

use crate::endpoints;

/// The shortest pause between two fetches.
const SHORTEST_REFRESH: Duration = Duration::from_secs(10);

/// The current dynamic flags, shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct DynamicFlags(Arc<RwLock<Arc<DynamicConfig>>>);

impl DynamicFlags {
    pub(crate) fn new(flags: DynamicConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(flags))))
    }

    pub(crate) fn get(&self) -> Arc<DynamicConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, flags: DynamicConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(flags);
    }
}

/// Fetches the flags again and again: one attempt each time, and a failure keeps the last values. So does an endpoint that
/// is gone (404): it was there before, and may be there again.
pub(crate) async fn refresh(http: HttpClient, flags: DynamicFlags) {
    loop {
        let pause = Duration::from_secs(flags.get().refresh_interval_sec).max(SHORTEST_REFRESH);
        tokio::time::sleep(pause).await;
        match endpoints::dynamic_config(&http, false).await {
            Ok(Some(fresh)) => flags.set(fresh),
            Ok(None) => tracing::debug!("the dynamic configuration is gone; it stays as it is"),
            Err(error) => tracing::debug!("the dynamic configuration stays as it is: {error}"),
        }
    }
}
