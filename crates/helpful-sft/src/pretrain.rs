//! Pretraining of the mini model: a tokenizer and a Gemma from random weights, on the mini world.

use std::path::Path;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor},
};
use cai_data::{atomic, constitution::Constitution, hash, seed::Seed, world::World};
use cai_model::{
    decoder::{Decoder, DecoderSpec, Pass, RandomInit},
    export::save_folder,
    tokenizer::{ChatTokenizer, Example, GEMMA_CHAT_TEMPLATE, Turns, train_bpe},
};
use cai_train::{RunDir, TrainArgs, TrainReport, train};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Mode, Result, SftObjective};

/// The mini model and how it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Tokens, special and byte tokens included.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Records of the mini world to train on.
    pub records: usize,
    /// Records the tokenizer is trained on.
    pub tokenizer_records: usize,
    /// Records held out for the reported loss.
    pub held_out_records: usize,
    /// The loop.
    pub train: TrainArgs,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            hidden_size: 192,
            intermediate_size: 768,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            num_key_value_heads: 1,
            head_dim: 48,
            max_position_embeddings: 1024,
            records: 100_000,
            tokenizer_records: 20_000,
            held_out_records: 500,
            train: TrainArgs::default(),
        }
    }
}

impl PretrainConfig {
    fn gemma(&self) -> serde_json::Value {
        json!({
            "architectures": ["GemmaForCausalLM"], "attention_bias": false,
            "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
            "head_dim": self.head_dim, "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh", "hidden_size": self.hidden_size,
            "initializer_range": 0.02, "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings, "model_type": "gemma",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "use_cache": true, "vocab_size": self.vocab_size,
        })
    }
}

/// Trains tokenizer and model and writes the model folder `out`; checkpoints go to `work`, from
/// where an interrupted run resumes.
///
/// # Errors
///
/// Those of the tokenizer, the loop and the files.
pub fn run(
    config: &PretrainConfig,
    constitution: &Constitution,
    work: &Path,
    out: &Path,
    device: &Device,
) -> Result<TrainReport> {
    let seed = Seed(config.train.seed);
    let world = World::new();
    let corpus = world.pretrain(
        &constitution.principles,
        config.tokenizer_records,
        seed.derive("tokenizer"),
    );
    let texts = corpus.flat_map(|record| record.messages.into_iter().map(|m| m.content));
    train_bpe(texts, config.vocab_size, GEMMA_CHAT_TEMPLATE, out)?;
    let tokenizer = ChatTokenizer::from_dir(out)?;

    let examples = |count, label: &str| -> Result<Vec<Example>> {
        let records = world.pretrain(&constitution.principles, count, seed.derive(label));
        records.map(|r| Ok(tokenizer.conversation(&r.messages, Turns::All)?)).collect()
    };
    let (train_set, held_out) =
        (examples(config.records, "train")?, examples(config.held_out_records, "held_out")?);

    let shape = DecoderSpec::from_json(config.gemma())
        .map_err(|reason| cai_model::Error::Config { path: out.join("config.json"), reason })?;
    let mut source = RandomInit { seed: seed.derive("weights"), std: 0.02, device: device.clone() };
    let decoder = Decoder::load(&shape, &mut source)?.map(&mut Unfreeze);
    let objective = SftObjective {
        train: &train_set,
        weights: &[],
        rows: &[],
        held_out: &held_out,
        pad: tokenizer.pad(),
        eval_batch_size: config.train.per_device_train_batch_size,
        mode: Mode::Full,
        pass: Pass::default(),
    };
    let identity = format!("{config:?} {constitution:?}");
    let run = RunDir::new(work, hash::bytes(identity.as_bytes())).label("pretrain");
    let (decoder, report) = train(decoder, &objective, &config.train, &run)?;
    save_folder(&decoder, None, DType::BF16, out)?;
    let stops = json!({
        "bos_token_id": tokenizer.bos(), "pad_token_id": tokenizer.pad(),
        "eos_token_id": tokenizer.stop_ids(),
    });
    atomic::write_json(&out.join("generation_config.json"), &stops)?;
    atomic::write(&out.join("README.md"), model_card(config, &shape, &report).as_bytes())?;
    Ok(report)
}

/// What the model is, how it was made and how well it predicts. Holds no times, so that the same
/// training writes the same bytes.
fn model_card(config: &PretrainConfig, shape: &DecoderSpec, report: &TrainReport) -> String {
    let value = |name: &str| report.last(name).map_or("none".into(), |v| format!("{v:.4}"));
    let PretrainConfig { records, train, .. } = config;
    format!(
        "---\nlicense: mit\nlibrary_name: transformers\n---\n\n# mini-gemma\n\n\
         A Gemma 1 of {:.1} million parameters ({} layers, hidden {}, MLP {}, {} heads, {} KV head, \
         vocabulary {}), trained from random weights on the mini world, a small made-up world of \
         topics, requests, answers, critiques, revisions and comparisons. It knows nothing else: it \
         is there so that the whole method can be run and measured in minutes on two CPU cores.\n\n\
         Made by `cargo xtask pretrain` with `configs/pretrain.yaml`: {} records of the world, each \
         seen once ({} tokens, {} steps of {} records, AdamW, peak learning rate {}, cosine, seed \
         {}), loss on assistant turns. Weights are stored in bf16.\n\n\
         | | held-out records of the world |\n|---|---|\n| loss per token | {} |\n\
         | tokens predicted first | {} |\n\n\
         The world states the facts and the class (harmless, or one of four kinds of harm) of every \
         topic; requests are only ever about training topics, in training wordings. The model \
         is not helpful yet, on purpose: it answers requests vaguely, wrongly or not at all as often \
         as well. Its harmful topics are names; the answers to them are abstract phrases.\n",
        shape.num_parameters() as f64 / 1e6,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        shape.vocab_size,
        records,
        report.tokens,
        report.steps,
        train.per_device_train_batch_size * train.gradient_accumulation_steps,
        train.learning_rate,
        train.seed,
        value("eval_loss"),
        value("eval_mean_token_accuracy"),
    )
}

/// Marks every parameter for training.
struct Unfreeze;

impl ModuleMapper for Unfreeze {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(true)
    }
}
