//! Token sequences of unequal length as one tensor.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Which side of a row the pads stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text first: training and scoring.
    Right,
    /// Text last: generation.
    Left,
}

/// A padded batch of token ids.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// `[batch, width]`.
    pub ids: Tensor<2, Int>,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// Where the pads stand.
    pub side: Side,
}

impl TokenBatch {
    /// Pads behind the text, to the longest row.
    pub fn right(rows: &[&[u32]], pad: u32, device: &Device) -> Self {
        Self::new(rows, pad, Side::Right, device)
    }

    /// Pads before the text, to the longest row.
    pub fn left(rows: &[&[u32]], pad: u32, device: &Device) -> Self {
        Self::new(rows, pad, Side::Left, device)
    }

    fn new(rows: &[&[u32]], pad: u32, side: Side, device: &Device) -> Self {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let pads = std::iter::repeat_n(pad as i64, width - row.len());
            let text = row.iter().map(|&id| id as i64);
            match side {
                Side::Right => ids.extend(text.chain(pads)),
                Side::Left => ids.extend(pads.chain(text)),
            }
        }
        let ids = Tensor::from_data(TensorData::new(ids, [rows.len(), width]), device);
        Self { ids, lengths: rows.iter().map(|row| row.len()).collect(), side }
    }

    /// Tokens of the longest row.
    pub fn width(&self) -> usize {
        self.ids.dims()[1]
    }
}
