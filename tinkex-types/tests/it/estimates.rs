//! Estimated bytes of a sampling request (PROTOCOL 15.4, golden `chunking` and `sampling_backpressure`).

use tinkex_types::{AudioChunk, ImageAssetPointerChunk, ImageChunk, ImageFormat, ModelInput};

use crate::support::fixture;

fn image(bytes: usize) -> ImageChunk {
    ImageChunk { data: vec![0; bytes].into(), format: ImageFormat::Jpeg, expected_tokens: Some(9) }
}

fn pointer(location: &str) -> ImageAssetPointerChunk {
    ImageAssetPointerChunk {
        format: ImageFormat::Png,
        location: location.to_owned(),
        expected_tokens: Some(9),
    }
}

fn audio(bytes: usize) -> AudioChunk {
    AudioChunk { dmel: vec![0; bytes].into() }
}

#[test]
fn prompts_weigh_what_the_reference_sdk_says() {
    let vector = fixture(include_str!("../fixtures/chunking.json"));
    for case in vector["sample_prompt_estimates"].as_array().unwrap() {
        let empty = ModelInput::default();
        let prompt = match case["name"].as_str().unwrap() {
            "text" => empty.with_tokens(vec![1; 10]),
            "image" => empty.with_image(image(123)),
            "pointer" => empty.with_image_asset(pointer("tinker://i/1")),
            "dmel" => empty.with_audio(audio(77)),
            // Two tokens and twelve characters.
            "mixed" => empty.with_tokens([1, 2]).with_image_asset(pointer("tinker://i/1")),
            other => panic!("a new case: {other}"),
        };
        assert_eq!(case["estimated_bytes"].as_u64(), Some(prompt.sample_bytes()), "{case}");
    }
}

#[test]
fn long_prompts_weigh_ten_bytes_a_token() {
    let vector = fixture(include_str!("../fixtures/sampling_backpressure.json"));
    let cases = vector["cases"].as_array().unwrap();
    let sized: Vec<_> = cases.iter().filter(|case| case["case"] == "backoff_duration").collect();
    assert_eq!(sized.len(), 2);
    for case in sized {
        let tokens = usize::try_from(case["prompt_tokens"].as_u64().unwrap()).unwrap();
        let prompt = ModelInput::from_ints(vec![0; tokens]);
        assert_eq!(case["estimated_bytes"].as_u64(), Some(prompt.sample_bytes()));
        // The bound between a pause of one second and of five.
        assert_eq!(prompt.sample_bytes() <= 131_072, case["expected_seconds"] == 1);
    }
    assert_eq!(ModelInput::default().sample_bytes(), 0);
    let wide = ModelInput::default().with_image_asset(pointer("äöü"));
    assert_eq!(wide.sample_bytes(), 3, "characters, not bytes");
}
