//! The steps that runs are made of, on a model folder: what the benches, the table and the comparison
//! with PyTorch time.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use burn::{
    module::Module,
    tensor::{DType, Device},
};
use cai_data::{atomic, seed::Seed};
use cai_model::{
    decoder::{Decoder, Pass},
    export::write_random_model,
    generate::{SamplingConfig, generate},
    lora::{LoraConfig, without_adapter},
    model::LanguageModel,
    score::score,
    tokenizer::Example,
};
use cai_train::{Objective, TrainArgs, optim::Optimizer, params::Gradients};
use clap::ValueEnum;
use dpo_trainer::{DpoConfig, DpoObjective, Pair, Reference, pair_logps};
use helpful_sft::{Mode, SftObjective};
use serde::{Deserialize, Serialize};

use crate::{GemmaShape, SEED, device, pairs, prompts, write_tokenizer};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// LoRA step on examples whose every token is trained.
    Sft,
    /// LoRA step on pairs that share their prompt, and the reference's pass.
    Dpo,
    /// The same with the reference's log-probabilities known.
    DpoCached,
    /// Log-probabilities of the pairs' completions.
    LogProbs,
    /// Reading a batch of prompts, and one token for each.
    Prefill,
    /// The same, and as many new tokens as prompts have, greedily.
    Generate,
}

impl Task {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
    }

    /// Tokens that a step takes in or puts out.
    pub fn tokens(self, shape: GemmaShape) -> usize {
        match self {
            Self::Sft => shape.batch * shape.tokens,
            Self::Dpo | Self::DpoCached | Self::LogProbs => 2 * shape.batch * shape.tokens,
            Self::Prefill => shape.generated * shape.prompt,
            Self::Generate => shape.generated * shape.prompt,
        }
    }

    /// Operations of a step's matrix products, without adapters and with a shared prompt counted
    /// once: two for each weight that a token meets, forward, and again for the gradient of the
    /// token's state; four for each key that a query sees and number of a head, and twice as many
    /// backward. Only tokens of which something is wanted meet the head and what comes behind the
    /// attention of the last layer.
    pub fn operations(self, shape: GemmaShape) -> f64 {
        let GemmaShape { batch, tokens, generated, prompt, layers, heads, head_dim, .. } = shape;
        let pass = |rows: usize, length: usize, scored: usize| {
            let last = shape.hidden * (3 * shape.mlp + shape.heads * shape.head_dim);
            let weights = rows * length * (shape.layer_weights() - last)
                + scored * (shape.head_weights() + last);
            let keys = rows * length * length / 2;
            [2.0 * weights as f64, 4.0 * (keys * layers * heads * head_dim) as f64]
        };
        let forward = |[weights, keys]: [f64; 2]| weights + keys;
        let training = |[weights, keys]: [f64; 2]| 2.0 * weights + 3.0 * keys;
        // Half of a pair is shared.
        let pair = pass(batch, tokens * 3 / 2, batch * tokens);
        match self {
            Self::Sft => training(pass(batch, tokens, batch * (tokens - 1))),
            Self::Dpo => forward(pair) + training(pair),
            Self::DpoCached => training(pair),
            Self::LogProbs => forward(pass(2 * batch, tokens, batch * tokens)),
            Self::Prefill => forward(pass(generated, prompt, generated)),
            Self::Generate => forward(pass(generated, 2 * prompt, generated * prompt)),
        }
    }
}

/// What a step works on and how it trains, for both sides of a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Of SFT.
    pub examples: Vec<Vec<u32>>,
    /// Of the pairs.
    pub chosen: Vec<Vec<u32>>,
    /// Of the pairs.
    pub rejected: Vec<Vec<u32>>,
    /// Of generation.
    pub prompts: Vec<Vec<u32>>,
    /// Tokens generated for each prompt.
    pub new_tokens: usize,
    /// Of AdamW without decay.
    pub learning_rate: f64,
    /// What the norm of all gradients together is cut to.
    pub max_grad_norm: f64,
    /// Of DPO.
    pub beta: f64,
}

impl Batch {
    /// Random ids for a shape.
    pub fn new(shape: GemmaShape) -> Self {
        let GemmaShape { batch, tokens, vocab_size, .. } = shape;
        let pairs = pairs(batch, tokens, vocab_size);
        Self {
            examples: prompts(batch, tokens, vocab_size),
            chosen: pairs.iter().map(|pair| pair.chosen.ids.clone()).collect(),
            rejected: pairs.iter().map(|pair| pair.rejected.ids.clone()).collect(),
            prompts: prompts(shape.generated, shape.prompt, vocab_size),
            new_tokens: shape.prompt,
            learning_rate: 1e-3,
            max_grad_norm: TrainArgs::default().max_grad_norm,
            beta: DpoConfig::default().beta,
        }
    }
}

/// Name of the batch's file in a folder.
const BATCH: &str = "batch.json";
/// Name of the adapter's folder in it.
const ADAPTER: &str = "adapter";

/// Writes a folder that any step can run on: random weights in f32 as Hugging Face stores them, a
/// fresh adapter as PEFT stores it, and the batch.
///
/// # Errors
///
/// Those of writing.
pub fn write(shape: GemmaShape, rank: usize, dir: &Path) -> Result<()> {
    let tokenizer = tempfile::tempdir()?;
    write_tokenizer(tokenizer.path())?;
    write_random_model(&shape.config()?, DType::F32, SEED, tokenizer.path(), dir)?;
    let lora = LoraConfig { r: rank, lora_alpha: 2.0 * rank as f64, ..LoraConfig::default() };
    let model = LanguageModel::load(dir, None, &device())?.add_adapter(&lora, SEED)?;
    fs::create_dir_all(dir.join(ADAPTER))?;
    model.save_adapter(&dir.join(ADAPTER))?;
    Ok(atomic::write_json(&dir.join(BATCH), &Batch::new(shape))?)
}

/// A step that can be taken again and again. It gives the loss before it, or the mean
/// log-probability of a token, or the number of new tokens.
pub type Step = Box<dyn FnMut() -> Result<f64>>;

/// The step of `task` on a folder of [`write`], on a device.
///
/// # Errors
///
/// Those of reading the folder.
pub fn load(task: Task, dir: &Path, device: &Device) -> Result<Step> {
    let path = dir.join(BATCH);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let batch: Batch = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let adapter = matches!(task, Task::Sft | Task::Dpo | Task::DpoCached);
    let adapter = adapter.then(|| dir.join(ADAPTER));
    let model = LanguageModel::load(dir, adapter.as_deref(), device)?;
    new(task, model, batch)
}

/// The step of `task` on a model, which has an adapter if the task is training.
///
/// # Errors
///
/// That there is no adapter to train.
pub fn new(task: Task, model: LanguageModel, batch: Batch) -> Result<Step> {
    Ok(match task {
        Task::Sft => sft(Trainee::new(model, &batch)?, batch),
        Task::Dpo | Task::DpoCached => dpo(Trainee::new(model, &batch)?, batch, task)?,
        Task::LogProbs => log_probs(model, &batch),
        Task::Prefill => generation(model, batch, 1),
        Task::Generate => {
            let new_tokens = batch.new_tokens;
            generation(model, batch, new_tokens)
        }
    })
}

struct Trainee {
    decoder: Decoder,
    optimizer: Optimizer,
    args: TrainArgs,
}

impl Trainee {
    fn new(model: LanguageModel, batch: &Batch) -> Result<Self> {
        let decoder = model.train_adapter()?.decoder.train();
        let args = TrainArgs {
            learning_rate: batch.learning_rate,
            max_grad_norm: batch.max_grad_norm,
            ..TrainArgs::default()
        };
        Ok(Self { decoder, optimizer: Optimizer::new(&args), args })
    }

    /// Forward, backward, global norm and update, as in the loop.
    fn step(&mut self, objective: &impl Objective<Decoder>) -> Result<f64> {
        let items: Vec<usize> = (0..objective.len()).collect();
        let weight = objective.weight(&items);
        let loss =
            objective.loss(&self.decoder, &items, SEED).map_err(anyhow::Error::from_boxed)?;
        let mut grads = loss.surrogate.div_scalar(weight).backward();
        let mut gradients = Gradients::default();
        gradients.accumulate(&self.decoder, &mut grads);
        // As `torch.nn.utils.clip_grad_norm_` has it.
        let scale = (self.args.max_grad_norm / (gradients.norm()? + 1e-6)).min(1.0);
        let rate = self.args.learning_rate;
        self.decoder = self.optimizer.step(self.decoder.clone(), gradients, scale, rate);
        Ok(loss.loss / weight)
    }
}

fn sft(mut trainee: Trainee, batch: Batch) -> Step {
    // Nothing predicts the first token.
    let trained = |ids: Vec<u32>| Example { trained: (0..ids.len()).map(|t| t > 0).collect(), ids };
    let train: Vec<Example> = batch.examples.into_iter().map(trained).collect();
    Box::new(move || {
        trainee.step(&SftObjective {
            train: &train,
            weights: &[],
            rows: &[],
            held_out: &[],
            pad: 0,
            eval_batch_size: train.len(),
            mode: Mode::Adapter,
            pass: Pass::default(),
        })
    })
}

fn dpo(mut trainee: Trainee, batch: Batch, task: Task) -> Result<Step> {
    let mut config = DpoConfig { beta: batch.beta, ..DpoConfig::default() };
    config.train.per_device_train_batch_size = batch.chosen.len();
    let both = batch.chosen.into_iter().zip(batch.rejected);
    let train: Vec<Pair> = both.map(|(chosen, rejected)| pair(chosen, rejected)).collect();
    let base = without_adapter(trainee.decoder.valid());
    let reference = move |train: &[Pair], config: &DpoConfig| -> Result<Reference> {
        let train = pair_logps(&base, train, 0, config, &mut |_| {})?;
        Ok(Reference { sources: Default::default(), train, held_out: Vec::new() })
    };
    let known = match task {
        Task::DpoCached => Some(reference(&train, &config)?),
        _ => None,
    };
    Ok(Box::new(move || {
        let computed = match &known {
            Some(known) => known.clone(),
            None => reference(&train, &config)?,
        };
        trainee.step(&DpoObjective {
            train: &train,
            held_out: &[],
            reference: &computed,
            pad: 0,
            eval_batch_size: train.len(),
            config: &config,
        })
    }))
}

fn pair(chosen: Vec<u32>, rejected: Vec<u32>) -> Pair {
    let [chosen, rejected] = [chosen, rejected].map(completed);
    Pair { chosen, rejected, chosen_probability: 1.0, weight: 1.0, mismatched: None, source: None }
}

/// An example whose second half is a completion.
fn completed(ids: Vec<u32>) -> Example {
    let trained = (0..ids.len()).map(|t| t >= ids.len() / 2).collect();
    Example { ids, trained }
}

fn log_probs(model: LanguageModel, batch: &Batch) -> Step {
    let all = batch.chosen.iter().chain(&batch.rejected);
    let examples: Vec<Example> = all.map(|ids| completed(ids.clone())).collect();
    Box::new(move || {
        let scores = score(&model, &examples, examples.len(), &mut |_| {})?;
        let tokens: usize = scores.iter().map(|score| score.tokens).sum();
        Ok(scores.iter().map(|score| score.logprob).sum::<f64>() / tokens as f64)
    })
}

fn generation(model: LanguageModel, batch: Batch, new_tokens: usize) -> Step {
    let sampling = SamplingConfig::greedy(new_tokens);
    let seeds: Vec<Seed> = (0..batch.prompts.len() as u64).map(|i| SEED.index(i)).collect();
    Box::new(move || {
        let prompts = &batch.prompts;
        let all = generate(&model, prompts, &sampling, &seeds, prompts.len(), &mut |_| {})?;
        let tokens: usize = all.iter().map(|generation| generation.ids.len()).sum();
        ensure!(tokens == prompts.len() * new_tokens, "a generation ended early");
        Ok(tokens as f64)
    })
}
