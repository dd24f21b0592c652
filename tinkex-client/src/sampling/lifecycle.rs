//! The life of one sample: wait for a place, submit, poll, decode; or be abandoned on the way.
//!
//! One task per sample. It ends when it has a result, or when nobody wants it any more (the handle was dropped, the
//! deadline passed). Abandonment never interrupts an attempt of the submission that is on the wire: only when its
//! answer is known can the sequence id be given back or the promise be cancelled. A deadline is told to the caller at
//! once all the same.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tinkex_future::{PromiseRef, SessionPoller};
use tinkex_http::{
    ApiRequest, AttemptGate, CallClass, Delivery, HttpError, HttpErrorKind, Refusal, StopSignal,
};
use tinkex_metrics::contract;
use tinkex_types::{ClientKind, InvalidInput, Promise, RequestType, SampleRequest, SampleResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::client::{SampleOptions, Sampler, Supervision};
use super::progress::Part;
use super::result::{self, Expectations};
use crate::Error;
use crate::dispatch::SampleGate;
use crate::endpoints::on_behalf_of;
use crate::inflight::{InflightEntry, Row};
use crate::operation_span::OperationSpan;
use crate::submission_gate::{SubmissionGate, Submitter, expected_seq_id};
use crate::token_count::known_tokens;

/// The label of samples in the metrics.
const SAMPLE: &str = RequestType::Sample.as_str();

/// Where a sample begins.
pub(crate) enum Start {
    /// At its submission.
    Submit(Box<SampleRequest>),
    /// At a promise that exists already.
    Resume(PromiseRef),
}

/// Nobody wants the result any more.
struct Abandoned;

/// Why a step did not give what it should.
enum Stopped {
    Abandoned,
    Failed(Error),
}

impl From<Abandoned> for Stopped {
    fn from(_: Abandoned) -> Self {
        Self::Abandoned
    }
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs a sample to its end and hands the result over.
pub(crate) async fn run(
    sampler: Arc<Sampler>,
    start: Start,
    supervision: Supervision,
    options: SampleOptions,
    entry: InflightEntry,
    mut sender: oneshot::Sender<Result<SampleResponse, Error>>,
    span: OperationSpan,
) {
    let (stop, stopped) = oneshot::channel();
    let mut stopped = pin!(async {
        // An error says that `stop` is gone, which it is not before the work has ended.
        let _ = stopped.await;
    });
    let row = Arc::clone(entry.row());
    let part = match supervision {
        Supervision::Supervised => Some(Part::of(&sampler.progress)),
        Supervision::Bypassed => None,
    };
    let mut work = pin!(sampler.live(span.method(), start, part.as_ref(), &row, stopped.as_mut()));
    let outcome = tokio::select! {
        // Whether anybody wants the result is asked first, so that a sample dropped at once sends nothing.
        biased;
        reason = given_up(&mut sender, options.deadline, part.is_some().then_some(&row)) => Err(reason),
        outcome = work.as_mut() => Ok(outcome),
    };
    entry.ends(match &outcome {
        Ok(Ok(_)) => "ok",
        Ok(Err(_)) => "failed",
        Err(GivenUp::Unwanted) => "abandoned",
        Err(GivenUp::OutOfTime) => "deadline",
        Err(GivenUp::Stuck) => "stuck",
    });
    match outcome {
        Ok(result) => {
            let result = result.map_err(|stopped| match stopped {
                Stopped::Failed(error) => error,
                // Nothing has stopped the work, so this does not come up.
                Stopped::Abandoned => Error::task_ended(),
            });
            if let Some(part) = &part {
                part.end(Some(&result));
            }
            if let Err(error) = &result {
                span.failed(error);
                sampler.holder.telemetry().sample_failed(span.method(), error);
            }
            span.polled(&row);
            drop(entry);
            // Nobody listens where the handle was dropped in this very moment.
            let _ = sender.send(result);
        }
        Err(reason) => {
            // The caller is told now, whatever is still on the wire; where the handle was dropped nobody listens.
            let promise = row.request_id();
            let error = match reason {
                GivenUp::Unwanted | GivenUp::OutOfTime => {
                    Error::deadline(options.deadline.unwrap_or_default(), promise.as_deref())
                }
                GivenUp::Stuck => {
                    let silence = sampler.progress_timeout.unwrap_or_default();
                    Error::stuck(silence, promise.as_deref(), row.polls(), row.age())
                }
            };
            if let (Some(part), GivenUp::Stuck) = (&part, reason) {
                part.end::<()>(Some(&Err(error.clone())));
            }
            if sender.is_closed() {
                span.abandoned();
            } else {
                span.failed(&error);
                sampler.holder.telemetry().sample_failed(span.method(), &error);
            }
            let _ = sender.send(Err(error));
            let _ = stop.send(());
            let _ = work.await;
            span.polled(&row);
        }
    }
}

/// Why a sample is not carried to its end.
#[derive(Clone, Copy)]
enum GivenUp {
    /// The handle was dropped.
    Unwanted,
    /// The deadline passed.
    OutOfTime,
    /// Nothing has finished for too long.
    Stuck,
}

/// Completes when the sample is given up; where it is supervised also by the detection of stuck ones.
async fn given_up(
    sender: &mut oneshot::Sender<Result<SampleResponse, Error>>,
    deadline: Option<Duration>,
    supervised: Option<&Arc<Row>>,
) -> GivenUp {
    let deadline = async {
        match deadline {
            // Boxed, since most samples have no deadline.
            Some(deadline) => Box::pin(tokio::time::sleep(deadline)).await,
            None => pending().await,
        }
    };
    let stuck = async {
        match supervised {
            Some(row) => row.given_up().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = sender.closed() => GivenUp::Unwanted,
        () = deadline => GivenUp::OutOfTime,
        () = stuck => GivenUp::Stuck,
    }
}

impl Sampler {
    async fn live(
        &self,
        method: &'static str,
        start: Start,
        part: Option<&Part<'_>>,
        row: &Arc<Row>,
        mut stop: StopSignal<'_>,
    ) -> Result<SampleResponse, Stopped> {
        let _places = self.places(part.is_some(), stop.as_mut()).await?;
        if let Some(part) = part {
            part.begin();
        }
        let request = match start {
            Start::Submit(request) => request,
            Start::Resume(promise) => {
                return self.fetch(promise, None, &Expectations::default(), row, stop).await;
            }
        };
        let expectations = Expectations::of(&request);
        let allowed = if part.is_some() { self.resubmissions } else { 0 };
        let mut resubmissions = 0;
        loop {
            if let Some(ended) = self.announcements.as_ref().and_then(SessionPoller::ended) {
                return Err(ended.into());
            }
            // Boxed: a sample waits for its result much longer than it is submitted, and what a submission needs is most
            // of what a sample takes.
            let submitted = Box::pin(self.submit(&request, row, stop.as_mut()));
            let (promise, accepted) = submitted.await?;
            let sequence_ids = accepted.sample_sequence_ids.as_deref();
            match self.fetch(promise, sequence_ids, &expectations, row, stop.as_mut()).await {
                Err(Stopped::Failed(error))
                    if error.kind() == crate::ErrorKind::Expired && resubmissions < allowed =>
                {
                    resubmissions += 1;
                    if let Some(part) = part {
                        part.retried(error.kind());
                    }
                    contract::RESUBMISSIONS.increment([SAMPLE]);
                    self.holder.telemetry().sample_retried(method, &error);
                    tracing::debug!(
                        request_id = accepted.request_id,
                        "the server lost a sample; submitting it anew"
                    );
                    let pause = self.submit_policy.backoff.delay(resubmissions - 1, fastrand::f64());
                    unless_stopped(stop.as_mut(), tokio::time::sleep(pause)).await?;
                }
                Err(Stopped::Failed(error)) if error.kind() == crate::ErrorKind::Expired => {
                    return Err(Stopped::Failed(error.submitted(resubmissions + 1)));
                }
                outcome => return outcome,
            }
        }
    }

    /// A place within each limit of samples in flight and one for its connection, held until the result is there. Where
    /// a session poller announces results, a sample that waits holds no connection.
    async fn places(
        &self,
        supervised: bool,
        stop: StopSignal<'_>,
    ) -> Result<[Option<OwnedSemaphorePermit>; 3], Abandoned> {
        let places = async {
            let in_flight = place_in(self.in_flight.as_ref()).await;
            let supervised = place_in(self.supervised_in_flight.as_ref().filter(|_| supervised)).await;
            let connection = match &self.holder.settings.connection_places {
                Some(places) if self.announcements.is_none() => places.take().await,
                _ => None,
            };
            [in_flight, supervised, connection]
        };
        unless_stopped(stop, places).await
    }

    /// Submits under one sequence id. The id is drawn here, when the sample has its place, so that a sample abandoned
    /// earlier leaves no gap; it is kept through all waits of the submission.
    async fn submit(
        &self,
        request: &SampleRequest,
        row: &Arc<Row>,
        mut stop: StopSignal<'_>,
    ) -> Result<(PromiseRef, Promise), Stopped> {
        row.submitting();
        let begun = Instant::now();
        let seq_id = self.sequence.draw();
        let gate = self.gate(request, seq_id, row);
        let outgoing = match self.outgoing(request, seq_id, Arc::clone(&gate) as _) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                self.sequence.give_back(seq_id);
                return Err(error.into());
            }
        };
        let response = match self.holder.http.send_until(&outgoing, stop.as_mut()).await {
            Ok(response) => response,
            Err(error) => {
                if never_counted(&error) {
                    self.sequence.give_back(seq_id);
                }
                return Err(match (error.kind(), error.status()) {
                    (HttpErrorKind::Abandoned, _) => Stopped::Abandoned,
                    (_, Some(409)) => match expected_seq_id(error.body()) {
                        Some(expected) => Stopped::Failed(
                            Error::sequence_conflict(error, seq_id, expected)
                                .noted("made again, the request gets another id"),
                        ),
                        None => error.into(),
                    },
                    _ => error.into(),
                });
            }
        };
        gate.accepted();
        contract::TOKENS.add([SAMPLE, "in"], known_tokens(&request.prompt));
        let accepted: Promise = response.json()?;
        let promise = PromiseRef::new(accepted.request_id.as_str(), RequestType::Sample)
            .with_create_roundtrip(Instant::now().saturating_duration_since(begun));
        Ok((promise, accepted))
    }

    fn gate(
        &self,
        request: &SampleRequest,
        seq_id: u64,
        row: &Arc<Row>,
    ) -> Arc<SubmissionGate<SampleGate, impl Fn(&Refusal<'_>) -> bool + Send + Sync + use<>>> {
        let submitter = Submitter {
            client: ClientKind::Sampling,
            client_id: Arc::clone(&self.sampling_session_id),
            kind: RequestType::Sample,
            observers: Arc::clone(&self.observers),
            row: Arc::clone(row),
        };
        // An id that is ahead of its turn comes into its turn; one that is behind never does.
        let used_up = move |refusal: &Refusal<'_>| {
            refusal.status == 409 && expected_seq_id(refusal.body).is_some_and(|expected| expected > seq_id)
        };
        let limits = self.dispatch.gate_for(request.prompt.sample_bytes());
        Arc::new(SubmissionGate::new(limits, submitter, used_up))
    }

    fn outgoing(
        &self,
        request: &SampleRequest,
        seq_id: u64,
        gate: Arc<dyn AttemptGate>,
    ) -> Result<ApiRequest, Error> {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        const BACKPRESSURE: HeaderName = HeaderName::from_static("x-tinker-sampling-backpressure");
        let body = request
            .body(&self.sampling_session_id, seq_id)
            .to_json()
            .map_err(|e| InvalidInput::new("sample request", format!("cannot be written as JSON: {e}")))?;
        let outgoing = ApiRequest::post_bytes("asample", "/api/v1/asample", body, JSON)
            .class(CallClass::Upload)
            .policy(self.submit_policy.clone())
            .gate(gate)
            .header(BACKPRESSURE, HeaderValue::from_static("1"));
        Ok(on_behalf_of(outgoing, "SamplingClient.sample"))
    }

    /// Polls a promise to its end and reads the result.
    async fn fetch(
        &self,
        promise: PromiseRef,
        sequence_ids: Option<&[String]>,
        expectations: &Expectations,
        row: &Arc<Row>,
        stop: StopSignal<'_>,
    ) -> Result<SampleResponse, Stopped> {
        let request_id = Arc::clone(&promise.request_id);
        row.polling(Arc::clone(&request_id));
        let progress: Arc<dyn tinkex_future::PollProgress> = Arc::clone(row) as _;
        let poller = self.poller.clone().progress(progress);
        // Pinned here: a future that is handed over by value is kept twice.
        let polled = pin!(async {
            match &self.announcements {
                Some(announcements) => poller.poll_announced(promise, announcements).await,
                None => poller.poll(promise).await,
            }
        });
        let payload = match unless_stopped(stop, polled).await {
            Ok(polled) => polled?,
            Err(Abandoned) => {
                if let Some(connection) = self.holder.connected() {
                    connection.cancellations.cancel(&request_id);
                }
                return Err(Stopped::Abandoned);
            }
        };
        let result = result::read(&payload, sequence_ids, expectations).map_err(|error| {
            Error::decode(error, &request_id, row.polls(), row.age()).of(payload.encoding)
        })?;
        let tokens: usize = result.sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        contract::TOKENS.add([SAMPLE, "out"], tokens as u64);
        Ok(result)
    }
}

async fn place_in(places: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    // The semaphore is never closed.
    Arc::clone(places?).acquire_owned().await.ok()
}

/// Whether a sequence id is as good as new: no attempt reached the server, or every attempt that did was refused for
/// now (429) and the call ended for another reason. A refusal that is final has used the id up.
fn never_counted(error: &HttpError) -> bool {
    match error.delivery() {
        Delivery::NeverSent => true,
        Delivery::Rejected => error.kind() != HttpErrorKind::Status,
        Delivery::Uncertain => false,
    }
}

async fn unless_stopped<T>(stop: StopSignal<'_>, work: impl Future<Output = T>) -> Result<T, Abandoned> {
    tokio::select! {
        // A sample that is abandoned already must not begin anything new.
        biased;
        () = stop => Err(Abandoned),
        value = work => Ok(value),
    }
}
