//! What a custom loss may look like: names, numbers of inputs and nodes, metric keys (PROTOCOL 13.3).

/// The first input of every custom loss.
pub(super) const LOGPROBS: &str = "logprobs";

/// The most inputs, `logprobs` included.
pub(super) const MAX_INPUTS: usize = 16;

/// The most nodes this crate builds or evaluates.
pub(super) const MAX_NODES: usize = 10_000;

/// Whether a loss or an input may be called so: `[a-z_][a-z0-9_]{0,63}`.
pub(super) fn is_name(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= 64
        && text.bytes().all(rest)
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether a metric may be called so: `custom/[a-z0-9_./-]{1,64}:(sum|mean)`.
pub(super) fn is_metric_key(text: &str) -> bool {
    let name = text
        .strip_prefix("custom/")
        .and_then(|rest| rest.strip_suffix(":sum").or_else(|| rest.strip_suffix(":mean")));
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_./-".contains(&byte);
    name.is_some_and(|name| (1..=64).contains(&name.len()) && name.bytes().all(allowed))
}

/// Whether a metric is averaged over datums rather than summed.
pub(super) fn is_mean(metric_key: &str) -> bool {
    metric_key.ends_with(":mean")
}
