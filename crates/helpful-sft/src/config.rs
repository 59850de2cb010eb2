use cai_data::overlay::over;
use cai_model::{lora::LoraConfig, tokenizer::Turns};
use cai_train::TrainArgs;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// Which assistant turns of a conversation are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainedTurns {
    /// Every assistant turn.
    All,
    /// The last one.
    Last,
}

impl From<TrainedTurns> for Turns {
    fn from(turns: TrainedTurns) -> Self {
        match turns {
            TrainedTurns::All => Turns::All,
            TrainedTurns::Last => Turns::Last,
        }
    }
}

/// Settings of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// The adapter.
    pub lora: LoraConfig,
    /// The loop. Keys that are not given are those of [`SftConfig::default`].
    #[serde(deserialize_with = "train_args")]
    pub train: TrainArgs,
    /// Keep only each layer's input in the forward pass and run the layers again in the backward
    /// pass: the memory of one layer's activations, for about a third more time.
    pub gradient_checkpointing: bool,
    /// Put several conversations into one row of at most `max_length` tokens; none sees another. A
    /// batch then has as many rows as per_device_train_batch_size says.
    pub packing: bool,
    /// Noise on the embeddings in training (NEFTune), such as 5; absent means none.
    pub neftune_noise_alpha: Option<f64>,
    /// Longest conversation in tokens; longer ones lose their end.
    pub max_length: usize,
    /// Which assistant turns are trained.
    pub turns: TrainedTurns,
    /// Share of conversations kept out of training and evaluated.
    pub held_out: f64,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            lora: LoraConfig::default(),
            train: default_train_args(),
            gradient_checkpointing: false,
            packing: false,
            neftune_noise_alpha: None,
            max_length: 1024,
            turns: TrainedTurns::Last,
            held_out: 0.05,
        }
    }
}

/// TRL's for SFT, with the learning rate that is usual with LoRA.
fn default_train_args() -> TrainArgs {
    TrainArgs { learning_rate: 2e-4, ..TrainArgs::default() }
}

fn train_args<'de, D: Deserializer<'de>>(given: D) -> std::result::Result<TrainArgs, D::Error> {
    over(&default_train_args(), given)
}

impl SftConfig {
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.held_out) {
            let reason = format!("is {}; use a share from 0 to below 1", self.held_out);
            return Err(Error::Setting { key: "held_out", reason });
        }
        if self.max_length < 2 {
            return Err(Error::Setting { key: "max_length", reason: "must be at least 2".into() });
        }
        let alpha = self.neftune_noise_alpha.unwrap_or_default();
        if !(alpha.is_finite() && alpha >= 0.0) {
            let reason = format!("is {alpha}; use a number of 0 or more");
            return Err(Error::Setting { key: "neftune_noise_alpha", reason });
        }
        self.lora.check()?;
        Ok(self.train.validate()?)
    }
}
