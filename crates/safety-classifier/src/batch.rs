//! Right-padded batches of token ids.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Texts of one batch, padded on the right to the longest.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// Token ids, `[batch, width]`.
    pub ids: Tensor<2, Int>,
    /// 1 for a real token, 0 for padding, `[batch, width]`.
    pub real: Tensor<2>,
}

impl TextBatch {
    /// Pads `rows` with `pad`. Every row has at least one token.
    pub fn new(rows: &[&[u32]], pad: u32, device: &Device) -> Self {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = vec![i64::from(pad); rows.len() * width];
        let mut real = vec![0f32; rows.len() * width];
        for (i, row) in rows.iter().enumerate() {
            for (j, &id) in row.iter().enumerate() {
                ids[i * width + j] = i64::from(id);
                real[i * width + j] = 1.0;
            }
        }
        let shape = [rows.len(), width];
        Self {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            real: Tensor::from_data(TensorData::new(real, shape), device),
        }
    }
}
