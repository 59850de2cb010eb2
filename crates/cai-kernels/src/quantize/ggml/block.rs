//! Blocks of 32 weights: w = d·q, or d·q + m, with d and m half floats in front.
//!
//! Of 16 bytes of codes, the low nibbles are weights 0 to 15 and the high ones 16 to 31. Fifth bits
//! lie in 32 bits of their own, weight by weight.

use super::half;

/// Weights in a block.
pub const LEN: usize = 32;

pub const Q4_0: usize = 2 + 16;
pub const Q4_1: usize = 4 + 16;
pub const Q5_0: usize = 2 + 4 + 16;
pub const Q5_1: usize = 4 + 4 + 16;
pub const Q8_0: usize = 2 + 32;

#[inline(always)]
pub fn q4_0([d0, d1, codes @ ..]: &[u8; Q4_0], out: &mut [f32; LEN]) {
    let d = half([*d0, *d1]);
    nibbles(codes, 0, out, |q| d * (q - 8) as f32);
}

#[inline(always)]
pub fn q4_1([d0, d1, m0, m1, codes @ ..]: &[u8; Q4_1], out: &mut [f32; LEN]) {
    let (d, m) = (half([*d0, *d1]), half([*m0, *m1]));
    nibbles(codes, 0, out, |q| d * q as f32 + m);
}

#[inline(always)]
pub fn q5_0([d0, d1, h0, h1, h2, h3, codes @ ..]: &[u8; Q5_0], out: &mut [f32; LEN]) {
    let d = half([*d0, *d1]);
    nibbles(codes, u32::from_le_bytes([*h0, *h1, *h2, *h3]), out, |q| d * (q - 16) as f32);
}

#[inline(always)]
pub fn q5_1([d0, d1, m0, m1, h0, h1, h2, h3, codes @ ..]: &[u8; Q5_1], out: &mut [f32; LEN]) {
    let (d, m) = (half([*d0, *d1]), half([*m0, *m1]));
    nibbles(codes, u32::from_le_bytes([*h0, *h1, *h2, *h3]), out, |q| d * q as f32 + m);
}

#[inline(always)]
pub fn q8_0([d0, d1, codes @ ..]: &[u8; Q8_0], out: &mut [f32; LEN]) {
    let d = half([*d0, *d1]);
    for (out, q) in out.iter_mut().zip(codes) {
        *out = d * (*q as i8) as f32;
    }
}

/// Calls `value` with each code of 4 bits, and as its fifth that of `high`.
#[inline(always)]
fn nibbles(codes: &[u8; 16], high: u32, out: &mut [f32; LEN], value: impl Fn(i32) -> f32) {
    let (first, second) = out.split_at_mut(16);
    for (i, code) in codes.iter().enumerate() {
        let fifth = |i: usize| (high >> i & 1) << 4;
        first[i] = value((*code as u32 & 15 | fifth(i)) as i32);
        second[i] = value((*code as u32 >> 4 | fifth(i + 16)) as i32);
    }
}
