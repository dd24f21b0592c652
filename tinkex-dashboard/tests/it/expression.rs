//! What a PromQL expression names: selectors of our metrics, and labels to group by. Not a parser: whether it is PromQL
//! at all is for Prometheus to say.

/// A metric with its matchers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector<'a> {
    pub(crate) metric: &'a str,
    pub(crate) matchers: Vec<Matcher<'a>>,
}

/// `label="value"`, or with `!=`, `=~`, `!~`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matcher<'a> {
    pub(crate) label: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) value: &'a str,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every selector of a metric whose name begins with `tinkex_`.
pub(crate) fn selectors(expression: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("tinkex_") {
        rest = &rest[at..];
        let (metric, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        let braces = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        rest = braces.map_or(after, |(_, after)| after);
        found.push(Selector { metric, matchers: braces.map_or(Vec::new(), |(inside, _)| matchers(inside)) });
    }
    found
}

fn matchers(inside: &str) -> Vec<Matcher<'_>> {
    let mut found = Vec::new();
    let mut rest = inside.trim();
    while !rest.is_empty() {
        let (label, after) = rest.split_at(rest.find(|c| !is_name(c)).expect("an operator"));
        let (operator, after) = after.split_at(after.find('"').expect("a quoted value"));
        let (value, after) = after[1..].split_once('"').expect("the end of the value");
        found.push(Matcher { label, operator: operator.trim(), value });
        rest = after.trim_start_matches([',', ' ']);
    }
    found
}

/// The labels after every `by`.
pub(crate) fn groupings(expression: &str) -> Vec<&str> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',')).map(str::trim).collect()
}

#[test]
fn selectors_and_groupings_are_found() {
    let expression = r#"histogram_quantile(0.5, sum by (le, a) (rate(tinkex_x_bucket{a="1", b!~"2|3"}[5m]))) / sum(tinkex_y)"#;
    assert_eq!(groupings(expression), ["le", "a"]);
    assert_eq!(
        selectors(expression),
        [
            Selector {
                metric: "tinkex_x_bucket",
                matchers: vec![
                    Matcher { label: "a", operator: "=", value: "1" },
                    Matcher { label: "b", operator: "!~", value: "2|3" }
                ]
            },
            Selector { metric: "tinkex_y", matchers: Vec::new() },
        ]
    );
}
