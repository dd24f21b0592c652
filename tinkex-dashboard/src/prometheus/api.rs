//! The query API.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::Failure;

/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// Asks a Prometheus.
#[derive(Clone, Debug)]
pub struct Api {
    agent: Agent,
    base: String,
}

/// A series: its labels and its values over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Seconds since 1970, and the value then; values that are not numbers are left out.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

impl Api {
    pub(super) fn at(address: &str) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(QUERY_LIMIT))
            .http_status_as_error(false)
            // It is on this machine; a proxy cannot reach it.
            .proxy(None)
            .build();
        Self { agent: agent.into(), base: format!("http://{address}") }
    }

    pub(super) fn ready(&self) -> Result<(), Failure> {
        let status = self.agent.get(format!("{}/-/ready", self.base)).call()?.status();
        if status == 200 { Ok(()) } else { Err(format!("HTTP {status}").into()) }
    }

    /// The series of an expression as of a time.
    ///
    /// # Errors
    ///
    /// What Prometheus says against the expression; that it cannot be reached.
    pub fn at_time(&self, expression: &str, time: f64) -> Result<Vec<Series>, Failure> {
        self.ask("query", expression, &[("time", time)])
    }

    /// The sum of the series of an expression as of a time; 0 where there are none.
    ///
    /// # Errors
    ///
    /// As [`Api::at_time`].
    pub fn sum(&self, expression: &str, time: f64) -> Result<f64, Failure> {
        let series = self.at_time(expression, time)?;
        Ok(series.iter().flat_map(|series| &series.points).map(|(_, value)| value).sum())
    }

    /// The series of an expression from one time to another, in steps of so many seconds.
    ///
    /// # Errors
    ///
    /// As [`Api::at_time`].
    pub fn over(&self, expression: &str, from: f64, to: f64, step: f64) -> Result<Vec<Series>, Failure> {
        self.ask("query_range", expression, &[("start", from), ("end", to), ("step", step)])
    }

    fn ask(&self, what: &str, expression: &str, times: &[(&str, f64)]) -> Result<Vec<Series>, Failure> {
        let mut request = self.agent.get(format!("{}/api/v1/{what}", self.base)).query("query", expression);
        for (name, value) in times {
            request = request.query(*name, format!("{value:.3}"));
        }
        let text = request.call()?.body_mut().read_to_string()?;
        let json: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        if json["status"] != "success" {
            return Err(format!("{expression}: {}", json["error"].as_str().unwrap_or(&text)).into());
        }
        let found = json["data"]["result"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(found.iter().map(series).collect())
    }
}

fn series(json: &Value) -> Series {
    let labels = json["metric"].as_object().into_iter().flatten();
    let mut labels: Vec<_> =
        labels.map(|(label, value)| (label.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    labels.sort();
    let many = json["values"].as_array().into_iter().flatten();
    let one = json.get("value").into_iter();
    let points = many.chain(one).filter_map(point).filter(|(_, value)| value.is_finite()).collect();
    Series { labels, points }
}

fn point(json: &Value) -> Option<(f64, f64)> {
    Some((json.get(0)?.as_f64()?, json.get(1)?.as_str()?.parse().ok()?))
}
