//! What is in flight: the table for people, the JSON for programs, and the dump of a process that seems stuck.

mod dump;
#[cfg(unix)]
mod on_signal;

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_client::{Inflight, SampleHandle, ServiceClient, Stage};
use tinkex_testkit::{FakeServer, Gate, Step};

use crate::harness::{self, MODEL};

const SECOND: Duration = Duration::from_secs(1);

/// One sample in each stage: paused for half a minute and more, being sent for three seconds, and waiting for a place for two.
struct OneInEachStage {
    server: FakeServer,
    service: ServiceClient,
    handles: Vec<SampleHandle>,
    gates: [Gate; 2],
}

impl OneInEachStage {
    async fn forced() -> Self {
        let server = FakeServer::new();
        let service = harness::builder(&server).header("x-secret", "hunter2").build().await.unwrap();
        let sampler = service.sampling_client().base_model(MODEL).max_in_flight(2).create().await.unwrap();
        let [submitting, polling] = [Gate::new(), Gate::new()];
        server.script("asample", [Step::behave(), Step::behave().gate(&submitting)]).then_behave();
        let paused = json!({"queue_state": "paused_capacity", "queue_state_reason": "warming\nup"});
        let paused = Step::status(408).json_body(paused);
        server.script("retrieve_future", [paused, Step::behave().gate(&polling)]).then_behave();
        let mut handles = vec![sampler.sample(harness::request(&[1]))];
        polling.arrived(1).await;
        tokio::time::advance(30 * SECOND).await;
        handles.push(sampler.sample(harness::request(&[2])));
        submitting.arrived(1).await;
        tokio::time::advance(SECOND).await;
        handles.push(sampler.sample(harness::request(&[3])));
        tokio::task::yield_now().await;
        tokio::time::advance(2 * SECOND).await;
        Self { server, service, handles, gates: [submitting, polling] }
    }

    /// Lets all samples end.
    async fn end(self) -> ServiceClient {
        self.gates.iter().for_each(Gate::open);
        for handle in self.handles {
            handle.await.unwrap();
        }
        self.server.verify().unwrap();
        self.service
    }
}

/// The table as it was forced, to the letter.
const TABLE: &str = "\
3 in flight: 1 queued, 1 submitting, 1 polling; oldest 33.0 s
#  request  stage          age  client                request id    polls  queue state      reason
0  Sample   polling     33.0 s  s-0000-0001:sample:0  req-00000001      2  paused_capacity  warming\\nup
1  Sample   submitting   3.0 s  s-0000-0001:sample:0                    0
2  Sample   queued       2.0 s  s-0000-0001:sample:0                    0";

/// A text with the session's id replaced by one that is the same in every run.
fn with_fixed_ids(text: &str, service: &ServiceClient) -> String {
    let session = service.session_id().unwrap();
    assert_eq!(session.len(), SESSION.len());
    text.replace(&*session, SESSION)
}

const SESSION: &str = "s-0000-0001";

/// A stuck run is diagnosed from this: what waits where, for how long, and what the server says. The text is exact, and so is
/// the JSON, down to the order of its fields.
#[tokio::test(start_paused = true)]
async fn a_table_and_json_of_one_request_in_each_stage() {
    let forced = OneInEachStage::forced().await;
    let inflight = forced.service.inflight();
    assert_eq!(with_fixed_ids(&inflight.to_string(), &forced.service), TABLE);

    let client_id = &inflight[0].client_id;
    let ages: Vec<_> = inflight.iter().map(|request| request.age.as_secs_f64()).collect();
    assert_eq!(ages[1..], [3.0, 2.0]);
    assert!((33.0..33.1).contains(&ages[0]), "one fast poll, and what the clock was moved by: {ages:?}");
    let expected = format!(
        "{{\"count\":3,\"queued\":1,\"submitting\":1,\"polling\":1,\"oldest_age_seconds\":{0:?},\"requests\":[\
         {{\"number\":0,\"request_type\":\"Sample\",\"stage\":\"polling\",\"age_seconds\":{0:?},\
         \"client_id\":\"{client_id}\",\"request_id\":\"req-00000001\",\"polls\":2,\
         \"queue_state\":\"paused_capacity\",\"reason\":\"warming\\nup\"}},\
         {{\"number\":1,\"request_type\":\"Sample\",\"stage\":\"submitting\",\"age_seconds\":3.0,\
         \"client_id\":\"{client_id}\",\"request_id\":null,\"polls\":0,\"queue_state\":null,\"reason\":null}},\
         {{\"number\":2,\"request_type\":\"Sample\",\"stage\":\"queued\",\"age_seconds\":2.0,\
         \"client_id\":\"{client_id}\",\"request_id\":null,\"polls\":0,\"queue_state\":null,\"reason\":null}}]}}",
        ages[0]
    );
    assert_eq!(inflight.to_json(), expected);
    assert_eq!(serde_json::to_string(&inflight[..1]).unwrap().len(), {
        let requests = serde_json::from_str::<Value>(&expected).unwrap()["requests"][0].clone();
        requests.to_string().len() + 2
    });

    let counts = [Stage::Queued, Stage::Submitting, Stage::Polling].map(|stage| inflight.count(stage));
    assert_eq!((counts, inflight.oldest_age()), ([1; 3], Some(inflight[0].age)));
    let by_reference: Vec<_> = (&inflight).into_iter().map(|request| request.number).collect();
    let by_value: Vec<_> = inflight.into_iter().map(|request| request.number).collect();
    assert_eq!((&by_reference, &by_value), (&vec![0, 1, 2], &vec![0, 1, 2]));
    forced.end().await;
}

/// Nothing is said in words, and as JSON in the same form as something.
#[tokio::test(start_paused = true)]
async fn nothing_in_flight() {
    let server = FakeServer::new();
    let inflight = harness::service(&server).await.inflight();
    assert_eq!(inflight.to_string(), "nothing in flight");
    let json = r#"{"count":0,"queued":0,"submitting":0,"polling":0,"oldest_age_seconds":null,"requests":[]}"#;
    assert_eq!(inflight.to_json(), json);
    assert_eq!((inflight.len(), inflight.oldest_age(), &inflight), (0, None, &Inflight::default()));
}

/// Of thousands the oldest fifty are written, and how many more there are; JSON has them all.
#[tokio::test(start_paused = true)]
async fn thousands_are_cut_short_for_people_only() {
    for (count, more) in [(50, None), (51, Some("and 1 more that were started later")), (2_000, None)] {
        let server = FakeServer::new();
        let service = harness::service(&server).await;
        let sampler = service.sampling_client().base_model(MODEL).max_in_flight(1).create().await.unwrap();
        server.script("asample", [Step::hang()]).then_behave();
        let handles: Vec<_> = (0..count).map(|_| sampler.sample(harness::request(&[1]))).collect();
        server.wait_for("asample", 1).await;
        let inflight = service.inflight();
        let text = inflight.to_string();
        let lines: Vec<_> = text.lines().collect();
        let queued = count - 1;
        let first = format!("{count} in flight: {queued} queued, 1 submitting, 0 polling; oldest 0.0 s");
        assert_eq!(lines[0], first);
        assert!(
            lines[2].trim_start().starts_with("0  Sample") && lines[51].starts_with("49  Sample"),
            "{text}"
        );
        let of_two_thousand = (count == 2_000).then_some("and 1950 more that were started later");
        assert_eq!(lines.get(52).copied(), more.or(of_two_thousand));
        assert!(lines.len() <= 53);
        let json: Value = serde_json::from_str(&inflight.to_json()).unwrap();
        assert_eq!((&json["count"], json["requests"].as_array().unwrap().len()), (&json!(count), count));
        drop(handles);
    }
}

/// Ids stand in one piece, however long they are and however odd; a request has one line.
#[tokio::test(start_paused = true)]
async fn ids_are_whole() {
    let server = FakeServer::new();
    let service = harness::service(&server).await;
    server.script("create_model", [Step::hang().repeat(2)]);
    let long = "long-".repeat(60);
    let names = [format!("{long}end"), "odd\n\u{1b}[31m".to_owned()];
    let creations = names.clone().map(|name| {
        let builder = service.lora_training_client(name);
        tokio::spawn(builder.create())
    });
    server.wait_for("create_model", 2).await;
    let text = service.inflight().to_string();
    assert!(text.contains(&format!("  {long}end  ")), "{text}");
    assert!(text.contains("  odd\\n\\u{1b}[31m  ") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    creations.iter().for_each(tokio::task::JoinHandle::abort);
}
