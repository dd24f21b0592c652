//! Bad input is refused before anything is sent, and says which argument and why (the issue's "Bad input" line).

use tinkex_types::{
    AudioChunk, CsrIndices, ImageAssetPointerChunk, ImageChunk, ImageFormat, ModelInput, SampleRequest,
    SamplingParams, Stop, TensorData, TensorValues, TinkerPath,
};

use crate::support::fixture;

fn request() -> SampleRequest {
    SampleRequest::new(vec![1, 2, 3], SamplingParams::new())
}

fn with(params: SamplingParams) -> SampleRequest {
    SampleRequest::new(vec![1, 2, 3], params)
}

fn of(prompt: ModelInput) -> SampleRequest {
    SampleRequest::new(prompt, SamplingParams::new())
}

fn image(data: &'static [u8]) -> ImageChunk {
    ImageChunk { data: data.into(), format: ImageFormat::Png, expected_tokens: None }
}

fn asset(location: &str) -> ImageAssetPointerChunk {
    ImageAssetPointerChunk { format: ImageFormat::Png, location: location.to_owned(), expected_tokens: None }
}

#[test]
fn every_bad_argument_is_named() {
    let params = SamplingParams::new;
    let floats = TensorData::float32(vec![0.0; 2], &[2, 1]).unwrap();
    let flat = TensorData::int64(vec![0; 2], &[2]).unwrap();
    let short = TensorData::int64(vec![0; 3], &[3, 1]).unwrap();
    let shapeless: TensorData = serde_json::from_str(r#"{"data": [1], "dtype": "int64"}"#).unwrap();
    for (request, message) in [
        (of(ModelInput::default()), "prompt must not be empty"),
        (of(ModelInput::from_ints(vec![])), "prompt must not be empty"),
        (of(ModelInput::from_ints([]).with_tokens([])), "prompt must not be empty"),
        (of(ModelInput::from_ints([1, -7])), "prompt must not contain the negative token -7"),
        (
            of(ModelInput::from_ints([1]).with_image(image(b""))),
            "prompt must not contain an image without bytes",
        ),
        (
            of(ModelInput::from_ints([1]).with_image_asset(asset(" "))),
            "prompt must not contain an image asset without a location",
        ),
        (
            of(ModelInput::default().with_audio(AudioChunk { dmel: vec![9].into() })),
            "prompt contains audio whose DMel header is malformed",
        ),
        (with(params().temperature(-0.1)), "temperature must be a finite number of at least 0, not -0.1"),
        (with(params().temperature(f64::NAN)), "temperature must be a finite number of at least 0, not NaN"),
        (
            with(params().temperature(f64::INFINITY)),
            "temperature must be a finite number of at least 0, not inf",
        ),
        (with(params().top_p(0.0)), "top_p must be in (0, 1], not 0"),
        (with(params().top_p(1.5)), "top_p must be in (0, 1], not 1.5"),
        (with(params().top_p(f64::NAN)), "top_p must be in (0, 1], not NaN"),
        (with(params().top_k(0)), "top_k must be -1 (unlimited) or at least 1, not 0"),
        (with(params().top_k(-2)), "top_k must be -1 (unlimited) or at least 1, not -2"),
        (with(params().max_tokens(0)), "max_tokens must be at least 1"),
        (with(params().stop("")), "stop must not be empty text; use Stop::never() to disable stopping"),
        (with(params().stop(["a", ""])), "stop must not contain empty text"),
        (with(params().stop([1, -1])), "stop must not contain negative tokens"),
        (request().num_samples(0), "num_samples must be at least 1"),
        (request().prompt_logprobs_last_n(2), "prompt_logprobs_last_n needs prompt_logprobs"),
        (
            request().prompt_logprobs(true).prompt_logprobs_last_n(0),
            "prompt_logprobs_last_n must be at least 1",
        ),
        (request().target_prompt_logprobs(floats), "target_prompt_logprobs must be an int64 tensor"),
        (
            request().target_prompt_logprobs(flat),
            "target_prompt_logprobs must be two-dimensional, not of shape Some([2])",
        ),
        (
            request().target_prompt_logprobs(shapeless),
            "target_prompt_logprobs must be two-dimensional, not of shape None",
        ),
        (
            request().target_prompt_logprobs(short),
            "target_prompt_logprobs must have 2 rows (prompt length - 1), not 3",
        ),
    ] {
        let error = request.validate().unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(message.starts_with(error.field()), "{message}");
    }
}

/// What is unusual and right passes.
#[test]
fn good_arguments_pass() {
    let params = SamplingParams::new;
    let csr = CsrIndices { crow: vec![0, 1, 1].into(), col: vec![4].into() };
    let sparse = TensorData::sparse(TensorValues::Int64(vec![7].into()), csr, 2, 5).unwrap();
    for request in [
        request(),
        with(params().temperature(0.0).top_p(1.0).top_k(-1).max_tokens(1).stop(Stop::never())),
        with(params().top_p(1e-9).top_k(i32::MAX).seed(0).stop([0])),
        request().prompt_logprobs(true).prompt_logprobs_last_n(1),
        request().target_prompt_logprobs(TensorData::int64(vec![-1; 2], &[2, 1]).unwrap()),
        request().target_prompt_logprobs(sparse),
        of(ModelInput::default().with_image(image(b"x"))),
        of(ModelInput::default().with_image_asset(asset("tinker://img/1"))),
        of(ModelInput::default().with_audio(AudioChunk { dmel: vec![0, 1, 3].into() })),
        // How long the prompt is only the server knows, so the rows cannot be checked.
        of(ModelInput::from_ints([1]).with_image(image(b"x")))
            .target_prompt_logprobs(TensorData::int64(vec![0; 9], &[9, 1]).unwrap()),
    ] {
        request.validate().unwrap();
    }
}

/// Golden vector: the rows that concern the arguments of sampling. (Those about results are the client's; a negative
/// k cannot be written in the first place.)
#[test]
fn accepts_and_rejects_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/client_validation.json"));
    let golden = |name: &str| -> bool {
        let case = vector["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        case["ok"].as_bool().unwrap()
    };
    let targets = |tensor: TensorData| request().target_prompt_logprobs(tensor);
    for (name, request) in [
        ("target float32", targets(TensorData::float32(vec![0.0; 4], &[2, 2]).unwrap())),
        ("target 1-D", targets(TensorData::int64(vec![0; 2], &[2]).unwrap())),
        ("target ok", targets(TensorData::int64(vec![0; 4], &[2, 2]).unwrap())),
        ("alt_k 0", request().prompt_alt_tokens_k(0)),
        ("last_n without include", request().prompt_logprobs_last_n(2)),
        ("last_n None", request()),
    ] {
        assert_eq!(request.validate().is_ok(), golden(name), "{name}");
    }
    assert!(!golden("alt_k -1") && u32::try_from(-1).is_err());
}

/// A path that is not `tinker://`.
#[test]
fn paths_must_be_tinker_paths() {
    let error = "s3://bucket/weights".parse::<TinkerPath>().unwrap_err();
    assert_eq!(error.field(), "path");
    assert_eq!(error.to_string(), "path must look like tinker://RUN/KIND/NAME, not \"s3://bucket/weights\"");
    assert!("tinker://run/sampler_weights/é".parse::<TinkerPath>().is_ok());
}
