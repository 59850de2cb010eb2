//! Blocks of 256 weights in sub-blocks, the "K" types: w = (d·s)·q − (dmin·m), or (d·s)·(q − 32), with
//! d and dmin half floats of the block, s and m small integers of the sub-block.

use super::half;

/// Weights in a block.
pub const LEN: usize = 256;

pub const Q4_K: usize = 4 + 12 + 128;
pub const Q5_K: usize = 4 + 12 + 32 + 128;
pub const Q6_K: usize = 128 + 64 + 16 + 2;

/// d, dmin, eight pairs of scale and offset, codes.
#[inline(always)]
pub fn q4_k(block: &[u8; Q4_K], out: &mut [f32; LEN]) {
    let (scales, codes) = block.split_at(16);
    five_bits(scales, &[0; 32], codes, out);
}

/// As Q4_K, with fifth bits before the codes: bit j of byte l is that of weight l in sub-block j.
#[inline(always)]
pub fn q5_k(block: &[u8; Q5_K], out: &mut [f32; LEN]) {
    let (scales, rest) = block.split_at(16);
    let (fifth, codes) = rest.split_at(32);
    five_bits(scales, fifth, codes, out);
}

/// Sub-blocks of 32 weights, two by two: of 32 bytes of codes, the low nibbles are the first and the
/// high ones the second.
#[inline(always)]
fn five_bits(scales: &[u8], fifth: &[u8], codes: &[u8], out: &mut [f32; LEN]) {
    let (d, dmin) = (half([scales[0], scales[1]]), half([scales[2], scales[3]]));
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = scale(&scales[4..], j);
        let (scale, offset) = (d * scale as f32, dmin * offset as f32);
        let codes = &codes[j / 2 * 32..][..32];
        let shift = j % 2 * 4;
        for ((out, code), fifth) in out.iter_mut().zip(codes).zip(fifth) {
            let q = code >> shift & 15 | (fifth >> j & 1) << 4;
            *out = scale * q as f32 - offset;
        }
    }
}

/// Scale and offset of sub-block `j`, 6 bits each, of eight pairs in 12 bytes: the first four pairs in
/// the low six bits of bytes 0 to 7, the others in the nibbles of bytes 8 to 11 and the two high bits
/// of the bytes before.
#[inline(always)]
fn scale(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    }
}

/// Low nibbles, two high bits, sixteen scales, d. In each half of 128 weights, byte l of 64 has the
/// nibbles of weights l and l + 64, and byte l of 32 the high bits of l, l + 32, l + 64 and l + 96.
#[inline(always)]
pub fn q6_k(block: &[u8; Q6_K], out: &mut [f32; LEN]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half([d[0], d[1]]);
    let halves = out.as_chunks_mut::<128>().0.iter_mut().zip(low.as_chunks::<64>().0);
    let parts = high.as_chunks::<32>().0.iter().zip(scales.as_chunks::<8>().0);
    for ((out, low), (high, scales)) in halves.zip(parts) {
        let mut codes = [0u8; 128];
        for l in 0..32 {
            codes[l] = low[l] & 15 | (high[l] & 3) << 4;
            codes[l + 32] = low[l + 32] & 15 | (high[l] & 12) << 2;
            codes[l + 64] = low[l] >> 4 | (high[l] & 48);
            codes[l + 96] = low[l + 32] >> 4 | (high[l] & 192) >> 2;
        }
        let weights = out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
        for ((out, codes), scale) in weights.zip(scales) {
            let scale = d * (*scale as i8) as f32;
            for (out, q) in out.iter_mut().zip(codes) {
                *out = scale * (*q as i32 - 32) as f32;
            }
        }
    }
}
