//! Exponential and logarithm from additions, multiplications and divisions only, so that they have the same bits on
//! every machine; a platform's own may differ in the last one.

/// Where [`exp`] stops falling and rising: far enough that every result is a normal number, with room for factors.
const BOUND: f64 = 650.0;

/// Adding it rounds a small number to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52

const LN_2_HIGH: f64 = 0.693_147_180_369_123_8; // its low bits are zero: a product with a small integer is exact
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// One over the factorials from 13 down to 2.
const INVERSE_FACTORIALS: [f64; 12] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// [`ROUND`] for single precision.
const ROUND_SINGLE: f32 = 12_582_912.0; // 1.5 · 2^23

const LN_2_HIGH_SINGLE: f32 = 0.693_359_4; // 355 / 512
const LN_2_LOW_SINGLE: f32 = -2.121_944_4e-4;

/// The series of single precision, from the sixth term of the power series down to the third, fitted to the range.
const SERIES_SINGLE: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// e to the power of `x`, positive and finite: beyond ±650 it stays what it is there. `exp(0)` is exactly 1.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // Without branches, so that a loop over many values runs several at once.
    let x = x.clamp(-BOUND, BOUND);
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = x - power * LN_2_HIGH - power * LN_2_LOW;
    let series = INVERSE_FACTORIALS.iter().fold(0.0, |sum, factor| sum * rest + factor);
    let two_to_the_power = f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52);
    (1.0 + (rest + rest * rest * series)) * two_to_the_power
}

/// [`exp`] for arguments of single precision, to single precision but over the whole range: twice as fast, where 256
/// are needed at every position.
#[inline(always)]
pub(crate) fn exp_single(x: f32) -> f64 {
    let x = x.clamp(-BOUND as f32, BOUND as f32);
    let rounded = x * std::f32::consts::LOG2_E + ROUND_SINGLE;
    let power = rounded - ROUND_SINGLE;
    let rest = x - power * LN_2_HIGH_SINGLE - power * LN_2_LOW_SINGLE;
    let series = SERIES_SINGLE.iter().fold(0.0, |sum, factor| sum * rest + factor);
    let two_to_the_power = f64::from_bits(u64::from(rounded.to_bits()).wrapping_add(1023) << 52);
    f64::from(1.0 + (rest + rest * rest * series)) * two_to_the_power
}

/// The natural logarithm of `x`; what is zero, negative or too small to be a normal number counts as the smallest
/// one. `ln(1)` is exactly 0.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.max(f64::MIN_POSITIVE).to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln m = 2 (s + s³/3 + s⁵/5 + …) with s = (m − 1) / (m + 1), at most 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (1..=11).rev().fold(0.0, |sum, n| square * (sum + 1.0 / f64::from(2 * n + 1)));
    exponent * LN_2_HIGH + (2.0 * (s + s * series) + exponent * LN_2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_agree_with_the_platform_to_the_last_bits_and_are_exact_where_it_matters() {
        assert_eq!((exp(0.0), exp_single(0.0), ln(1.0)), (1.0, 1.0, 0.0));
        for step in -6_500..=6_500 {
            let x = f64::from(step) * 0.099_999;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp({x})");
            let single = x as f32;
            assert!((exp_single(single) / f64::from(single).exp() - 1.0).abs() < 2e-7, "exp_single({x})");
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 3e-16 * y.ln().abs().max(1.0), "ln({y})");
        }
        for step in 1..=1_000 {
            let near = 1.0 - f64::from(step) * 1e-13;
            assert!((ln(near) / near.ln() - 1.0).abs() < 1e-15, "ln({near})");
        }
    }

    #[test]
    fn every_argument_gives_a_finite_result() {
        for x in [f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, 1e-320, -0.0] {
            for y in [exp(x), exp_single(x as f32)] {
                assert!(y.is_normal() && y > 0.0, "exp({x})");
            }
        }
        for x in [0.0, -1.0, 1e-320, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(ln(x), f64::MIN_POSITIVE.ln(), "ln({x})");
        }
    }
}
