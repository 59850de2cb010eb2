//! The settings of the classifier and of its training.

use cai_train::TrainArgs;
use serde::{Deserialize, Serialize};

use crate::calibrate::CalibrationMethod;
use crate::decoder::DecoderConfig;
use crate::error::{Error, Result};
use crate::ngrams::{BagConfig, LinearConfig, NgramConfig};
use crate::warm_start::WarmStart;
use crate::written::WrittenConfig;

/// Special tokens and the 256 bytes: what a vocabulary holds before the first merge.
const SMALLEST_VOCABULARY: usize = 258;

/// Everything that decides how a classifier is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The classes, in the order of the probabilities. A text with another label is an error.
    pub labels: Vec<String>,
    /// The label that means "no harm": harm is 1 − its probability.
    pub safe_label: String,
    /// Whether labels exclude each other.
    pub task: Task,
    /// Learn label and source of a text together, and sum the probability of a label over the sources:
    /// data sets mean different things by the same label. Changes nothing where no text has a source.
    pub by_source: bool,
    /// What gives the scores: the encoder, models over n-grams, or both together.
    pub architecture: Architecture,
    /// What the linear path and the bags read; used by `linear` and `hybrid`.
    pub ngrams: NgramConfig,
    /// The linear path; used by `linear` and `hybrid`.
    pub linear: LinearConfig,
    /// Networks over n-grams that are trained beside the others, each from a seed of its own; used by
    /// `linear` and `hybrid`.
    pub bags: usize,
    /// Their sizes and training.
    pub bag: BagConfig,
    /// The head on a decoder; used by `decoder`.
    pub decoder: DecoderConfig,
    /// Encoders that are trained, each from a seed of its own; their scores are weighed together.
    pub encoders: usize,
    /// Undo disguises (look-alike letters, leetspeak, letters set apart, …) before anything else;
    /// see [`fold`](crate::text::fold).
    pub fold: bool,
    /// Largest vocabulary of the tokenizer, special tokens and the 256 bytes included.
    pub vocab_size: usize,
    /// Fold upper case to lower case before tokenizing.
    pub lowercase: bool,
    /// Longest text in tokens; the rest of a longer text is not read (and reported as truncated).
    pub max_length: usize,
    /// Width of the encoder.
    pub d_model: usize,
    /// Number of encoder layers.
    pub n_layers: usize,
    /// Attention heads per layer; divides `d_model`.
    pub n_heads: usize,
    /// Width of the feed-forward part.
    pub d_ff: usize,
    /// How the encoder's tokens become one vector.
    pub pooling: Pooling,
    /// Share of activations set to zero while training, after the embeddings and each sub-layer.
    pub dropout: f64,
    /// Share of tokens replaced by `[PAD]`'s embedding while training.
    pub token_dropout: f64,
    /// Share of the truth that is spread evenly over all classes while the encoder is trained.
    pub label_smoothing: f64,
    /// What the encoders learn from the texts before they see labels.
    pub warm_start: WarmStart,
    /// How probabilities are calibrated on the held-out texts.
    pub calibration: CalibrationMethod,
    /// How much rare classes are favoured over what is most probable: the classes' shares of the
    /// training texts enter the probabilities to the power of 1 minus this. 0 gives the most right
    /// answers; above 0, rare classes are found more often.
    pub prior_softening: f64,
    /// Texts written for this project that join the training texts.
    pub written: WrittenConfig,
    /// How much each class weighs in the loss.
    pub class_weights: ClassWeights,
    /// Share of each class held out for evaluation and calibration.
    pub held_out_fraction: f64,
    /// Texts that share at least this much of their five-letter pieces (Jaccard) count as one when
    /// texts are held out: they stay on one side.
    pub near_duplicate: f64,
    /// Groups with fewer safe texts than this are left out of the false-positive gap.
    pub min_group_size: usize,
    /// The optimiser and the length of training.
    pub train: TrainArgs,
}

/// Whether labels exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Every text has one label: softmax.
    #[default]
    SingleLabel,
    /// A text can have several labels, written `a|b` or as a list; the safe label stands alone. One
    /// sigmoid per label. Not with the linear path.
    MultiLabel,
}

/// How much each class weighs in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every text weighs 1.
    #[default]
    None,
    /// A text weighs `texts / (classes · texts of its class)`, so that classes weigh the same.
    Balanced,
    /// The square root of that: rare classes are found more often, for less of the accuracy.
    Sqrt,
}

/// What gives the class scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// The transformer encoder alone.
    #[default]
    Encoder,
    /// Weighted n-grams under logistic regression (and `bags` networks): trains in seconds.
    Linear,
    /// All of these: their log-probabilities are summed, with weights fitted on the held-out texts.
    Hybrid,
    /// A head on a decoder with LoRA alone.
    Decoder,
}

impl Architecture {
    /// Whether the encoder has a part.
    pub fn has_encoder(self) -> bool {
        matches!(self, Self::Encoder | Self::Hybrid)
    }

    /// Whether models over n-grams have a part.
    pub fn has_ngrams(self) -> bool {
        matches!(self, Self::Linear | Self::Hybrid)
    }
}

/// How the encoder's tokens become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the real tokens.
    #[default]
    Mean,
    /// Means weighted by learnt queries, side by side.
    Attention,
}

impl Default for ClassifierConfig {
    fn default() -> Self {
        let labels = ["safe", "hate_speech", "self_harm", "dangerous_advice", "toxic_content"];
        Self {
            labels: labels.map(String::from).to_vec(),
            safe_label: "safe".into(),
            task: Task::SingleLabel,
            by_source: false,
            architecture: Architecture::Encoder,
            ngrams: NgramConfig::default(),
            linear: LinearConfig::default(),
            bags: 0,
            bag: BagConfig::default(),
            decoder: DecoderConfig::default(),
            encoders: 1,
            fold: false,
            vocab_size: 4096,
            lowercase: true,
            max_length: 128,
            d_model: 128,
            n_layers: 2,
            n_heads: 4,
            d_ff: 256,
            pooling: Pooling::Mean,
            dropout: 0.0,
            token_dropout: 0.0,
            label_smoothing: 0.0,
            warm_start: WarmStart::default(),
            calibration: CalibrationMethod::Temperature,
            prior_softening: 0.0,
            written: WrittenConfig::default(),
            class_weights: ClassWeights::None,
            held_out_fraction: 0.1,
            near_duplicate: 0.9,
            min_group_size: 10,
            train: TrainArgs {
                learning_rate: 1e-3,
                num_train_epochs: 3.0,
                per_device_train_batch_size: 64,
                ..TrainArgs::default()
            },
        }
    }
}

impl ClassifierConfig {
    /// Position of the safe label in `labels`.
    ///
    /// # Errors
    /// When `safe_label` is not one of `labels`.
    pub fn safe_index(&self) -> Result<usize> {
        self.labels.iter().position(|label| *label == self.safe_label).ok_or_else(|| {
            let labels = self.labels.join(", ");
            config("safe_label", format!("{:?} is not one of labels ({labels})", self.safe_label))
        })
    }

    /// Checks every setting that does not need the data.
    ///
    /// # Errors
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<()> {
        if self.labels.len() < 2 {
            return Err(config("labels", "needs at least two labels".into()));
        }
        for (i, label) in self.labels.iter().enumerate() {
            if label.is_empty() || self.labels[..i].contains(label) {
                return Err(config("labels", format!("{label:?} is empty or occurs twice")));
            }
        }
        self.safe_index()?;
        if self.vocab_size < SMALLEST_VOCABULARY {
            let problem = format!("{} is below {SMALLEST_VOCABULARY}", self.vocab_size);
            return Err(config("vocab_size", problem));
        }
        if self.decoder.max_length < 2 {
            return Err(config("decoder.max_length", "must be at least 2 tokens".into()));
        }
        if self.max_length < 2 {
            return Err(config("max_length", "must be at least 2 tokens".into()));
        }
        if self.d_model == 0 || self.n_layers == 0 || self.d_ff == 0 {
            return Err(config("d_model", "d_model, n_layers and d_ff must be above 0".into()));
        }
        if self.n_heads == 0 || !self.d_model.is_multiple_of(self.n_heads) {
            let problem = format!("{} does not divide d_model ({})", self.n_heads, self.d_model);
            return Err(config("n_heads", problem));
        }
        let shares = [
            ("dropout", self.dropout),
            ("token_dropout", self.token_dropout),
            ("decoder.dropout", self.decoder.dropout),
            ("bag.dropout", self.bag.dropout),
            ("bag.ngram_dropout", self.bag.ngram_dropout),
            ("label_smoothing", self.label_smoothing),
            ("prior_softening", self.prior_softening),
            ("warm_start.hidden", self.warm_start.hidden),
        ];
        for (key, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(config(key, format!("{share} is not in [0, 1)")));
            }
        }
        if !(self.near_duplicate > 0.0 && self.near_duplicate <= 1.0) {
            let problem = format!("{} is not above 0 and at most 1", self.near_duplicate);
            return Err(config("near_duplicate", problem));
        }
        if self.encoders == 0 {
            return Err(config("encoders", "is 0; use architecture: linear for none".into()));
        }
        self.validate_ngrams()?;
        if !(self.held_out_fraction > 0.0 && self.held_out_fraction < 1.0) {
            let problem = format!("{} is not between 0 and 1", self.held_out_fraction);
            return Err(config("held_out_fraction", problem));
        }
        Ok(())
    }

    fn validate_ngrams(&self) -> Result<()> {
        let NgramConfig { char_ngrams, smoothing, max_ratio, .. } = &self.ngrams;
        let positive = [
            ("linear.c", self.linear.c),
            ("ngrams.smoothing", *smoothing),
            ("ngrams.max_ratio", *max_ratio),
        ];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(config(key, format!("{value} is not above 0")));
            }
        }
        let [shortest, longest] = *char_ngrams;
        if shortest == 0 || longest < shortest {
            let problem = format!("[{shortest}, {longest}] is not [shortest, longest] from 1 on");
            return Err(config("ngrams.char_ngrams", problem));
        }
        if self.bag.width == 0 {
            return Err(config("bag.width", "must be above 0".into()));
        }
        if self.by_source && self.task == Task::MultiLabel {
            return Err(config("by_source", "needs task: single_label".into()));
        }
        if self.architecture.has_ngrams() && self.task == Task::MultiLabel {
            let problem = "the linear path needs labels that exclude each other (single_label); use \
                           architecture: encoder";
            return Err(config("task", problem.into()));
        }
        Ok(())
    }
}

fn config(key: &'static str, problem: String) -> Error {
    Error::Config { key, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_a_round_trip() {
        let config = ClassifierConfig::default();
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ClassifierConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let heads = ClassifierConfig { n_heads: 3, ..Default::default() };
        assert!(heads.validate().unwrap_err().to_string().contains("classifier.n_heads"));
        let safe = ClassifierConfig { safe_label: "fine".into(), ..Default::default() };
        assert!(safe.validate().unwrap_err().to_string().contains("classifier.safe_label"));
        assert!(serde_json::from_str::<ClassifierConfig>(r#"{"d_modl": 1}"#).is_err());
    }
}
