use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::DecoderSpec;
use crate::{Error, Result};

/// Keys and values of the tokens so far, in buffers of one size.
///
/// A row holds one sequence, whose token at position `p` stands in the row's slot `p`: rows are of
/// different lengths, begin and end independently of each other, and have no pads. Buffers are made
/// when the first tokens are written, in the dtype of the model's keys.
#[derive(Debug)]
pub struct KvCache {
    /// Keys and values of each layer that makes its own, `[rows · capacity, kv_heads · head_dim]`.
    layers: Vec<Option<[Tensor<2>; 2]>>,
    /// Tokens of each row.
    lengths: Vec<usize>,
    capacity: usize,
    /// Where the tokens of the pass under way go.
    write: Option<Write>,
}

/// The new tokens of one pass, the same in every layer.
#[derive(Debug)]
struct Write {
    /// Slot of each new token in the flat buffers.
    slots: Tensor<1, Int>,
    read: Read,
}

/// Which keys and values the queries of a pass can see.
#[derive(Debug)]
enum Read {
    /// The new ones alone: the rows were empty.
    New,
    /// The first slots of rows that follow each other.
    Rows(Range<usize>, usize),
    /// The first slots of these rows.
    Selected(Vec<i64>, usize),
}

impl KvCache {
    /// Room for `rows` sequences of at most `capacity` tokens each.
    pub fn new(spec: &DecoderSpec, rows: usize, capacity: usize) -> Self {
        let layers = spec.layers.iter().map(|_| None).collect();
        Self { layers, lengths: vec![0; rows], capacity, write: None }
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Tokens that a row has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the tokens of a row. Its slots keep their values until they are written again, which
    /// [`copy`](Self::copy) may rely on.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is no such row.
    pub fn clear(&mut self, row: usize) -> Result<()> {
        self.check_row(row)?;
        self.lengths[row] = 0;
        Ok(())
    }

    /// Makes row `to` hold the first `tokens` tokens that were written to row `from`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is no such row or it has no room for so many tokens.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) -> Result<()> {
        self.check_row(from)?;
        self.check_row(to)?;
        self.check_room(to, tokens)?;
        if from != to && tokens > 0 {
            let slots = |row: usize, device: &Device| -> Tensor<1, Int> {
                let start = (row * self.capacity) as i64;
                Tensor::arange(start..start + tokens as i64, device)
            };
            for layer in &mut self.layers {
                let Some(buffers) = layer.take() else { continue };
                let device = buffers[0].device();
                let (from, to) = (slots(from, &device), slots(to, &device));
                // `select` makes new tensors: the buffer has one owner again when it is written to.
                *layer = Some(buffers.map(|buffer| {
                    let tokens = buffer.clone().select(0, from.clone());
                    buffer.select_assign(0, to.clone(), tokens, IndexingUpdateOp::Assign)
                }));
            }
        }
        self.lengths[to] = tokens;
        Ok(())
    }

    /// Prepares a pass of `tokens` tokens for each of `rows`, of which `counts[i]` are real and the
    /// others pads behind them. Returns the first position of each row's tokens.
    pub(super) fn begin(
        &mut self,
        rows: &[usize],
        counts: &[usize],
        tokens: usize,
        device: &Device,
    ) -> Result<Vec<usize>> {
        if rows.len() != counts.len() || rows.is_empty() || counts.iter().any(|&n| n > tokens) {
            let (r, c) = (rows.len(), counts.len());
            return Err(Error::Input(format!(
                "{r} cache rows and {c} token counts for {tokens} tokens; give as many of both, at \
                 least one, and no count above the tokens"
            )));
        }
        for (i, &row) in rows.iter().enumerate() {
            self.check_row(row)?;
            // Pads are written, too: behind the row's tokens, where the next ones replace them.
            self.check_room(row, self.lengths[row] + tokens)?;
            if rows[..i].contains(&row) {
                return Err(Error::Input(format!("cache row {row} is given twice in one pass")));
            }
        }
        let starts: Vec<usize> = rows.iter().map(|&row| self.lengths[row]).collect();
        let slots = rows.iter().zip(&starts).flat_map(|(row, start)| {
            let first = (row * self.capacity + start) as i64;
            first..first + tokens as i64
        });
        let slots: Vec<i64> = slots.collect();
        let keys = starts.iter().max().map_or(0, |start| start + tokens);
        let read = if starts.iter().all(|&start| start == 0) {
            Read::New
        } else if rows.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            Read::Rows(rows[0]..rows[0] + rows.len(), keys)
        } else {
            Read::Selected(rows.iter().map(|&row| row as i64).collect(), keys)
        };
        let count = slots.len();
        let slots = Tensor::from_data(TensorData::new(slots, [count]), device);
        self.write = Some(Write { slots, read });
        Ok(starts)
    }

    /// Writes a layer's new keys and values, `[rows, kv_heads, tokens, head_dim]`, and returns those
    /// that the pass can see, `[rows, kv_heads, keys, head_dim]`; for all but empty rows they are a
    /// view of the cache.
    pub(super) fn append(&mut self, layer: usize, new: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let Some(write) = &self.write else { return new };
        let [rows, heads, tokens, dim] = new[0].dims();
        let (device, dtype) = (new[0].device(), new[0].dtype());
        let size = [self.lengths.len() * self.capacity, heads * dim];
        let buffers = self.layers[layer].take().unwrap_or_else(|| {
            let buffer = || Tensor::zeros(size, (&device, dtype));
            [buffer(), buffer()]
        });
        let [keys, values] = buffers;
        let put = |buffer: Tensor<2>, new: &Tensor<4>| {
            let flat = new.clone().swap_dims(1, 2).reshape([rows * tokens, heads * dim]);
            // In place, because the buffer has no other owner here.
            buffer.select_assign(0, write.slots.clone(), flat, IndexingUpdateOp::Assign)
        };
        let buffers = [put(keys, &new[0]), put(values, &new[1])];
        let seen = match &write.read {
            Read::New => new,
            read => buffers.clone().map(|buffer| self.seen(buffer, [heads, dim], read)),
        };
        self.layers[layer] = Some(buffers);
        seen
    }

    fn seen(&self, buffer: Tensor<2>, [heads, dim]: [usize; 2], read: &Read) -> Tensor<4> {
        let all = self.lengths.len();
        let buffer = buffer.reshape([all, self.capacity, heads, dim]);
        let of = |rows: Range<usize>, keys: usize| {
            buffer.clone().slice([rows, 0..keys, 0..heads, 0..dim])
        };
        let seen = match read {
            Read::New => buffer.clone(),
            Read::Rows(rows, keys) => of(rows.clone(), *keys),
            Read::Selected(rows, keys) => {
                let rows = Tensor::from_data(rows.as_slice(), &buffer.device());
                of(0..all, *keys).select(0, rows)
            }
        };
        seen.swap_dims(1, 2)
    }

    /// The pass is over: its rows have `counts[i]` tokens more.
    pub(super) fn end(&mut self, rows: &[usize], counts: &[usize]) {
        for (&row, count) in rows.iter().zip(counts) {
            self.lengths[row] += count;
        }
        self.write = None;
    }

    fn check_row(&self, row: usize) -> Result<()> {
        match self.lengths.len() {
            rows if row < rows => Ok(()),
            rows => Err(Error::Input(format!("cache row {row} of {rows}"))),
        }
    }

    fn check_room(&self, row: usize, tokens: usize) -> Result<()> {
        match self.capacity {
            capacity if tokens <= capacity => Ok(()),
            capacity => Err(Error::Input(format!(
                "cache row {row} has room for {capacity} tokens, not {tokens}; make a larger cache"
            ))),
        }
    }
}
