//! Who shares a window with whom.

use std::time::Duration;

use tinkex_client::RetryPolicy;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{asamples, hasty};
use crate::harness::{self, MODEL, assert_within, request};

/// IS-1 to IS-3, S1-12, S1-13, F-05: who shares a window. Another key, another host or another path below the same
/// host do not; the same service and key do, across service clients and however the address is spelled.
#[tokio::test(start_paused = true)]
async fn who_shares_a_window() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Other {
        Key,
        Host,
        Path,
        Client,
        Spelling,
        Slash,
        Sampler,
    }
    use Other::{Client, Host, Key, Path, Sampler, Slash, Spelling};
    for other in [Key, Host, Path, Client, Spelling, Slash, Sampler] {
        let shared = matches!(other, Client | Spelling | Slash | Sampler);
        let server = FakeServer::new();
        let elsewhere = FakeServer::new();
        let (url, key) = (server.url_with_path("services/a"), "tml-one");
        let a = harness::builder(&server).base_url(&url).api_key(key).build().await.unwrap();
        let builder = harness::builder(&server).base_url(&url).api_key(key);
        let b = match other {
            Key => builder.api_key("tml-two").build().await.unwrap(),
            Host => builder
                .base_url(elsewhere.url_with_path("services/a"))
                .transport(harness::transport(&elsewhere))
                .build()
                .await
                .unwrap(),
            Path => builder.base_url(server.url_with_path("services/b")).build().await.unwrap(),
            Client => builder.build().await.unwrap(),
            Spelling => {
                let spelled = url.replace("http://fake-", "HTTP://FAKE-").replace(".test/", ".TEST:80/");
                builder.base_url(spelled).build().await.unwrap()
            }
            Slash => builder.base_url(format!("{url}/")).build().await.unwrap(),
            Sampler => a.clone(),
        };
        let on_a =
            a.sampling_client().base_model(MODEL).retry_policy(RetryPolicy::none()).create().await.unwrap();
        let on_b = b.sampling_client().base_model(MODEL).create().await.unwrap();
        let throttled = Step::status(429).header("retry-after-ms", "400");
        server.script("asample", [throttled]).then_behave();

        let start = Instant::now();
        on_a.sample(request(&[1])).await.unwrap_err();
        assert_eq!((a.in_backoff(), b.in_backoff()), (true, shared), "{other:?}");
        on_b.sample(request(&[1])).await.unwrap();
        let took = start.elapsed().as_secs_f64();
        let bounds = if shared { 0.405..=0.505 } else { 0.005..=0.005 };
        assert_within(took, bounds, &format!("{other:?}"));
    }
}

/// A new client does not escape a window that runs, even where nobody holds the old ones any more.
#[tokio::test(start_paused = true)]
async fn a_new_client_joins_a_running_window() {
    let server = FakeServer::new();
    server.script("asample", [Step::status(429).header("retry-after", "10")]).then_behave();
    let start = Instant::now();
    {
        let client = harness::service(&server).await;
        hasty(&client).await.sample(request(&[1])).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (client, sampler) = harness::sampler(&server).await;
    assert!(client.in_backoff());
    sampler.sample(request(&[1])).await.unwrap();
    assert_within(asamples(&server, start)[1], 10.0..=11.0, "the old window");
}
