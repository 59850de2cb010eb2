use std::{fmt, sync::Arc};

use rayon::prelude::*;

use super::{BLOCK, Bits, block};

/// A matrix `[out, in]` as codes and one f32 scale per block of 64 weights of a row. Clones share
/// the codes. Short last blocks are filled up with zeros.
#[derive(Clone)]
pub struct QuantMatrix(Arc<Inner>);

struct Inner {
    bits: Bits,
    size: [usize; 2],
    /// Row by row.
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl fmt::Debug for QuantMatrix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "QuantMatrix({} bits, {:?})", self.0.bits.number(), self.0.size)
    }
}

impl QuantMatrix {
    /// Quantises the matrix `[out, in]` whose row `i` is written by `row(i, values)`. Rows are asked
    /// for in parallel and in no order, so that no dense copy of the matrix is needed.
    ///
    /// # Errors
    ///
    /// Those of `row`, whose values must be finite.
    pub fn quantize<E: Send>(
        bits: Bits,
        size: [usize; 2],
        row: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let [rows, width] = size;
        let blocks = width.div_ceil(BLOCK);
        let bytes = block::code_bytes(bits);
        let mut codes = vec![0u8; rows * blocks * bytes];
        let mut scales = vec![0f32; rows * blocks];
        let row_codes = codes.par_chunks_mut((blocks * bytes).max(1));
        row_codes.zip(scales.par_chunks_mut(blocks.max(1))).enumerate().try_for_each_init(
            || vec![0f32; blocks * BLOCK],
            |values, (i, (codes, scales))| {
                row(i, &mut values[..width])?;
                let blocks = values.as_chunks::<BLOCK>().0;
                for ((values, codes), scale) in
                    blocks.iter().zip(codes.chunks_exact_mut(bytes)).zip(scales)
                {
                    *scale = block::encode(bits, values, codes);
                }
                Ok(())
            },
        )?;
        Ok(Self(Arc::new(Inner { bits, size, codes, scales })))
    }

    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        self.0.size
    }

    /// Width of a code.
    pub fn bits(&self) -> Bits {
        self.0.bits
    }

    /// Memory of codes and scales, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.0.codes.len() + 4 * self.0.scales.len()
    }

    /// The values of `count` rows from `start`, row by row.
    pub fn rows(&self, start: usize, count: usize) -> Vec<f32> {
        let width = self.0.size[1];
        let mut out = vec![0f32; count * width];
        let rows = out.par_chunks_mut(width.max(1)).enumerate().with_min_len(8);
        rows.for_each(|(i, out)| self.row(start + i, out));
        out
    }

    /// Writes the values of row `i`.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        let (bits, blocks) = (self.0.bits, self.row_blocks(i));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { decode_row_avx2(bits, blocks, out) };
        }
        decode_row(bits, blocks, out);
    }

    /// `y[r] = x[r] · row i` for each row of `x`, rows of width `in`.
    pub(super) fn dot(&self, i: usize, x: &[f32], y: &mut [f32]) {
        let (bits, width, blocks) = (self.0.bits, self.0.size[1], self.row_blocks(i));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just detected.
            return unsafe { dot_row_avx2(bits, width, blocks, x, y) };
        }
        dot_row(bits, width, blocks, x, y);
    }

    /// Codes and scales of row `i`, block by block.
    fn row_blocks(&self, i: usize) -> impl Iterator<Item = (&[u8], f32)> {
        let Inner { bits, size, codes, scales } = &*self.0;
        let blocks = size[1].div_ceil(BLOCK);
        let bytes = block::code_bytes(*bits);
        let scales = &scales[i * blocks..(i + 1) * blocks];
        let codes = &codes[i * blocks * bytes..(i + 1) * blocks * bytes];
        codes.chunks_exact(bytes).zip(scales.iter().copied())
    }
}

#[inline(always)]
fn decode_row<'a>(bits: Bits, blocks: impl Iterator<Item = (&'a [u8], f32)>, out: &mut [f32]) {
    for ((codes, scale), out) in blocks.zip(out.chunks_mut(BLOCK)) {
        match <&mut [f32; BLOCK]>::try_from(&mut *out) {
            Ok(whole) => block::decode(bits, codes, scale, whole),
            Err(_) => {
                let mut whole = [0.0; BLOCK];
                block::decode(bits, codes, scale, &mut whole);
                out.copy_from_slice(&whole[..out.len()]);
            }
        }
    }
}

#[inline(always)]
fn dot_row<'a>(
    bits: Bits,
    width: usize,
    blocks: impl Iterator<Item = (&'a [u8], f32)>,
    x: &[f32],
    y: &mut [f32],
) {
    const LANES: usize = 16;
    y.fill(0.0);
    let mut values = [0.0; BLOCK];
    for (b, (codes, scale)) in blocks.enumerate() {
        block::decode(bits, codes, scale, &mut values);
        let columns = b * BLOCK..width.min((b + 1) * BLOCK);
        for (x, y) in x.chunks_exact(width).zip(&mut *y) {
            let x = &x[columns.clone()];
            let mut sums = [0f32; LANES];
            let (values, x_lanes) = (values.as_chunks::<LANES>().0, x.as_chunks::<LANES>());
            for (v, x) in values.iter().zip(x_lanes.0) {
                for lane in 0..LANES {
                    sums[lane] += v[lane] * x[lane];
                }
            }
            let rest = values.as_flattened()[x.len() - x_lanes.1.len()..].iter().zip(x_lanes.1);
            *y += sums.iter().sum::<f32>() + rest.map(|(v, x)| v * x).sum::<f32>();
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_row_avx2<'a>(bits: Bits, blocks: impl Iterator<Item = (&'a [u8], f32)>, out: &mut [f32]) {
    decode_row(bits, blocks, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_row_avx2<'a>(
    bits: Bits,
    width: usize,
    blocks: impl Iterator<Item = (&'a [u8], f32)>,
    x: &[f32],
    y: &mut [f32],
) {
    dot_row(bits, width, blocks, x, y);
}
