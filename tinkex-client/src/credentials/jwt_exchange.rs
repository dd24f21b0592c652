//! The exchange of a credential for short-lived tokens (PROTOCOL 3.4): a provider in front of another one.
//!
//! Whoever needs a token takes the cached one. Where there is none, or it is about to expire, or the service rejected it, one
//! call fetches another while the rest wait for it (single flight): they take its token, and where it failed its failure.
//! A task refreshes the token long before that, so that calls rarely wait at all.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tinkex_http::{
    AuthError, AuthProvider, CredentialFuture, HttpClient, HttpError, HttpErrorKind, Jitter, WallClock,
};
use tokio::runtime::Handle;

use super::claims::unix_seconds;
use super::refresh;
use super::token::Token;
use crate::endpoints;
use crate::owned_task::OwnedTask;

/// Gives the tokens of one holder. Its background task ends with [`end`](Self::end) or with the last reference.
pub(crate) struct JwtExchange {
    tokens: Arc<Tokens>,
    runtime: Handle,
    task: Mutex<Refreshing>,
}

/// The background task, if it has been begun.
#[derive(Default)]
struct Refreshing {
    task: Option<OwnedTask>,
    ended: bool,
}

/// What calls and the background task share.
pub(super) struct Tokens {
    /// Sends the credential that is exchanged.
    http: HttpClient,
    identity: SecretString,
    clock: WallClock,
    jitter: Jitter,
    cached: Mutex<Option<Arc<Token>>>,
    /// Held while a token is fetched.
    pub(super) turn: tokio::sync::Mutex<Turn>,
    /// How many fetches have ended that others may share the outcome of.
    rounds: AtomicU64,
}

/// What the one whose turn it is needs to know.
#[derive(Default)]
pub(super) struct Turn {
    /// How the last shared fetch failed, where it did.
    failure: Option<AuthError>,
    /// Whether the background task is at work.
    pub(super) refreshing: bool,
}

/// How much a fetch may try.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// As the client's retry policy says, at most this long.
    Patient(Option<Duration>),
    /// One attempt: its caller comes again.
    OneAttempt,
}

impl JwtExchange {
    /// Exchanges `credential`, over the same transport and with the same policy as `http`.
    pub(crate) fn new(
        credential: Arc<dyn AuthProvider>,
        http: &HttpClient,
        runtime: Handle,
        clock: WallClock,
        jitter: Jitter,
    ) -> Self {
        let tokens = Tokens {
            identity: credential.identity(),
            http: http.with_auth(credential),
            clock,
            jitter,
            cached: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            rounds: AtomicU64::new(0),
        };
        Self { tokens: Arc::new(tokens), runtime, task: Mutex::default() }
    }

    /// Ends the background refresh for good. Tokens are still fetched where a call needs one.
    pub(crate) fn end(&self) {
        let mut refreshing = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        refreshing.ended = true;
        refreshing.task = None;
    }

    /// A token that can be used now and is not `rejected`.
    async fn token(&self, rejected: Option<&HeaderValue>) -> Result<Arc<Token>, AuthError> {
        let tokens = &*self.tokens;
        if let Some(token) = tokens.usable(rejected) {
            return Ok(token);
        }
        let round = tokens.rounds.load(Ordering::Acquire);
        let mut turn = tokens.turn.lock().await;
        if let Some(token) = tokens.usable(rejected) {
            return Ok(token);
        }
        let cached = tokens.cached_unless(rejected);
        let left = cached.as_ref().map_or(0.0, |token| token.left(tokens.now()));
        let shared = tokens.rounds.load(Ordering::Acquire) != round;
        let outcome = match (shared, &turn.failure, &cached) {
            (true, Some(failure), _) => Err(failure.clone()),
            // However little it has left: it was fetched while this call waited.
            (true, None, Some(token)) => Ok(Arc::clone(token)),
            _ => {
                // Half of what is left of the cached token, so that there is time to fall back on it.
                let limit = (left > 0.0).then(|| Duration::try_from_secs_f64(left / 2.0).ok()).flatten();
                let outcome = tokens.fetch(&mut turn, Patience::Patient(limit)).await;
                self.keep_refreshing(&mut turn);
                outcome
            }
        };
        match (outcome, cached) {
            (Ok(token), _) => Ok(token),
            (Err(failure), Some(token))
                if failure.status() != Some(401) && token.left(tokens.now()) > 0.0 =>
            {
                tracing::debug!(
                    "the token is used for the rest of its life, since there is no other: {failure}"
                );
                Ok(token)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Begins the background refresh where there is a token and none is at work.
    fn keep_refreshing(&self, turn: &mut Turn) {
        let mut refreshing = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.refreshing || refreshing.ended || turn.failure.is_some() {
            return;
        }
        turn.refreshing = true;
        let task = OwnedTask::spawn(&self.runtime, refresh::refresh(Arc::clone(&self.tokens)));
        refreshing.task = Some(task);
    }
}

impl Tokens {
    pub(super) fn now(&self) -> f64 {
        unix_seconds(self.clock.now())
    }

    pub(super) fn cached(&self) -> Option<Arc<Token>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cached_unless(&self, rejected: Option<&HeaderValue>) -> Option<Arc<Token>> {
        self.cached().filter(|token| Some(token.header()) != rejected)
    }

    fn usable(&self, rejected: Option<&HeaderValue>) -> Option<Arc<Token>> {
        self.cached_unless(rejected).filter(|token| !token.is_due(self.now()))
    }

    /// Fetches a token. Only whoever holds the turn does. A fetch that was patient tells those who waited how it ended.
    pub(super) async fn fetch(&self, turn: &mut Turn, patience: Patience) -> Result<Arc<Token>, AuthError> {
        let outcome = match endpoints::auth_token(&self.http, patience).await {
            Ok(response) => Token::read(&response.body, self.now(), self.jitter.next()),
            Err(error) => Err(failure(error)),
        };
        match outcome {
            Ok(token) => {
                let token = Arc::new(token);
                *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                turn.failure = None;
                self.rounds.fetch_add(1, Ordering::Release);
                Ok(token)
            }
            Err(failure) => {
                if let Patience::Patient(_) = patience {
                    turn.failure = Some(failure.clone());
                    self.rounds.fetch_add(1, Ordering::Release);
                }
                Err(failure)
            }
        }
    }
}

/// An error of the credential itself stays what it is; others say that it was the exchange that failed.
fn failure(error: HttpError) -> AuthError {
    let inner = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<AuthError>());
    if let (HttpErrorKind::Auth, Some(inner)) = (error.kind(), inner) {
        return inner.clone();
    }
    let status = error.status();
    let passes = match error.kind() {
        HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Interrupted => true,
        HttpErrorKind::Status => matches!(status, Some(402 | 408 | 429 | 500 | 502..=599)),
        _ => false,
    };
    let mut failure = AuthError::new(error.to_string());
    if let Some(status) = status {
        failure = failure.with_status(status);
    }
    if passes {
        failure = failure.transient();
    }
    failure.with_source(error)
}

impl AuthProvider for JwtExchange {
    fn credential(&self) -> CredentialFuture<'_> {
        match self.tokens.usable(None) {
            Some(token) => Box::pin(std::future::ready(Ok(Some(token.header().clone())))),
            None => Box::pin(async { Ok(Some(self.token(None).await?.header().clone())) }),
        }
    }

    fn replace(&self, rejected: &HeaderValue) -> CredentialFuture<'_> {
        let rejected = rejected.clone();
        Box::pin(async move { Ok(Some(self.token(Some(&rejected)).await?.header().clone())) })
    }

    /// That of the credential behind the tokens, since tokens change.
    fn identity(&self) -> SecretString {
        self.tokens.identity.clone()
    }
}

impl fmt::Debug for JwtExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtExchange").field("http", &self.tokens.http).finish_non_exhaustive()
    }
}
