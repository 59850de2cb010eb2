//! What a run is made of, on a random mini model: training steps, log-probabilities, generation, and a
//! batch of classified texts.

use anyhow::{Result, ensure};
use cai_benches::{
    GemmaShape, SEED, classifier, language_model,
    steps::{self, Batch, Task},
    texts,
};
use cai_model::lora::LoraConfig;
use clap::ValueEnum;
use criterion::{Criterion, SamplingMode, Throughput};

const MINI: GemmaShape = GemmaShape::MINI;

fn main() -> Result<()> {
    cai_benches::run(|criterion| {
        for &task in Task::value_variants() {
            let model = language_model(MINI)?.add_adapter(&LoraConfig::default(), SEED)?;
            let mut step = steps::new(task, model, Batch::new(MINI))?;
            bench(criterion, &task.name(), task.tokens(MINI), || step().map(drop))?;
        }
        classification(criterion)
    })
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
