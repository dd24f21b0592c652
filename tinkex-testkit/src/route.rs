//! Route patterns: which requests a script, a counter or an assertion is about.

/// A route after `/api/v1/`, in which a `*` segment stands for any one segment, and `**` as the last segment for any
/// number of them, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoutePattern(String);

impl RoutePattern {
    pub(crate) fn new(pattern: &str) -> Self {
        let pattern = pattern.trim_start_matches('/');
        Self(pattern.strip_prefix("api/v1/").unwrap_or(pattern).to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names one route only.
    pub(crate) fn is_exact(&self) -> bool {
        !self.0.split('/').any(|segment| segment == "*" || segment == "**")
    }

    pub(crate) fn matches(&self, route: &str) -> bool {
        let mut pattern = self.0.split('/');
        let mut route = route.split('/');
        loop {
            match (pattern.next(), route.next()) {
                (Some("**"), _) => return true,
                (Some(wanted), Some(given)) if wanted == "*" || wanted == given => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RoutePattern;

    #[test]
    fn wildcards_stand_for_one_segment_and_double_ones_for_the_rest() {
        for (pattern, route, matches) in [
            ("asample", "asample", true),
            ("/api/v1/asample", "asample", true),
            ("asample", "asamples", false),
            ("asample", "asample/x", false),
            ("sessions/*/finish", "sessions/abc/finish", true),
            ("sessions/*/finish", "sessions/abc", false),
            ("sessions/*/finish", "sessions/a/b/finish", false),
            ("sessions/**", "sessions/a/b/finish", true),
            ("sessions/**", "samplers/a", false),
            ("**", "anything/at/all", true),
            ("*", "asample", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(RoutePattern::new(pattern).matches(route), matches, "{pattern} against {route}");
        }
    }
}
