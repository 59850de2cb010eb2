//! The models of a classifier, side by side.

use burn::tensor::Device;
use rayon::prelude::*;

use crate::decoder::DecoderClassifier;
use crate::error::Result;
use crate::inference::CpuEncoder;
use crate::model::{Encoder, EncoderShape};
use crate::network::{self, Network};
use crate::ngrams::{Bag, LinearModel, Ngrams, Sparse};
use crate::outputs::Outputs;
use crate::text::fold;
use crate::tokenizer::{Encoded, TextTokenizer};

/// Texts as the models read them.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Folded, if the classifier folds.
    pub prepared: Vec<String>,
    /// Their weighted n-grams; empty rows if no model reads any.
    pub ngrams: Sparse,
}

/// Scores texts: a row of scores (before any softmax or sigmoid) for each, one per output.
pub trait TextModel {
    /// The scores of `texts`, in order, and for each whether its end was not read.
    ///
    /// # Errors
    /// When the tokenizer or the device fails.
    fn scores(&self, texts: &Texts) -> Result<Scores>;
}

/// What a model says about some texts.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Class scores of each text.
    pub rows: Vec<Vec<f32>>,
    /// Whether the text was longer than the model reads.
    pub truncated: Vec<bool>,
}

impl Scores {
    /// Of a model that reads every text to its end.
    fn of_whole_texts(rows: Vec<Vec<f32>>) -> Self {
        Self { truncated: vec![false; rows.len()], rows }
    }
}

impl TextModel for LinearModel {
    fn scores(&self, texts: &Texts) -> Result<Scores> {
        Ok(Scores::of_whole_texts(self.logits(&texts.ngrams)))
    }
}

impl TextModel for Bag {
    fn scores(&self, texts: &Texts) -> Result<Scores> {
        Ok(Scores::of_whole_texts(network::logits(self, &texts.ngrams.each())?))
    }
}

/// An encoder with its tokenizer.
#[derive(Clone, Debug)]
pub struct EncoderModel {
    /// Turns text into token ids.
    pub tokenizer: TextTokenizer,
    /// The encoder's sizes.
    pub shape: EncoderShape,
    /// Scores token ids.
    pub encoder: Encoder,
    /// The same for the CPU, if that is where the encoder is.
    cpu: Option<CpuEncoder>,
}

impl EncoderModel {
    /// An encoder of these sizes with its tokenizer.
    ///
    /// # Errors
    /// When a weight cannot be read from the device.
    pub fn new(tokenizer: TextTokenizer, shape: EncoderShape, encoder: Encoder) -> Result<Self> {
        let on_cpu = encoder.device() == Device::flex();
        let cpu = on_cpu.then(|| CpuEncoder::new(&encoder, &shape)).transpose()?;
        Ok(Self { tokenizer, shape, encoder, cpu })
    }
}

impl TextModel for EncoderModel {
    fn scores(&self, texts: &Texts) -> Result<Scores> {
        let encode = |text: &String| self.tokenizer.encode(text);
        let encoded: Vec<Encoded> = texts.prepared.par_iter().map(encode).collect::<Result<_>>()?;
        let ids: Vec<&[u32]> = encoded.iter().map(|text| text.ids.as_slice()).collect();
        let rows = match &self.cpu {
            Some(cpu) => cpu.logits(&ids),
            None => network::logits(&self.encoder, &ids)?,
        };
        Ok(Scores { rows, truncated: encoded.iter().map(|text| text.truncated).collect() })
    }
}

/// All models of one classifier.
#[derive(Clone, Debug, Default)]
pub struct Ensemble {
    /// What the linear path and the bags read.
    pub ngrams: Option<Ngrams>,
    /// The linear path, if there is one.
    pub linear: Option<LinearModel>,
    /// The networks over n-grams.
    pub bags: Vec<Bag>,
    /// The encoders; they share a tokenizer.
    pub encoders: Vec<EncoderModel>,
    /// A head on a language model, if there is one.
    pub decoder: Option<DecoderClassifier>,
    /// Whether texts are folded first.
    pub fold: bool,
    /// What the models' outputs stand for.
    pub outputs: Outputs,
}

/// What every model of an ensemble says about some texts.
#[derive(Clone, Debug, Default)]
pub struct EnsembleScores {
    /// `members[m][i]`: class scores of text i by model m, in the order of [`Ensemble::members`].
    pub members: Vec<Vec<Vec<f32>>>,
    /// Whether a model did not read the end of the text.
    pub truncated: Vec<bool>,
}

impl Ensemble {
    /// The models and their names: the linear path, the bags, the encoders, the
    /// language model.
    pub fn members(&self) -> Vec<(String, &dyn TextModel)> {
        fn numbered<'a, T: TextModel>(
            name: &str,
            models: &'a [T],
        ) -> Vec<(String, &'a dyn TextModel)> {
            let name = |i: usize| format!("{name} {}", i + 1);
            models.iter().enumerate().map(|(i, model)| (name(i), model as &dyn TextModel)).collect()
        }
        let linear = self.linear.iter().map(|model| ("linear".into(), model as &dyn TextModel));
        let decoder = self.decoder.iter().map(|model| ("decoder".into(), model as &dyn TextModel));
        let (bags, encoders) = (numbered("bag", &self.bags), numbered("encoder", &self.encoders));
        linear.chain(bags).chain(encoders).chain(decoder).collect()
    }

    /// Number of models.
    pub fn len(&self) -> usize {
        self.members().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Texts as the models read them.
    pub fn prepare(&self, texts: &[&str]) -> Texts {
        let prepared: Vec<String> = texts.iter().map(|text| prepare(text, self.fold)).collect();
        let ngrams = match &self.ngrams {
            Some(ngrams) => ngrams.rows(&prepared),
            None => Sparse::new(vec![Vec::new(); texts.len()]),
        };
        Texts { prepared, ngrams }
    }

    /// What each model says about `texts`, in order.
    ///
    /// # Errors
    /// When a tokenizer or the device fails.
    pub fn scores(&self, texts: &[&str]) -> Result<EnsembleScores> {
        let mut all = EnsembleScores { members: Vec::new(), truncated: vec![false; texts.len()] };
        let texts = self.prepare(texts);
        for (_, model) in self.members() {
            let Scores { rows, truncated } = model.scores(&texts)?;
            all.members.push(self.outputs.merge_all(rows));
            all.truncated.iter_mut().zip(truncated).for_each(|(any, one)| *any |= one);
        }
        Ok(all)
    }
}

/// A text as the models read it.
pub(crate) fn prepare(text: &str, folded: bool) -> String {
    if folded { fold(text) } else { text.into() }
}
