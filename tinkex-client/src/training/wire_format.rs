//! In which form forward/backward passes are sent: protobuf, or JSON for servers that know only that (OPEN_SERVERS,
//! decision 2).
//!
//! Where the caller leaves it open, the service's first pass finds out: protobuf first, and where that is refused in a
//! way that may mean "I cannot read this", JSON under the same sequence id. What was accepted is remembered for the
//! service. While nothing is known passes go one at a time, so no call guesses twice.
//!
//! A refusal with 400 or 422 is mostly about the data. So it never has data sent as JSON that JSON cannot say in full, and
//! JSON is settled on only when that happened twice in a row.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tinkex_types::{Datum, InvalidInput};
use tokio::sync::{Mutex, MutexGuard};

/// In which form the forward/backward passes of a training client are sent (PROTOCOL 12.1, 23). Results are read in
/// whatever form they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireFormat {
    /// What the server accepts: protobuf, or else JSON. Found out once per service.
    #[default]
    Auto,
    /// Protobuf, always.
    Protobuf,
    /// JSON, always. Forward-only passes go to an endpoint of their own (PROTOCOL 23).
    Json,
}

/// A form that was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Protobuf,
    Json,
}

impl WireFormat {
    /// The form, where the caller has fixed it.
    pub(super) fn fixed(self) -> Option<Form> {
        match self {
            Self::Auto => None,
            Self::Protobuf => Some(Form::Protobuf),
            Self::Json => Some(Form::Json),
        }
    }
}

impl Form {
    /// Checks that this form can say the data.
    pub(super) fn check(self, data: &[Datum]) -> Result<(), InvalidInput> {
        data.iter().try_for_each(match self {
            Self::Protobuf => Datum::check_protobuf,
            Self::Json => Datum::check_json,
        })
    }
}

/// In which forms data can be sent while the server's is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Both say all of it.
    Either,
    /// JSON says less of it than protobuf.
    BetterProtobuf,
    OnlyProtobuf,
    OnlyJson,
}

impl Fit {
    /// # Errors
    /// Where no form can say all of the data.
    pub(super) fn of(data: &[Datum]) -> Result<Self, InvalidInput> {
        match (Form::Protobuf.check(data), Form::Json.check(data)) {
            (Ok(()), Ok(())) if data.iter().all(Datum::is_whole_in_json) => Ok(Self::Either),
            (Ok(()), Ok(())) => Ok(Self::BetterProtobuf),
            (Ok(()), Err(_)) => Ok(Self::OnlyProtobuf),
            (Err(_), Ok(())) => Ok(Self::OnlyJson),
            (Err(invalid), Err(_)) => Err(invalid),
        }
    }

    /// Whether JSON is worth trying after protobuf was refused.
    pub(super) fn allows_json_after(self, status: u16) -> bool {
        match self {
            Self::Either | Self::OnlyJson => true,
            Self::BetterProtobuf => !may_be_about_the_data(status),
            Self::OnlyProtobuf => false,
        }
    }
}

/// Whether a refusal of a protobuf body may mean that the server cannot read protobuf.
pub(super) fn may_want_json(status: u16) -> bool {
    matches!(status, 400 | 415 | 422 | 500 | 501)
}

/// Whether such a refusal may as well be one of a body that was read.
pub(super) fn may_be_about_the_data(status: u16) -> bool {
    matches!(status, 400 | 422)
}

/// Whether a JSON body was refused for good, for whatever reason.
pub(super) fn refuses_json(status: u16) -> bool {
    matches!(status, 400..=499 | 501) && !matches!(status, 402 | 408 | 409 | 429)
}

/// Whether a refusal of a JSON body says that the server does not take JSON.
pub(super) fn wants_no_json(status: u16) -> bool {
    matches!(status, 404 | 405 | 415)
}

/// What is known of a service.
#[derive(Debug, Default)]
pub(super) struct WireFormatMemory {
    proven: AtomicU8,
    trial: Mutex<()>,
}

/// The right to find out; held while a form is tried.
pub(super) struct Trial<'a>(
    &'a AtomicU8,
    #[allow(dead_code, reason = "held for its drop")] Option<MutexGuard<'a, ()>>,
);

/// How long one pass may keep the others of the service waiting while it finds out; then they find out too.
const TRIAL_LIMIT: Duration = Duration::from_secs(30);

const PROTOBUF: u8 = 1;
const JSON: u8 = 2;
/// JSON was accepted where protobuf had been refused in a way that may have been about the data.
const JSON_LIKELY: u8 = 3;

impl WireFormatMemory {
    /// The form that is known to work.
    pub(super) fn proven(&self) -> Option<Form> {
        match self.proven.load(Ordering::Relaxed) {
            PROTOBUF => Some(Form::Protobuf),
            JSON => Some(Form::Json),
            _ => None,
        }
    }

    /// The form that works, or the right to find out, once nobody else is finding out.
    pub(super) async fn form(&self) -> Result<Form, Trial<'_>> {
        if let Some(form) = self.proven() {
            return Ok(form);
        }
        // Whoever finds out may be told to wait, for ever: that must not hold up the others.
        let trial = tokio::time::timeout(TRIAL_LIMIT, self.trial.lock()).await.ok();
        self.proven().ok_or(Trial(&self.proven, trial))
    }
}

impl Trial<'_> {
    /// The server reads this form.
    pub(super) fn proven(self, form: Form) {
        let form = match form {
            Form::Protobuf => PROTOBUF,
            Form::Json => JSON,
        };
        self.0.store(form, Ordering::Relaxed);
    }

    /// The server has accepted as JSON what it had refused as protobuf with this status.
    pub(super) fn json_instead(self, status: u16) {
        let again = self.0.load(Ordering::Relaxed) == JSON_LIKELY;
        let form = if again || !may_be_about_the_data(status) { JSON } else { JSON_LIKELY };
        self.0.store(form, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, WireFormatMemory};

    /// Those who ask while a form is tried wait for the outcome; where there is none, the next one tries.
    #[tokio::test(start_paused = true)]
    async fn one_finds_out_for_all() {
        let memory = WireFormatMemory::default();
        let Err(first) = memory.form().await else { panic!("nothing is known yet") };
        let (second, ()) = tokio::join!(memory.form(), async { drop(first) });
        let Err(second) = second else { panic!("the first has found nothing out") };
        let (third, ()) = tokio::join!(memory.form(), async { second.proven(Form::Json) });
        assert!(matches!(third, Ok(Form::Json)));
        assert!(matches!(memory.form().await, Ok(Form::Json)));
    }
}
