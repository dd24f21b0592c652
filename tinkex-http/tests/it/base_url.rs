//! Addresses of the service (PROTOCOL 2).

use tinkex_http::BaseUrl;

use crate::support::fixture;

fn url(text: &str) -> BaseUrl {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Golden vector: joining. One slash between, whatever stands on either side.
#[test]
fn joins_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/base_url.json"));
    assert_eq!(vector["default"], BaseUrl::PRODUCTION);
    for case in vector["join"].as_array().unwrap() {
        let joined = url(case["base_url"].as_str().unwrap()).join(case["path"].as_str().unwrap());
        assert_eq!(case["url"], joined.as_str(), "{case}");
    }
}

/// Golden vector: what a given address becomes. (Where it comes from is the client's to resolve.)
#[test]
fn normalises_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/base_url.json"));
    for case in vector["resolve"].as_array().unwrap() {
        let given = [&case["argument"], &case["TINKER_BASE_URL"]]
            .into_iter()
            .find_map(|text| text.as_str().filter(|text| !text.is_empty()))
            .unwrap_or(BaseUrl::PRODUCTION);
        assert_eq!(case["resolved"], url(given).as_str(), "{case}");
    }
}

/// S1-13: one service, one text, however it is spelled; the path is part of it (F-05).
#[test]
fn equal_services_are_equal() {
    assert_eq!(url("https://EXAMPLE.com:443"), url("https://example.com/"));
    assert_eq!(url("http://h:80/a//"), url("HTTP://H/a"));
    assert_eq!(url(" https://h/a\n"), url("https://h/a"));
    assert_ne!(url("https://h/a"), url("https://h/b"));
    assert_ne!(url("https://h:444"), url("https://h"));
    assert_ne!(url("http://h"), url("https://h"));
    assert_eq!(url("http://[::1]:8000/").as_str(), "http://[::1]:8000");
}

#[test]
fn the_production_service_is_known_by_its_host() {
    assert_eq!(BaseUrl::production(), url(BaseUrl::PRODUCTION));
    assert!(BaseUrl::production().is_production());
    assert!(url("https://TINKER.thinkingmachines.dev/services/other").is_production());
    assert!(!url("https://tinker.thinkingmachines.dev.example.com").is_production());
    assert!(!url("http://127.0.0.1:8000").is_production());
    assert_eq!(url("https://h.example:1/x").host(), "h.example");
}

/// "Bad input gets a clear typed error": the field, the problem, and what was given.
#[test]
fn refuses_what_is_no_address() {
    for (text, message) in [
        ("", "base URL is not a URL: relative URL without a base (got \"\")"),
        ("example.com", "base URL is not a URL: relative URL without a base (got \"example.com\")"),
        ("localhost:8000", "base URL must begin with http:// or https:// (got \"localhost:8000\")"),
        ("ftp://h/x", "base URL must begin with http:// or https:// (got \"ftp://h/x\")"),
        (
            "tinker://run/weights/a",
            "base URL must begin with http:// or https:// (got \"tinker://run/weights/a\")",
        ),
        ("https://", "base URL is not a URL: empty host (got \"https://\")"),
        ("https://h:99999", "base URL is not a URL: invalid port number (got \"https://h:99999\")"),
        ("https://h/x#y", "base URL must not carry a query or fragment (got \"https://h/x…\")"),
    ] {
        let error = text.parse::<BaseUrl>().unwrap_err();
        assert_eq!(error.to_string(), message, "{text:?}");
        assert_eq!(error.field(), "base URL");
    }
}

/// What may be a secret is in no message: passwords and queries.
#[test]
fn messages_hold_no_secret() {
    for text in [
        "https://user:hunter2@h/x",
        "ftp://user:hunter2@h/x",
        "https://user:hunter2@h:99999/x",
        "https://user:hunter2@ho st/x",
        "https://hunter2@h",
        "hunter2@h://x",
        "https://h/x?key=hunter2",
        "ftp://h/x?key=hunter2",
        "https://h/x#hunter2",
    ] {
        let error = text.parse::<BaseUrl>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
    }
    let error = "https://u:p@h/x".parse::<BaseUrl>().unwrap_err().to_string();
    assert!(error.contains("pass an API key instead (got \"https://…@h/x\")"), "{error}");
}
