//! The models of a classifier, side by side.

use burn::tensor::Device;

use crate::batch::TextBatch;
use crate::error::{Error, Result};
use crate::linear::LinearModel;
use crate::model::Encoder;
use crate::text::fold;
use crate::tokenizer::{Encoded, TextTokenizer};

/// Texts per batch. Fixed: with other sizes, matrix products differ in the last digits.
const BATCH_SIZE: usize = 64;

/// Scores texts: a row of class scores (before any softmax) for each.
pub trait TextModel {
    /// The scores of `texts`, in order, and for each whether its end was not read.
    ///
    /// # Errors
    /// When the tokenizer or the device fails.
    fn scores(&self, texts: &[String]) -> Result<Scores>;
}

/// What a model says about some texts.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Class scores of each text.
    pub rows: Vec<Vec<f32>>,
    /// Whether the text was longer than the model reads.
    pub truncated: Vec<bool>,
}

impl TextModel for LinearModel {
    fn scores(&self, texts: &[String]) -> Result<Scores> {
        Ok(Scores { rows: self.logits(texts), truncated: vec![false; texts.len()] })
    }
}

/// An encoder with its tokenizer.
#[derive(Clone, Debug)]
pub struct EncoderModel {
    /// Turns text into token ids.
    pub tokenizer: TextTokenizer,
    /// Scores token ids.
    pub encoder: Encoder,
}

impl TextModel for EncoderModel {
    fn scores(&self, texts: &[String]) -> Result<Scores> {
        let encode = |text: &String| self.tokenizer.encode(text);
        let encoded: Vec<Encoded> = texts.iter().map(encode).collect::<Result<_>>()?;
        let ids: Vec<&[u32]> = encoded.iter().map(|text| text.ids.as_slice()).collect();
        let rows = logits(&self.encoder, &ids, self.tokenizer.pad())?;
        Ok(Scores { rows, truncated: encoded.iter().map(|text| text.truncated).collect() })
    }
}

/// All models of one classifier.
#[derive(Clone, Debug, Default)]
pub struct Ensemble {
    /// The linear path, if there is one.
    pub linear: Option<LinearModel>,
    /// The encoders; they share a tokenizer.
    pub encoders: Vec<EncoderModel>,
    /// Whether texts are folded first.
    pub fold: bool,
}

/// What every model of an ensemble says about some texts.
#[derive(Clone, Debug, Default)]
pub struct EnsembleScores {
    /// `members[m][i]`: class scores of text i by model m, the linear path first.
    pub members: Vec<Vec<Vec<f32>>>,
    /// Whether an encoder did not read the end of the text.
    pub truncated: Vec<bool>,
}

impl Ensemble {
    /// Number of models.
    pub fn len(&self) -> usize {
        usize::from(self.linear.is_some()) + self.encoders.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Texts as the models read them.
    pub fn prepare(&self, texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| prepare(text, self.fold)).collect()
    }

    /// What each model says about `texts`, in order.
    ///
    /// # Errors
    /// When a tokenizer or the device fails.
    pub fn scores(&self, texts: &[&str]) -> Result<EnsembleScores> {
        let texts = self.prepare(texts);
        let linear = self.linear.iter().map(|model| model as &dyn TextModel);
        let encoders = self.encoders.iter().map(|model| model as &dyn TextModel);
        let mut all = EnsembleScores { members: Vec::new(), truncated: vec![false; texts.len()] };
        for model in linear.chain(encoders) {
            let Scores { rows, truncated } = model.scores(&texts)?;
            all.members.push(rows);
            all.truncated.iter_mut().zip(truncated).for_each(|(any, one)| *any |= one);
        }
        Ok(all)
    }
}

/// A text as the models read it.
pub(crate) fn prepare(text: &str, folded: bool) -> String {
    if folded { fold(text) } else { text.into() }
}

/// Class scores of each row of token ids, in order. Rows of similar length share a batch.
///
/// # Errors
/// When the scores cannot be read from the device.
pub(crate) fn logits(encoder: &Encoder, rows: &[&[u32]], pad: u32) -> Result<Vec<Vec<f32>>> {
    let device: Device = encoder.device();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| rows[i].len());
    let mut logits = vec![Vec::new(); rows.len()];
    for block in order.chunks(BATCH_SIZE) {
        let block_rows: Vec<&[u32]> = block.iter().map(|&i| rows[i]).collect();
        let scores = encoder.forward(&TextBatch::new(&block_rows, pad, &device), None);
        let [_, n_labels] = scores.dims();
        let scores: Vec<f32> = scores
            .try_into_vec_as()
            .map_err(|error| Error::Device { what: "class scores", problem: error.to_string() })?;
        for (&i, row) in block.iter().zip(scores.chunks(n_labels)) {
            logits[i] = row.to_vec();
        }
    }
    Ok(logits)
}
