//! What a batch says of the process it comes from.

use std::sync::OnceLock;

/// One id for the process, whatever the number of its clients.
pub(super) fn process_uuid() -> &'static str {
    static UUID: OnceLock<String> = OnceLock::new();
    UUID.get_or_init(tinkex_http::random_uuid)
}

/// The name of the operating system, as the reference SDK spells it.
pub(super) fn platform() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        other => other,
    }
}
