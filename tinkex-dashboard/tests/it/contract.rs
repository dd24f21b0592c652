//! Every query names metrics, labels and values of the contract, and every metric of the contract is shown. The queries of
//! `docs/dashboard.md` are held to the same.

use std::collections::BTreeSet;

use tinkex_dashboard::dashboard::{Dashboard, TEXT};
use tinkex_metrics::{Description, Kind, Values, contract};

use crate::expression::{Matcher, groupings, selectors};

const ALERTS: &str = include_str!("../../../dashboards/alerts.yml");

/// Labels that Prometheus puts on every series.
const OF_THE_TARGET: [&str; 2] = ["instance", "job"];

/// The metric behind the name of a series, where the suffix fits the kind.
fn metric_of(series: &str) -> Result<&'static Description, String> {
    let named = |name: &str, histogram: bool| {
        contract::ALL
            .iter()
            .find(|metric| metric.name == name && (metric.kind == Kind::Histogram) == histogram)
    };
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix));
    let found = base.and_then(|base| named(base, true)).or_else(|| named(series, false));
    found.ok_or_else(|| format!("{series} is not a series of the contract"))
}

/// What is wrong with an expression.
fn faults(expression: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let selectors = selectors(expression);
    if selectors.is_empty() {
        faults.push("names no metric".to_owned());
    }
    for selector in &selectors {
        let metric = match metric_of(selector.metric) {
            Ok(metric) => metric,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        faults.extend(selector.matchers.iter().filter_map(|matcher| misfit(metric, matcher)));
        for label in groupings(expression) {
            let of_buckets = label == "le" && selector.metric.ends_with("_bucket");
            let own = metric.labels.iter().any(|own| own.name == label);
            if !own && !of_buckets && !OF_THE_TARGET.contains(&label) {
                faults.push(format!("{} has no label {label}", metric.name));
            }
        }
    }
    faults
}

fn misfit(metric: &Description, matcher: &Matcher<'_>) -> Option<String> {
    let Matcher { label, operator, value } = matcher;
    if !["=", "!=", "=~", "!~"].contains(operator) {
        return Some(format!("{operator} is no matcher"));
    }
    if OF_THE_TARGET.contains(label) {
        return None;
    }
    let Some(own) = metric.labels.iter().find(|own| own.name == *label) else {
        return Some(format!("{} has no label {label}", metric.name));
    };
    let alternatives: Vec<_> = match operator.ends_with('~') {
        true => value.split('|').collect(),
        false => vec![*value],
    };
    let unknown = alternatives.into_iter().find(|value| match own.values {
        // A regular expression of more than alternatives would be beyond this check.
        Values::OneOf(_) => !own.values.allow(value),
        Values::Operation => !own.values.allow(value),
    });
    unknown.map(|value| format!("{}: {label} is never {value}", metric.name))
}

#[test]
fn every_query_names_what_the_contract_has() {
    let dashboard = Dashboard::read(TEXT).unwrap();
    let mut found = Vec::new();
    for (panel, graph) in dashboard.graphs() {
        for query in &graph.queries {
            found.extend(
                faults(&query.expression).into_iter().map(|fault| format!("{}: {fault}", panel.title)),
            );
            // A label in a name that is not grouped by would stay empty.
            let in_name = query.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
            let grouped = groupings(&query.expression);
            found.extend(
                in_name
                    .filter(|label| !grouped.contains(label))
                    .map(|label| format!("{}: the legend has {label}, the query has not", panel.title)),
            );
            assert!(
                query.expression.matches(r#"instance=~"$instance""#).count()
                    == selectors(&query.expression).len(),
                "{}: every selector heeds the chosen instances",
                panel.title
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    for variable in &dashboard.variables {
        assert!(selectors(variable).iter().all(|selector| metric_of(selector.metric).is_ok()), "{variable}");
    }
}

#[test]
fn every_metric_is_shown() {
    let dashboard = Dashboard::read(TEXT).unwrap();
    let shown: BTreeSet<_> = dashboard
        .graphs()
        .flat_map(|(_, graph)| &graph.queries)
        .flat_map(|query| selectors(&query.expression))
        .filter_map(|selector| metric_of(selector.metric).ok())
        .map(|metric| metric.name)
        .collect();
    let missing: Vec<_> =
        contract::ALL.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// The check finds each kind of mistake.
#[test]
fn mistakes_are_found() {
    for (expression, fault) in [
        ("sum(up)", "names no metric"),
        ("tinkex_heartbeat_total", "tinkex_heartbeat_total is not a series of the contract"),
        ("tinkex_backoff_wait_seconds", "tinkex_backoff_wait_seconds is not a series of the contract"),
        ("tinkex_heartbeats_total_sum", "tinkex_heartbeats_total_sum is not a series of the contract"),
        (r#"tinkex_heartbeats_total{client="sampling"}"#, "tinkex_heartbeats_total has no label client"),
        (r#"tinkex_heartbeats_total{outcome=~"ok|lost"}"#, "tinkex_heartbeats_total: outcome is never lost"),
        ("sum by (le) (tinkex_heartbeats_total)", "tinkex_heartbeats_total has no label le"),
        ("sum by (cause) (tinkex_heartbeats_total)", "tinkex_heartbeats_total has no label cause"),
    ] {
        assert_eq!(faults(expression), [fault], "{expression}");
    }
    assert_eq!(faults(r#"sum by (le, instance) (tinkex_backoff_wait_seconds_bucket{job="x"})"#), [""; 0]);
}

/// The expressions of `dashboards/alerts.yml` and of `docs/dashboard.md`.
pub(crate) fn documented() -> Vec<String> {
    let document = include_str!("../../../docs/dashboard.md");
    let blocks = document.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let rules = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    blocks.map(|block| block.trim().to_owned()).chain(rules.map(|rule| rule.to_owned())).collect()
}

#[test]
fn documented_queries_name_what_the_contract_has() {
    let documented = documented();
    assert!(documented.len() >= 8, "{documented:?}");
    for expression in documented {
        assert_eq!(faults(&expression), [""; 0], "{expression}");
    }
}
