//! The background refresh of tokens (PROTOCOL 3.4): about half-way through a token's life, by the token's own claims, never
//! by the wall clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::jwt_exchange::{Patience, Tokens};

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// A credential that is refused is given up with no more than this left of its token, in seconds.
const LAST_RESERVE: f64 = 120.0;

/// Refreshes the cached token again and again. Ends where the credential is refused and the token is running out; the next
/// call that gets a token begins it anew.
pub(super) async fn refresh(tokens: Arc<Tokens>) {
    let Some(mut token) = tokens.cached() else { return };
    let mut due = token.refresh_at();
    let mut failed = false;
    loop {
        tokio::time::sleep_until(due).await;
        let mut turn = tokens.turn.lock().await;
        let newer = tokens.cached().filter(|newer| !Arc::ptr_eq(newer, &token));
        let outcome = match newer {
            // A call was faster.
            Some(newer) => Ok(newer),
            None => tokens.fetch(&mut turn, Patience::OneAttempt).await,
        };
        match outcome {
            Ok(fresh) => {
                due = fresh.refresh_at();
                token = fresh;
                failed = false;
            }
            Err(error) if error.status() == Some(401) && token.left(tokens.now()) <= LAST_RESERVE => {
                tracing::warn!("the credential is refused, so its token is not refreshed any more: {error}");
                turn.refreshing = false;
                return;
            }
            Err(error) => {
                let pause = PAUSE.as_secs();
                if failed {
                    tracing::debug!("the token is still not refreshed, trying again in {pause} s: {error}");
                } else {
                    tracing::warn!("the token could not be refreshed, trying again every {pause} s: {error}");
                }
                failed = true;
                due = Instant::now() + PAUSE;
            }
        }
    }
}
