//! Bad input: a typed error that names the argument and says what to do, before anything is sent.

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::json;
use tinkex_client::{
    AudioChunk, Chunk, Error, ErrorKind, ImageChunk, ImageFormat, ModelInput, SampleRequest, SamplerHandle,
    SamplingParams, ServiceClient, Stop, TensorData,
};
use tinkex_testkit::{FakeServer, NoBehaviour, Step};

use crate::harness::{self, MODEL};

/// Checks that an error is about input, and says all of `parts`.
#[track_caller]
fn assert_refused(case: &str, error: &Error, parts: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{case}: {error:?}");
    assert!(error.is_user_error() && !error.is_retryable(), "{case}");
    assert_eq!((error.attempts(), error.status(), error.request_id()), (0, None, None), "{case}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{case}: {text:?} should say {part:?}");
    }
}

fn sample(params: SamplingParams) -> SampleRequest {
    SampleRequest::new(vec![1, 2, 3], params)
}

fn of_chunk(chunk: Chunk) -> SampleRequest {
    SampleRequest::new(ModelInput::new(vec![chunk]), SamplingParams::new())
}

/// Every sampling argument that no server can accept (PROTOCOL 15.2, client_validation).
#[tokio::test(start_paused = true)]
async fn sampling_arguments() {
    let params = SamplingParams::new;
    let plain = || sample(params());
    let ints = |values: &[i64], shape: &[u64]| TensorData::int64(values.to_vec(), shape).unwrap();
    let floats = TensorData::float32(vec![0.0; 2], &[2, 1]).unwrap();
    let image = ImageChunk { data: Bytes::new(), format: ImageFormat::Png, expected_tokens: Some(1) };
    let audio = AudioChunk { dmel: Bytes::from_static(&[9]) };
    let cases: Vec<(&str, SampleRequest, &[&str])> = vec![
        ("no prompt", SampleRequest::new(Vec::new(), params()), &["prompt", "empty"]),
        ("no chunks", SampleRequest::new(ModelInput::new(Vec::new()), params()), &["prompt", "empty"]),
        ("a negative token", SampleRequest::new(vec![1, -2], params()), &["prompt", "-2"]),
        ("an image without bytes", of_chunk(Chunk::Image(image)), &["prompt", "image"]),
        ("audio without a header", of_chunk(Chunk::Audio(audio)), &["prompt", "audio"]),
        ("temperature -0.1", sample(params().temperature(-0.1)), &["temperature", "at least 0", "-0.1"]),
        ("temperature NaN", sample(params().temperature(f64::NAN)), &["temperature", "finite"]),
        ("temperature inf", sample(params().temperature(f64::INFINITY)), &["temperature", "finite"]),
        ("top_p 0", sample(params().top_p(0.0)), &["top_p", "(0, 1]"]),
        ("top_p 1.1", sample(params().top_p(1.1)), &["top_p", "(0, 1]", "1.1"]),
        ("top_p NaN", sample(params().top_p(f64::NAN)), &["top_p", "(0, 1]"]),
        ("top_k 0", sample(params().top_k(0)), &["top_k", "-1", "at least 1"]),
        ("top_k -2", sample(params().top_k(-2)), &["top_k", "-2"]),
        ("max_tokens 0", sample(params().max_tokens(0)), &["max_tokens", "at least 1"]),
        ("empty stop", sample(params().stop("")), &["stop", "Stop::never()"]),
        ("empty stop in a list", sample(params().stop(["a", ""])), &["stop", "empty"]),
        ("negative stop token", sample(params().stop([1, -1])), &["stop", "negative"]),
        ("num_samples 0", plain().num_samples(0), &["num_samples", "at least 1"]),
        (
            "last_n without prompt_logprobs",
            plain().prompt_logprobs_last_n(2),
            &["prompt_logprobs_last_n", "needs prompt_logprobs"],
        ),
        (
            "last_n 0",
            plain().prompt_logprobs(true).prompt_logprobs_last_n(0),
            &["prompt_logprobs_last_n", "at least 1"],
        ),
        ("float targets", plain().target_prompt_logprobs(floats), &["target_prompt_logprobs", "int64"]),
        (
            "flat targets",
            plain().target_prompt_logprobs(ints(&[1, 2], &[2])),
            &["target_prompt_logprobs", "two-dimensional"],
        ),
        (
            "targets with a row too many",
            plain().target_prompt_logprobs(ints(&[1, 2, 3], &[3, 1])),
            &["target_prompt_logprobs", "2 rows", "not 3"],
        ),
    ];
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    for (case, request, parts) in cases {
        assert_refused(case, &sampler.sample(request).await.unwrap_err(), parts);
    }
    let refused = sampler.compute_logprobs(Vec::new()).await.unwrap_err();
    assert_refused("logprobs of nothing", &refused, &["prompt", "empty"]);
    let refused = sampler.compute_logprobs_last_n(vec![1], 0).await.unwrap_err();
    assert_refused("the last 0 logprobs", &refused, &["prompt_logprobs_last_n", "at least 1"]);

    assert_eq!(server.count("asample"), 0);
    assert!(service.inflight().is_empty());
    // No sequence id was lost on the way.
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0]);
}

/// What looks odd but is allowed is sent: bounds of the checks.
#[tokio::test(start_paused = true)]
async fn arguments_at_their_bounds() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let params = || SamplingParams::new().max_tokens(1);
    let requests = [
        sample(params().temperature(0.0)),
        sample(params().top_p(1.0)),
        sample(params().top_p(f64::MIN_POSITIVE)),
        sample(params().top_k(1)),
        sample(params().top_k(-1)),
        sample(params().stop(Stop::never())),
        sample(params()).prompt_logprobs(true).prompt_logprobs_last_n(1),
        sample(params()).prompt_alt_tokens_k(0),
        sample(params()).target_prompt_logprobs(TensorData::int64(vec![-1, 5], &[2, 1]).unwrap()),
    ];
    let sent = requests.len() as u64;
    for request in requests {
        sampler.sample(request).await.unwrap();
    }
    assert_eq!(server.count("asample"), sent);
    // The empty list is sent; it means something else than nothing.
    assert_eq!(server.requests("asample")[5].field("sampling_params").unwrap()["stop"], json!([]));
}

/// A tensor whose shape and values disagree cannot be made.
#[test]
fn wrong_tensor_shapes() {
    for (values, shape) in [(3, &[2_u64, 2][..]), (4, &[2, 3]), (1, &[0]), (0, &[]), (1, &[u64::MAX, 2])] {
        let error = TensorData::int64(vec![0; values], shape).unwrap_err();
        assert!(error.to_string().contains("shape"), "{error}");
        let error = Error::from(error);
        assert_refused("tensor", &error, &["tensor", "cannot hold"]);
    }
}

/// Settings of a service client.
#[tokio::test(start_paused = true)]
async fn service_settings() {
    let server = FakeServer::with(NoBehaviour);
    let plain = || ServiceClient::builder().transport(harness::transport(&server));
    let keyed = |key: &str| plain().api_key(key).base_url(server.url());
    let at = |url: &str| plain().api_key("tml-key").base_url(url);
    let cases = [
        ("no key", plain().base_url(server.url()), &["API key", "api_key(", "TINKER_API_KEY"][..]),
        ("blank key", keyed("  "), &["API key", "missing", "TINKER_API_KEY"]),
        ("two lines", keyed("tml-a\nb"), &["API key", "line breaks"]),
        ("a key with umlauts", keyed("tml-ä"), &["API key", "ASCII"]),
        ("a foreign key for production", plain().api_key("sk-123"), &["API key", "tml-"]),
        ("no URL", at("example.com/path"), &["base URL", "example.com/path"]),
        ("another scheme", at("ftp://example.com"), &["base URL", "http://", "https://"]),
        ("a query", at("https://example.com/?a=b"), &["base URL", "query"]),
        ("a password", at("https://me:s3cret@example.com"), &["base URL", "password", "API key"]),
        ("no host", at("http://"), &["base URL"]),
        ("a header name", keyed("tml-k").header("not a name", "x"), &["header", "not a name"]),
        ("a header value", keyed("tml-k").header("x-a", "s3cret\n"), &["header", "x-a"]),
    ];
    for (case, builder, parts) in cases {
        let error = builder.build().await.unwrap_err();
        assert_refused(case, &error, parts);
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("s3cret") && !printed.contains("sk-123"), "{printed}");
    }
    assert_eq!(server.all_requests().len(), 0);
    // Lazily connected clients are checked at once all the same.
    let error = keyed("").connect_lazily().build().await.unwrap_err();
    assert_refused("lazy", &error, &["API key"]);
}

/// A client needs a runtime for its tasks, and says so.
#[test]
fn a_client_outside_a_runtime() {
    let server = FakeServer::with(NoBehaviour);
    let built = harness::builder(&server).build().now_or_never();
    let error = built.expect("refused at once").unwrap_err();
    assert_refused("no runtime", &error, &["runtime"]);
}

/// What a sampler is made of.
#[tokio::test(start_paused = true)]
async fn sampler_settings() {
    let server = FakeServer::new();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let sampler = || service.sampling_client();
    let cases = [
        ("nothing", sampler(), &["model", "base_model(", "model_path("][..]),
        ("a blank model", sampler().base_model(" "), &["base_model", "empty"]),
        ("no scheme", sampler().model_path("run/sampler_weights/x"), &["tinker://"]),
        ("another scheme", sampler().model_path("https://example.com/x"), &["tinker://"]),
        ("no name", sampler().model_path("tinker://run"), &["tinker://"]),
        ("no path", sampler().model_path(""), &["tinker://"]),
        ("no place", sampler().base_model(MODEL).max_in_flight(0), &["max_in_flight", "at least 1"]),
    ];
    for (case, builder, parts) in cases {
        assert_refused(case, &builder.create().await.unwrap_err(), parts);
    }
    assert_eq!(server.all_requests().len(), 0, "not even the session was created");
}

/// Text that is no sampler handle.
#[test]
fn malformed_sampler_handles() {
    for text in ["", "?", "bm90IGpzb24=", "e30="] {
        let error = Error::from(text.parse::<SamplerHandle>().unwrap_err());
        assert_refused(text, &error, &["sampler handle"]);
    }
}

/// A handle whose address or whose need of a key does not fit is refused before anything is sent.
#[tokio::test(start_paused = true)]
async fn sampler_handles_that_cannot_be_opened() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let handle = sampler.handle();
    drop((service, sampler));
    let sent = server.all_requests().len();
    let at = |url: &str| {
        let mut handle = handle.clone();
        handle.holder.base_url = url.to_owned();
        handle
    };
    let bare = || ServiceClient::builder().transport(harness::transport(&server));
    let error = bare().api_key("tml-k").open_sampler(&at("nowhere")).await.unwrap_err();
    assert_refused("no URL", &error, &["base URL", "nowhere"]);
    let error = bare().open_sampler(&handle).await.unwrap_err();
    assert_refused("no key", &error, &["API key"]);
    let production = at("https://tinker.thinkingmachines.dev/services/tinker-prod");
    let error = bare().api_key("sk-1").open_sampler(&production).await.unwrap_err();
    assert_refused("a foreign key", &error, &["API key", "tml-"]);
    assert_eq!(server.all_requests().len(), sent);
}

/// A model the server does not have is its to refuse: typed, told once, with the server's words.
#[tokio::test(start_paused = true)]
async fn an_unknown_base_model() {
    let server = FakeServer::new();
    let service = harness::service(&server).await;
    let error = service.sampling_client().base_model("Qwen/Qwen3-9B").create().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(400), 1));
    assert!(error.is_user_error() && !error.is_retryable());
    assert!(error.to_string().contains("Qwen/Qwen3-9B"), "{error}");
    assert!(error.to_string().contains(MODEL), "it lists what there is: {error}");
    assert_eq!(server.count("create_sampling_session"), 1);
    assert_eq!(server.count("asample"), 0);
}

/// client_validation: a server that ignores an option is found out, instead of the caller reading something else.
#[tokio::test(start_paused = true)]
async fn servers_that_ignore_an_option() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let answer = |logprobs: serde_json::Value| {
        Step::json(json!({ "sequences": [{ "tokens": [1] }], "prompt_logprobs": logprobs }))
    };
    server.script(
        "retrieve_future",
        [
            answer(json!([null, -1.0, -2.0])),
            answer(json!([null, -1.0, -2.0])),
            answer(json!([null, null, -2.0])),
        ],
    );
    let plain = || sample(SamplingParams::new().max_tokens(1)).prompt_logprobs(true);
    let error = sampler.sample(plain().prompt_alt_tokens_k(2)).await.unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("req-00000001")));
    assert!(error.to_string().contains("prompt_alt_tokens_k"), "{error}");
    let error = sampler.sample(plain().prompt_logprobs_last_n(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("prompt_logprobs_last_n"), "{error}");
    let honoured = sampler.sample(plain().prompt_logprobs_last_n(1)).await.unwrap();
    assert_eq!(honoured.prompt_logprobs, Some(vec![None, None, Some(-2.0)]));
}
