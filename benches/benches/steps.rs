//! What a run is made of, on a random mini model: a training step of SFT and of DPO, a batch of
//! generations, a batch of classified texts.

use anyhow::{Result, ensure};
use burn::module::Module;
use cai_benches::{GemmaShape, SEED, classifier, examples, language_model, pairs, prompts, texts};
use cai_data::seed::Seed;
use cai_model::{
    gemma::{Gemma, Pass},
    generate::{Finish, SamplingConfig, generate},
    lora::{LoraConfig, add_adapter},
};
use cai_train::{Objective, TrainArgs, optim::Optimizer, params::Gradients};
use criterion::{Criterion, SamplingMode, Throughput};
use dpo_trainer::{DpoConfig, DpoObjective, Reference, pair_logps};
use helpful_sft::{Mode, SftObjective};

/// Rows of a training batch, each full: a step sees as many tokens in SFT as in DPO.
const ROWS: usize = 8;
/// Tokens of a row; the second half is trained.
const WIDTH: usize = 256;
const PAD: u32 = 0;
const MINI: GemmaShape = GemmaShape::MINI;

fn main() -> Result<()> {
    cai_benches::run(|criterion| {
        sft_step(criterion)?;
        dpo_step(criterion)?;
        generation(criterion)?;
        classification(criterion)
    })
}

/// A model with a fresh LoRA adapter on all projections, and its optimiser.
struct Trainee {
    model: Gemma,
    optimizer: Optimizer,
}

impl Trainee {
    fn new() -> Result<Self> {
        let model = add_adapter(MINI.gemma()?, &LoraConfig::default(), SEED)?.train();
        Ok(Self { model, optimizer: Optimizer::new(&TrainArgs::default()) })
    }

    /// Forward, backward, global norm and update, as in the loop.
    fn step(&mut self, objective: &impl Objective<Gemma>) -> Result<()> {
        let items: Vec<usize> = (0..objective.len()).collect();
        let loss = objective.loss(&self.model, &items, SEED).map_err(anyhow::Error::from_boxed)?;
        let mut grads = loss.surrogate.div_scalar(objective.weight(&items)).backward();
        let mut gradients = Gradients::default();
        gradients.accumulate(&self.model, &mut grads);
        let scale = (1.0 / gradients.norm()?).min(1.0);
        self.model = self.optimizer.step(self.model.clone(), gradients, scale, 1e-5);
        Ok(())
    }
}

fn sft_step(criterion: &mut Criterion) -> Result<()> {
    let train = examples(ROWS, WIDTH, MINI.vocab_size);
    let mode = Mode::Adapter;
    let objective = SftObjective {
        train: &train,
        weights: &[],
        rows: &[],
        held_out: &[],
        pad: PAD,
        eval_batch_size: ROWS,
        mode,
        pass: Pass::default(),
    };
    let mut trainee = Trainee::new()?;
    bench(criterion, "sft_step", ROWS * WIDTH, || trainee.step(&objective))
}

/// The reference's pass alone, and a step with it. A run computes the reference once per pair, so
/// that only its first epoch pays for both.
fn dpo_step(criterion: &mut Criterion) -> Result<()> {
    let train = pairs(ROWS / 2, WIDTH, MINI.vocab_size);
    let mut trainee = Trainee::new()?;
    let start = trainee.model.valid();
    let mut config = DpoConfig::default();
    config.train.per_device_train_batch_size = train.len();
    let reference = || -> Result<Reference> {
        let logps = pair_logps(&start, &train, PAD, &config, &mut |_| {})?;
        Ok(Reference { sources: Default::default(), train: logps, held_out: Vec::new() })
    };
    bench(criterion, "dpo_reference", ROWS * WIDTH, || reference().map(drop))?;
    bench(criterion, "dpo_step", ROWS * WIDTH, || {
        trainee.step(&DpoObjective {
            train: &train,
            held_out: &[],
            reference: &reference()?,
            pad: PAD,
            eval_batch_size: ROWS / 2,
            config: &config,
        })
    })
}

/// 64 new tokens for each of 16 prompts of 32; the throughput counts new tokens.
fn generation(criterion: &mut Criterion) -> Result<()> {
    const PROMPTS: usize = 16;
    const NEW: usize = 64;
    let model = language_model(MINI)?;
    let prompts = prompts(PROMPTS, 32, MINI.vocab_size);
    let seeds: Vec<Seed> = (0..PROMPTS as u64).map(|i| SEED.index(i)).collect();
    let sampling = SamplingConfig::greedy(NEW);
    let run = || generate(&model, &prompts, &sampling, &seeds, PROMPTS, &mut |_| {});
    let full = run()?.iter().all(|generation| generation.finish == Finish::Length);
    ensure!(full, "a generation ended early: the throughput would be wrong; change the seed");
    bench(criterion, "generate_greedy", PROMPTS * NEW, || Ok(run().map(drop)?))
}

/// 64 texts that fill the classifier's 128 tokens; the throughput counts texts.
fn classification(criterion: &mut Criterion) -> Result<()> {
    let texts = texts(64, 200);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let classifier = classifier(&texts)?;
    let full = classifier.predict(&texts)?.iter().all(|prediction| prediction.truncated);
    ensure!(full, "a text is shorter than the classifier reads; make it longer");
    bench(criterion, "classify", texts.len(), || Ok(classifier.predict(&texts).map(drop)?))
}

/// Times `work`, which handles `count` tokens or texts.
fn bench(
    criterion: &mut Criterion,
    name: &str,
    count: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<()> {
    // Once outside the clock, where a failure can be told.
    work()?;
    let mut group = criterion.benchmark_group("steps");
    // Every sample has as many iterations: with few slow ones, a slope through them says little.
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| work().expect("it succeeded before"));
    });
    group.finish();
    Ok(())
}
