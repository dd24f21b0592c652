//! The flags a server sets for its clients (PROTOCOL 4).

use serde::{Deserialize, Serialize};

use crate::lenient;

/// The body of both configuration requests (PROTOCOL 4).
#[derive(Clone, Debug, Serialize)]
pub struct ClientConfigRequest<'a> {
    /// The protocol version the client speaks.
    pub sdk_version: &'a str,
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[non_exhaustive]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// Reads what is there: a missing, null or mistyped flag keeps its default, an unknown one is ignored.
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                struct Sent { $(#[serde(default, deserialize_with = "lenient::or_default")] $field: Option<$kind>,)* }
                let sent = Sent::deserialize(deserializer)?;
                let default = Self::default();
                Ok(Self { $($field: sent.$field.unwrap_or(default.$field),)* })
            }
        }
    };
}

flags! {
    /// The start-up flags (PROTOCOL 4.1).
    ClientConfig {
        /// Exchange the credential for a JWT.
        pjwt_auth_enabled: bool = false,
        /// Where the credential for the exchange comes from: `api_key` or `credential_cmd`.
        credential_default_source: String = "api_key".to_owned(),
        /// Budget of estimated prompt bytes being submitted, in bytes.
        sample_dispatch_bytes_semaphore_size: u64 = 10_485_760,
        /// Budget of announced result bytes being fetched, in bytes.
        inflight_response_bytes_semaphore_size: u64 = 52_428_800,
        /// Chunks of one forward/backward pass are submitted at once.
        parallel_fwdbwd_chunks: bool = true,
        /// Compress forward/backward bodies with zstd.
        proto_compress_fwdbwd: bool = false,
        /// The most datums in a chunk.
        fwdbwd_max_chunk_len: u64 = 1024,
        /// The most estimated bytes in a chunk.
        fwdbwd_max_chunk_bytes_count: u64 = 5_000_000,
        /// Budget of estimated chunk bytes being submitted, in bytes.
        fwdbwd_dispatch_bytes_semaphore_size: u64 = 50_000_000,
        /// How long a billing pause (402) is waited out, in seconds.
        billing_exception_max_pause_duration_sec: u64 = 3600,
        /// Sampling is not retried and not limited in concurrency.
        sample_no_retries: bool = false,
        /// Samples that make no progress are given up.
        sample_enable_stuck_detection: bool = true,
        /// The most samples in flight per sampling session.
        sample_max_concurrent_requests: u64 = 2000,
        /// Selects the reference SDK's HTTP backend; no wire effect.
        use_pyqwest_transport: bool = true,
        /// One poller per sampling client announces results.
        sample_use_retrieve_futures: bool = false,
        /// Custom losses run on the server.
        custom_loss_server_side: bool = false,
        /// Clones obtain their block of sequence ids from the server.
        sample_join_sampling_session: bool = false,
    }
}

flags! {
    /// The flags that are fetched again while a session lives (PROTOCOL 4.2).
    DynamicConfig {
        /// Seconds between fetches; at least 10 are waited.
        refresh_interval_sec: u64 = 300,
        /// Abandoned samples are cancelled on the server.
        sample_cancel_enabled: bool = false,
        /// The most cancellations sent at once.
        sample_cancel_max_batch_size: u64 = 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROTOCOL 4.1: every flag is optional, unknown ones are ignored, mistyped ones keep their default.
    #[test]
    fn reads_what_is_there() {
        let config: ClientConfig = serde_json::from_str(
            r#"{"sample_max_concurrent_requests": 7, "sample_no_retries": null, "parallel_fwdbwd_chunks": "x", "new": 1}"#,
        )
        .unwrap();
        let expected = ClientConfig { sample_max_concurrent_requests: 7, ..ClientConfig::default() };
        assert_eq!(config, expected);
    }
}
