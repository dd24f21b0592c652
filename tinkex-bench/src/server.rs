//! The server: the testkit's socket face over answers made beforehand, so cheap, and the same for all contenders.
//!
//! Every run talks to a base path of its own, which says what the server is to do: how long a sample takes, and
//! whether results are announced to a session poller. The server keeps nothing about a sample: its id says when it is
//! ready. What it keeps of a run are the promises not yet announced, and when heartbeats came.

mod announcements;
mod heartbeats;
mod run;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use tinkex_testkit::{Behaviour, FakeServer, Received, Reply};
use tinkex_types::proto;
use tokio::time::{Instant, sleep_until};

pub(crate) use heartbeats::Heartbeats;
use run::Run;
pub(crate) use run::RunPath;

/// Tokens in every result.
pub(crate) const SAMPLED_TOKENS: usize = 32;
/// A long poll without a result ends after this long, as the real service does it.
const HOLD: Duration = Duration::from_secs(30);

/// Serves until the process is ended. Prints its URL first.
pub(crate) fn run() -> Result<(), crate::AnyError> {
    // Every connection is an open file.
    rlimit::increase_nofile_limit(u64::MAX)?;
    crate::runtime()?.block_on(async {
        let server = FakeServer::with(Canned::new());
        server.record_limit(0);
        let socket = server.listen().await?;
        println!("{}", socket.url());
        std::io::stdout().flush()?;
        std::future::pending::<()>().await;
        Ok(())
    })
}

struct Canned {
    began: Instant,
    result: Reply,
    empty: Reply,
    runs: Mutex<HashMap<String, Arc<Run>>>,
}

#[derive(Deserialize)]
struct Retrieve<'a> {
    request_id: &'a str,
}

impl Canned {
    fn new() -> Self {
        let (result, empty) = (Reply::proto(result()), Reply::json(200, &json!({})));
        Self { began: Instant::now(), result, empty, runs: Mutex::default() }
    }

    /// The run that a request belongs to; none where the path names none.
    fn run(&self, request: &Received) -> Option<Arc<Run>> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = runs.get(&request.base_path) {
            return Some(Arc::clone(run));
        }
        let run = Arc::new(Run::new(RunPath::parse(&request.base_path)?, request.at));
        runs.insert(request.base_path.clone(), Arc::clone(&run));
        Some(run)
    }

    async fn answer(&self, request: &Received) -> Reply {
        let Some(run) = self.run(request) else {
            return Reply::detail(404, format!("{:?} is not the path of a run", request.base_path));
        };
        match request.route() {
            "asample" => self.accept(&run, request),
            "retrieve_future" => self.retrieve(request).await,
            "retrieve_futures" => run.announcements.poll(&request.body, HOLD).await,
            "session_heartbeat" => {
                run.heartbeats().beat(request.at);
                self.empty.clone()
            }
            "client/config" => Reply::json(200, &run.path.flags()),
            "create_session" => Reply::json(200, &json!({ "session_id": "s-1" })),
            "create_sampling_session" => Reply::json(200, &json!({ "sampling_session_id": "s-1:sample:0" })),
            "bench/heartbeats" => Reply::json(200, &json!(run.heartbeats().summary())),
            _ => self.empty.clone(),
        }
    }

    fn accept(&self, run: &Run, request: &Received) -> Reply {
        let ready = request.at + run.path.reply_time;
        // The index makes it unlike any other; the rest says when it is ready.
        let micros = ready.saturating_duration_since(self.began).as_micros();
        let id = format!("{}-{micros}", request.index);
        let body = format!(r#"{{"request_id":"{id}","sample_sequence_ids":["q-{}"]}}"#, request.index);
        if run.path.announces() {
            run.announcements.expect(id, ready);
        }
        run.heartbeats().seen(request.at);
        Reply::raw(200, body, "application/json")
    }

    async fn retrieve(&self, request: &Received) -> Reply {
        let micros = serde_json::from_slice::<Retrieve<'_>>(&request.body)
            .ok()
            .and_then(|body| body.request_id.split_once('-')?.1.parse().ok());
        let Some(micros) = micros else {
            return Reply::detail(404, "unknown request id");
        };
        let ready = self.began + Duration::from_micros(micros);
        if ready > request.at + HOLD {
            sleep_until(request.at + HOLD).await;
            return Reply::json(408, &json!({}));
        }
        if ready > Instant::now() {
            sleep_until(ready).await;
        }
        self.result.clone()
    }
}

impl Behaviour for Canned {
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        Box::pin(self.answer(request))
    }
}

/// One sequence with log-probabilities.
pub(crate) fn result() -> Vec<u8> {
    let tokens: Vec<u8> = (0..SAMPLED_TOKENS as i32).flat_map(i32::to_le_bytes).collect();
    let logprobs: Vec<u8> = (0..SAMPLED_TOKENS).flat_map(|_| (-0.5_f32).to_le_bytes()).collect();
    let sequence = proto::SampledSequence {
        stop_reason: proto::StopReason::Length.into(),
        tokens: tokens.into(),
        logprobs: Some(logprobs.into()),
        topk_sampled_logprobs: None,
    };
    let message = proto::SampleResponse { sequences: vec![sequence], ..proto::SampleResponse::default() };
    prost::Message::encode_to_vec(&message)
}
