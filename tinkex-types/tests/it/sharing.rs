//! Buffers are shared: cloning a prompt of 32k tokens copies nothing.

use tinkex_types::{
    Chunk, ImageChunk, ImageFormat, ModelInput, SampleRequest, SamplingParams, TensorData, Tokens,
};

#[test]
fn cloning_a_long_prompt_shares_its_buffers() {
    let tokens = Tokens::from(vec![7; 32_768]);
    let image =
        ImageChunk { data: vec![1; 1 << 20].into(), format: ImageFormat::Png, expected_tokens: Some(4) };
    let prompt = ModelInput::from_ints(tokens.clone()).with_image(image);
    let request = SampleRequest::new(prompt.clone(), SamplingParams::new());
    for copy in [prompt.clone(), request.prompt.clone(), request.clone().prompt] {
        let [Chunk::EncodedText { tokens: copied }, Chunk::Image(image)] = copy.chunks() else {
            panic!("another shape");
        };
        assert!(copied.shares_buffer_with(&tokens));
        let Chunk::Image(original) = &prompt.chunks()[1] else { panic!("another shape") };
        assert_eq!(image.data.as_ptr(), original.data.as_ptr());
    }
    assert!(!tokens.shares_buffer_with(&Tokens::from(vec![7; 32_768])));
}

#[test]
fn cloning_a_tensor_shares_its_values() {
    let tensor = TensorData::float32(vec![0.5; 4096], &[64, 64]).unwrap();
    let copy = tensor.clone();
    assert_eq!(copy.as_float32().unwrap().as_ptr(), tensor.as_float32().unwrap().as_ptr());
}

/// A prompt in a log line is a few tokens, not 32k.
#[test]
fn long_prompts_print_short() {
    let prompt = ModelInput::from_ints(vec![7; 32_768]);
    let text = format!("{prompt:?}");
    assert!(text.len() < 200 && text.contains("32752 more"), "{text}");
    assert_eq!(format!("{:?}", Tokens::from([1, 2])), "[1, 2]");
    let image = ImageChunk { data: vec![0; 99].into(), format: ImageFormat::Jpeg, expected_tokens: None };
    assert_eq!(format!("{image:?}"), "ImageChunk(jpeg, 99 bytes, None tokens)");
}

#[test]
fn prompts_count_their_tokens() {
    let prompt = ModelInput::from_ints([1, 2]).with_tokens(vec![3]);
    assert_eq!((prompt.token_count(), prompt.is_empty()), (Some(3), false));
    assert_eq!(prompt.tokens().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((ModelInput::default().token_count(), ModelInput::default().is_empty()), (Some(0), true));
    let from: ModelInput = vec![1, 2].into();
    assert_eq!(from, ModelInput::from_ints([1, 2]));
}
