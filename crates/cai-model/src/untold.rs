//! Control tokens that a model cannot tell from others.
//!
//! A pre-trained model has rows for tokens that it never met, and they all point the same way: the
//! head gives each the same logit whatever the hidden state, so that training the layers alone
//! cannot make one of them likely.

use burn::tensor::{DType, Int, Tensor};

use crate::model::LanguageModel;

/// Rows are nearly the same from this cosine on.
const SAME: f64 = 0.9;
/// More of them than any set of related tokens has.
const MANY: usize = 200;
/// Rows compared at a time.
const CHUNK: usize = 16_384;

impl LanguageModel {
    /// The control tokens of the chat template whose rows of the embedding are nearly the same
    /// (cosine 0.9) as those of at least 200 others.
    pub fn untold_tokens(&self) -> Vec<u32> {
        let table = &self.decoder.model.embed_tokens.weight;
        let [vocabulary, _] = table.size();
        let ids: Vec<u32> = self.tokenizer.control_ids().to_vec();
        let ids: Vec<u32> = ids.into_iter().filter(|&id| (id as usize) < vocabulary).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let rows = |range: std::ops::Range<i64>| {
            let index = Tensor::<1, Int>::arange(range, &table.device());
            unit(table.select(index).inner().cast(DType::F32))
        };
        let index: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
        let own = table.select(Tensor::from_data(index.as_slice(), &table.device()));
        let own = unit(own.inner().cast(DType::F32)).transpose();
        let mut alike = vec![0usize; ids.len()];
        for start in (0..vocabulary).step_by(CHUNK) {
            let end = (start + CHUNK).min(vocabulary);
            let cosines = rows(start as i64..end as i64).matmul(own.clone());
            let values: Vec<f32> = cosines.into_data().iter::<f32>().collect();
            for row in values.chunks(ids.len()) {
                for (count, &cosine) in alike.iter_mut().zip(row) {
                    *count += usize::from(f64::from(cosine) > SAME);
                }
            }
        }
        let untold = ids.into_iter().zip(alike).filter(|(_, count)| *count > MANY);
        untold.map(|(id, _)| id).collect()
    }

    /// What to do about such tokens, in words.
    pub fn untold_advice(&self, ids: &[u32]) -> String {
        let names: Vec<String> = ids.iter().filter_map(|&id| self.tokenizer.name(id)).collect();
        format!(
            "the model cannot tell {} from hundreds of tokens that it never met: it would not end \
             a turn. Set lora.trainable_token_indices: {ids:?} where it is fine-tuned, or \
             chat_template: plain",
            names.join(" and ")
        )
    }
}

/// Rows of length 1.
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = rows.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    rows / length
}
