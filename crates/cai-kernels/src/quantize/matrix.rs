use std::{fmt, ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{Bits, Format, GgmlType, block};
use crate::cpu::vectorized;

/// Memory that several matrices may lie in, such as a mapped file.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A frozen matrix `[out, in]` as it is stored, row by row. Clones share the bytes.
#[derive(Clone)]
pub struct QuantMatrix {
    format: Format,
    size: [usize; 2],
    bytes: SharedBytes,
    /// Its first byte in `bytes`.
    start: usize,
}

impl fmt::Debug for QuantMatrix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "QuantMatrix({}, {:?})", self.format, self.size)
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
        let format = Format::Own(bits);
        let row_bytes = format.bytes(width);
        let mut bytes = vec![0u8; rows * row_bytes];
        bytes.par_chunks_mut(row_bytes.max(1)).enumerate().try_for_each_init(
            || vec![0f32; width.next_multiple_of(block::LEN)],
            |values, (i, blocks)| {
                row(i, &mut values[..width])?;
                let blocks = blocks.chunks_exact_mut(block::bytes(bits));
                for (values, block) in values.as_chunks().0.iter().zip(blocks) {
                    block::encode(bits, values, block);
                }
                Ok(())
            },
        )?;
        Ok(Self { format, size, bytes: Arc::new(bytes), start: 0 })
    }

    /// The matrix `[out, in]` that lies in `range` of `bytes` as a GGUF file stores it.
    ///
    /// # Errors
    ///
    /// Where rows are no whole blocks, or `range` is not the place of so many of them.
    pub fn stored(
        kind: GgmlType,
        size: [usize; 2],
        bytes: SharedBytes,
        range: Range<usize>,
    ) -> Result<Self, String> {
        let [rows, width] = size;
        let block = kind.block_len();
        if !width.is_multiple_of(block) {
            return Err(format!("rows of {width} weights are no whole blocks of {block} ({kind})"));
        }
        let expected = kind.bytes(width).and_then(|row| row.checked_mul(rows));
        if expected != Some(range.len()) {
            let found = range.len();
            return Err(format!("{found} bytes are not a matrix {size:?} stored as {kind}"));
        }
        let there = (*bytes).as_ref().len();
        if range.end > there {
            return Err(format!("bytes {range:?} lie beyond the end, {there}"));
        }
        Ok(Self { format: Format::Ggml(kind), size, bytes, start: range.start })
    }

    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Memory of the weights as they are stored, in bytes.
    pub fn num_bytes(&self) -> usize {
        let [rows, width] = self.size;
        rows * self.format.bytes(width)
    }

    /// The values of `count` rows from `start`, row by row.
    pub fn rows(&self, start: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0f32; count * self.size[1]];
        self.decode(start, &mut out);
        out
    }

    /// Writes the values of rows from `start`, on all cores.
    pub(super) fn decode(&self, start: usize, out: &mut [f32]) {
        let rows = out.par_chunks_mut(self.size[1].max(1)).enumerate().with_min_len(8);
        rows.for_each(|(i, out)| self.row(start + i, out));
    }

    /// Writes the values of row `i`.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        decode_row(self.format, self.blocks(i), out);
    }

    /// The blocks of row `i`.
    fn blocks(&self, i: usize) -> &[u8] {
        let bytes = self.format.bytes(self.size[1]);
        &(*self.bytes).as_ref()[self.start + i * bytes..][..bytes]
    }
}

vectorized! {
    fn decode_row(format: Format, blocks: &[u8], out: &mut [f32]) {
        format.decode(blocks, out);
    }
}
