//! The control routes: an outside program, in whatever language, scripts the server and reads its log over HTTP.
//!
//! | request | meaning |
//! |---|---|
//! | `POST /control/script` | adds a script, see [`carry_out`] |
//! | `GET /control/requests?route=asample` | the log: `[{"index","method","base_path","path","query","headers","json","at_seconds","connection"}]` |
//! | `GET /control/verify` | `{"ok","violations","leftovers"}` |
//! | `POST /control/gate` | `{"name","open":true}` opens a named gate, `false` closes it, `{"name","release":2}` lets two through |
//! | `POST /control/reset` | forgets scripts, log and the behaviour's state |
//! | `POST /control/<other>` | is the behaviour's, such as `config` |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::Core;
use crate::route::RoutePattern;
use crate::script::Ending;
use crate::{Received, Reply, Step};

/// Headers whose values never leave the server.
const SECRET: [&str; 5] =
    ["x-api-key", "authorization", "x-tinker-weights-access-token", "cookie", "proxy-authorization"];

/// Carries a command out. None where the request is no command.
///
/// A script is `{"route", "steps": [..], "then": "fail" | "behave" | "repeat_last", "when": {field: value}}`; `when`
/// compares members of the request's JSON body. See [`StepText`] for steps.
pub(crate) fn carry_out(core: &Arc<Core>, request: &Received) -> Option<Reply> {
    let command = request.path.strip_prefix("/control/")?;
    let empty = Value::Object(Map::new());
    let body = request.json().unwrap_or(&empty);
    let reply = match command {
        "script" => reported(add_script(core, body)),
        "gate" => reported(work_gate(core, body)),
        "requests" => Reply::json(200, &requests(core, request.query.as_deref().unwrap_or_default())),
        "verify" => {
            let (violations, leftovers) = core.judge();
            let ok = violations.is_empty() && leftovers.is_empty();
            Reply::json(200, &json!({ "ok": ok, "violations": violations, "leftovers": leftovers }))
        }
        "reset" => {
            core.reset();
            core.behaviour.control("reset", body).unwrap_or_else(|| Reply::json(200, &json!({})))
        }
        other => core
            .behaviour
            .control(other, body)
            .unwrap_or_else(|| Reply::detail(404, format!("unknown control command {other:?}"))),
    };
    Some(reply)
}

fn reported(result: Result<(), String>) -> Reply {
    match result {
        Ok(()) => Reply::json(200, &json!({})),
        Err(text) => Reply::detail(400, text),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptText {
    route: String,
    steps: Vec<StepText>,
    #[serde(default)]
    then: Then,
    #[serde(default)]
    when: Map<String, Value>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    #[default]
    Fail,
    Behave,
    RepeatLast,
}

/// A step as JSON. Either `behave`, or `status` with `json`, `text` or nothing as its body; or a `fault`, by the
/// name of the constructor of [`Step`]. `"fault": "lose"` processes the request first.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StepText {
    behave: bool,
    status: Option<u16>,
    json: Option<Value>,
    text: Option<String>,
    content_type: Option<String>,
    headers: BTreeMap<String, HeaderText>,
    fault: Option<String>,
    /// For `close_mid_body`: how many bytes of the body are sent.
    bytes: usize,
    delay_ms: u64,
    gate: Option<String>,
    gzip: bool,
    zstd: bool,
    repeat: Option<usize>,
}

/// One value of a header, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderText {
    One(String),
    Several(Vec<String>),
}

fn add_script(core: &Arc<Core>, body: &Value) -> Result<(), String> {
    let script = ScriptText::deserialize(body).map_err(|e| e.to_string())?;
    let steps = script.steps.into_iter().map(|step| step.into_step(core)).collect::<Result<Vec<_>, _>>()?;
    let when = script.when;
    let id = if when.is_empty() {
        core.add_script(&script.route, None, steps)
    } else {
        let holds =
            move |request: &Received| when.iter().all(|(name, value)| request.field(name) == Some(value));
        core.add_script(&script.route, Some(Arc::new(holds)), steps)
    };
    let ending = match script.then {
        Then::Fail => Ending::Fail,
        Then::Behave => Ending::Behave,
        Then::RepeatLast => Ending::RepeatLast,
    };
    core.with_lines(id, |lines| lines.end_with(ending));
    Ok(())
}

impl StepText {
    fn into_step(self, core: &Core) -> Result<Step, String> {
        let mut step = match (&self.json, &self.text) {
            (Some(value), _) => Step::json(value.clone()).with_status(self.status.unwrap_or(200)),
            (None, Some(text)) => {
                let reply = Reply::raw(self.status.unwrap_or(200), text.clone(), "text/plain");
                Step::reply(reply)
            }
            (None, None) => match self.status {
                Some(status) if !self.behave => Step::status(status),
                Some(status) => Step::behave().with_status(status),
                None => Step::behave(),
            },
        };
        step = match self.fault.as_deref() {
            None => step,
            Some("lose") => step.then_lose(),
            Some("close_mid_body") => step.then_close_mid_body(self.bytes),
            Some("stall_after_headers") => step.then_stall_after_headers(),
            Some("wrong_content_length") => step.then_wrong_content_length(),
            Some("wrong_content_type") => step.header("content-type", "text/html"),
            Some("refuse") => Step::refuse(),
            Some("reset") => Step::reset(),
            Some("close_before_headers") => Step::close_before_headers(),
            Some("hang") => Step::hang(),
            Some("garbage") => {
                Step::garbage(self.text.unwrap_or_else(|| "this is not HTTP\r\n\r\n".to_owned()))
            }
            Some(other) => return Err(format!("unknown fault {other:?}")),
        };
        if let Some(content_type) = &self.content_type {
            step = step.header("content-type", content_type);
        }
        for (name, values) in &self.headers {
            let values = match values {
                HeaderText::One(value) => std::slice::from_ref(value),
                HeaderText::Several(values) => values,
            };
            for value in values {
                step = step.header(name, value);
            }
        }
        if self.gzip {
            step = step.gzip();
        }
        if self.zstd {
            step = step.zstd();
        }
        if let Some(name) = &self.gate {
            step = step.gate(&core.named_gate(name));
        }
        Ok(step.delay(Duration::from_millis(self.delay_ms)).repeat(self.repeat.unwrap_or(1)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GateText {
    name: String,
    open: Option<bool>,
    #[serde(default)]
    release: usize,
}

fn work_gate(core: &Core, body: &Value) -> Result<(), String> {
    let text = GateText::deserialize(body).map_err(|e| e.to_string())?;
    let gate = core.named_gate(&text.name);
    match text.open {
        Some(true) => gate.open(),
        Some(false) => gate.close(),
        None => gate.release(text.release),
    }
    Ok(())
}

fn requests(core: &Core, query: &str) -> Value {
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "route");
    let route = RoutePattern::new(asked.as_ref().map_or("**", |(_, pattern)| pattern));
    let requests = core.state().log.requests(&route);
    let entries = requests.iter().map(|request| {
        json!({
            "index": request.index,
            "method": request.method.as_str(),
            "base_path": request.base_path,
            "path": request.path,
            "query": request.query,
            "headers": headers(request),
            "json": request.json(),
            "seq_id": request.seq_id(),
            "body_bytes": request.body.len(),
            "at_seconds": (request.at - core.began).as_secs_f64(),
            "connection": request.connection,
        })
    });
    Value::Array(entries.collect())
}

/// Headers by lower-case name; several values of one name are joined by commas. Secrets are left out.
fn headers(request: &Received) -> Value {
    let names = request.headers.keys().map(|name| {
        let values =
            request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let text = match SECRET.contains(&name.as_str()) {
            true => "[redacted]".to_owned(),
            false => values.collect::<Vec<_>>().join(", "),
        };
        (name.as_str().to_owned(), Value::from(text))
    });
    Value::Object(names.collect())
}
