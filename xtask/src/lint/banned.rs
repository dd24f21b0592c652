//! Crates that must not be reachable from a member: HTTP stacks below the HTTP layer, TLS without its feature.
//!
//! The check reads `cargo tree`, so it sees what would really be built, for every platform.

use super::verdict;
use crate::process;
use crate::workspace::Workspace;

/// HTTP clients, servers and the types they share.
const HTTP: &[&str] = &[
    "actix-web",
    "attohttpc",
    "axum",
    "curl",
    "h2",
    "h3",
    "http",
    "http-body",
    "http-body-util",
    "hyper",
    "hyper-util",
    "isahc",
    "reqwest",
    "surf",
    "tower-http",
    "ureq",
    "warp",
    "wiremock",
];
/// HTTP engines: what `tinkex-http` must not bring along unasked. The vocabulary crate `http` is its public interface.
const ENGINES: &[&str] = &[
    "attohttpc",
    "axum",
    "curl",
    "h2",
    "h3",
    "hyper",
    "hyper-util",
    "isahc",
    "reqwest",
    "surf",
    "ureq",
    "wiremock",
];
/// TLS stacks and their bindings.
const TLS: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "hyper-boring",
    "hyper-openssl",
    "hyper-rustls",
    "hyper-tls",
    "native-tls",
    "openssl",
    "openssl-sys",
    "ring",
    "rustls",
    "rustls-webpki",
    "schannel",
    "security-framework",
    "tokio-native-tls",
    "tokio-openssl",
    "tokio-rustls",
];

/// What one member must not reach, under which features and kinds of dependencies.
struct Rule {
    package: &'static str,
    /// Arguments that select features and edges.
    scope: &'static [&'static str],
    banned: &'static [&'static [&'static str]],
}

const RULES: &[Rule] = &[
    // The pure crates: strict, tests and every feature included.
    Rule { package: "tinkex-types", scope: &["--all-features"], banned: &[HTTP, TLS] },
    Rule { package: "tinkex-types", scope: &["-e", "normal"], banned: &[&["tokio", "mio", "socket2"]] },
    Rule { package: "tinkex-future", scope: &["--all-features"], banned: &[HTTP, TLS] },
    Rule { package: "tinkex-observer", scope: &["--features", "prometheus"], banned: &[HTTP, TLS] },
    // Its listener is an HTTP server, without TLS and without a client.
    Rule {
        package: "tinkex-observer",
        scope: &["--all-features"],
        banned: &[&["reqwest", "ureq", "axum"], TLS],
    },
    // Everything above them: nothing unasked.
    Rule {
        package: "tinkex-http",
        scope: &["-e", "normal", "--no-default-features"],
        banned: &[ENGINES, TLS],
    },
    // The adapter for services brings the vocabulary of bodies and of services, and no engine.
    Rule {
        package: "tinkex-http",
        scope: &["-e", "normal", "--no-default-features", "--features", "tower"],
        banned: &[ENGINES, TLS, &["tower"]],
    },
    Rule {
        package: "tinkex-client",
        scope: &["-e", "normal", "--no-default-features"],
        banned: &[ENGINES, TLS],
    },
    // It measures plain connections, and every workspace-wide test run builds it.
    Rule { package: "tinkex-bench", scope: &["-e", "normal"], banned: &[TLS] },
    // It speaks HTTP/2 as a server; TLS only where its feature asks for it.
    Rule { package: "tinkex-testkit", scope: &["-e", "normal"], banned: &[&["reqwest"], TLS] },
    // It talks to a local Prometheus.
    Rule { package: "tinkex-dashboard", scope: &["-e", "normal"], banned: &[TLS] },
    // The task runner stays light.
    Rule {
        package: "xtask",
        scope: &[],
        banned: &[HTTP, TLS, &["tokio", "prost", "prost-build", "protox", "clap"]],
    },
];

/// Looks for banned crates in what every rule's package would build.
pub(super) fn check(workspace: &Workspace) -> Result<(), String> {
    let mut found = Vec::new();
    for rule in RULES {
        let mut arguments =
            vec!["tree", "--locked", "--prefix", "none", "--target", "all", "-p", rule.package];
        arguments.extend(rule.scope);
        let tree = process::captured(&mut workspace.cargo(&arguments))?;
        for name in reached(&tree, rule.banned) {
            found.push(format!("{} reaches {name} (cargo {})", rule.package, arguments.join(" ")));
        }
    }
    verdict(
        found,
        "`cargo tree -i CRATE` shows the way; put it behind a feature or move the code to another layer",
    )
}

/// The banned names in a flat tree, each once, in order of appearance.
fn reached<'a>(tree: &'a str, banned: &[&[&str]]) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in tree.lines().filter_map(|line| line.split_whitespace().next()) {
        if banned.iter().any(|list| list.contains(&name)) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_compared_and_reported_once() {
        let tree = "tinkex-http v0.1.0 (/somewhere)\nbytes v1.0.0\nhyper v1.0.0\nhyper-ish v0.1.0\nhyper v1.0.0 (*)\n";
        assert_eq!(reached(tree, &[ENGINES]), ["hyper"]);
        assert_eq!(reached(tree, &[TLS]), Vec::<&str>::new());
    }
}
