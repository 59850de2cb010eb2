//! This crate's own formats: blocks of 64 weights, a scale in front (f32, little endian), then codes.
//!
//! A value is `scale · level(code)`, where scale is the largest absolute weight of the block: with 8
//! bits `level(c) = c / 127` for c in −127…127, with 4 bits one of the 16 levels of NF4, the
//! quantiles of a normal distribution. The nearest level is taken.
//!
//! 4-bit codes lie two to a byte. In each 16 bytes, which hold 32 weights, the low halves are the
//! first 16 and the high halves the last 16, so that a vector register unpacks without shuffling.

use super::Bits;

/// Weights that share a scale, consecutive in a row.
pub(super) const LEN: usize = 64;

/// Bytes of the scale.
const SCALE: usize = 4;

/// NF4 (QLoRA, appendix E).
pub(super) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Bytes of a block.
#[inline(always)]
pub(super) fn bytes(bits: Bits) -> usize {
    SCALE + LEN * bits.number() as usize / 8
}

/// Writes the block of `values`, which are finite.
pub(super) fn encode(bits: Bits, values: &[f32; LEN], block: &mut [u8]) {
    let (stored_scale, codes) = block.split_at_mut(SCALE);
    let scale = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    stored_scale.copy_from_slice(&scale.to_le_bytes());
    // Divided, because 1 / scale overflows where the scale is tiny.
    let level = |value: f32| if scale > 0.0 { value / scale } else { 0.0 };
    match bits {
        Bits::Eight => {
            for (code, value) in codes.iter_mut().zip(values) {
                let step = (level(*value) * 127.0).round().clamp(-127.0, 127.0);
                *code = step as i8 as u8;
            }
        }
        Bits::Four => {
            for (half, values) in codes.chunks_exact_mut(16).zip(values.chunks_exact(32)) {
                for (i, code) in half.iter_mut().enumerate() {
                    *code = nearest(level(values[i])) | nearest(level(values[i + 16])) << 4;
                }
            }
        }
    }
}

/// The code of the level of NF4 that is nearest: the number of midpoints that lie below.
fn nearest(level: f32) -> u8 {
    NF4.windows(2).filter(|pair| level > 0.5 * (pair[0] + pair[1])).count() as u8
}

/// Writes the values of blocks to `out`, which may end inside the last one.
#[inline(always)]
pub(super) fn decode(bits: Bits, blocks: &[u8], out: &mut [f32]) {
    let (whole, rest) = out.as_chunks_mut();
    let mut blocks = blocks.chunks_exact(bytes(bits));
    for (out, block) in whole.iter_mut().zip(&mut blocks) {
        decode_block(bits, block, out);
    }
    if let Some(block) = blocks.next() {
        let mut values = [0.0; LEN];
        decode_block(bits, block, &mut values);
        rest.copy_from_slice(&values[..rest.len()]);
    }
}

#[inline(always)]
fn decode_block(bits: Bits, block: &[u8], out: &mut [f32; LEN]) {
    let (scale, codes) = block.split_at(SCALE);
    let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
    match bits {
        Bits::Eight => {
            let step = scale / 127.0;
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = code as i8 as f32 * step;
            }
        }
        Bits::Four => {
            let levels = NF4.map(|level| level * scale);
            for (out, codes) in out.chunks_exact_mut(32).zip(codes.chunks_exact(16)) {
                let (first, last) = out.split_at_mut(16);
                for ((first, last), &code) in first.iter_mut().zip(last).zip(codes) {
                    *first = levels[(code & 15) as usize];
                    *last = levels[(code >> 4) as usize];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(bits: Bits, values: &[f32; LEN]) -> [f32; LEN] {
        let mut block = vec![0; bytes(bits)];
        encode(bits, values, &mut block);
        let mut out = [0.0; LEN];
        decode(bits, &block, &mut out);
        out
    }

    #[test]
    fn every_value_goes_to_its_nearest_level() {
        let values: [f32; LEN] = std::array::from_fn(|i| ((i as f32 * 0.7).sin()).powi(3) * 0.3);
        let scale = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        let even: Vec<f32> = (-127..=127).map(|c| c as f32 / 127.0).collect();
        for (bits, levels) in [(Bits::Eight, even.as_slice()), (Bits::Four, &NF4)] {
            for (value, ours) in values.iter().zip(round_trip(bits, &values)) {
                let distance = |l: &f32| (l * scale - value).abs();
                let nearest = levels.iter().map(distance).fold(f32::MAX, f32::min);
                assert!((ours - value).abs() <= nearest + 1e-7, "{bits:?} {value} {ours}");
            }
        }
    }

    #[test]
    fn extreme_blocks_stay_finite() {
        for scale in [0.0, f32::MIN_POSITIVE, 1e-42, f32::MAX] {
            let values: [f32; LEN] = std::array::from_fn(|i| scale * (i as f32 / 63.0 - 0.5));
            for bits in [Bits::Eight, Bits::Four] {
                assert!(round_trip(bits, &values).iter().all(|v| v.is_finite()), "{scale}");
            }
        }
    }
}
