//! How many tokens a prompt has, for the metrics.

use tinkex_types::{Chunk, ModelInput};

/// The tokens of all chunks that say how many they have. Images and audio need not.
pub(crate) fn known_tokens(input: &ModelInput) -> u64 {
    input.chunks().iter().filter_map(Chunk::token_count).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use tinkex_types::{ImageAssetPointerChunk, ImageFormat};

    use super::*;

    #[test]
    fn text_counts_beside_an_image_of_unknown_size() {
        let image = |expected_tokens| ImageAssetPointerChunk {
            format: ImageFormat::Png,
            location: "somewhere".to_owned(),
            expected_tokens,
        };
        let input = ModelInput::from_ints([1, 2, 3]).with_image_asset(image(None)).with_tokens([4]);
        assert_eq!(known_tokens(&input), 4);
        assert_eq!(known_tokens(&input.with_image_asset(image(Some(10)))), 14);
    }
}
