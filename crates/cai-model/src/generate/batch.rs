use burn::tensor::{DType, Int, Tensor, TensorData};

use cai_data::seed::Seed;

use super::{Finish, Generation, SamplingConfig, sampling::choose};
use crate::{Error, Result, batch::TokenBatch, gemma::KvCache, model::LanguageModel};

/// Continues each prompt (token ids, `<bos>` included), in order. `seeds[i]` alone decides the
/// draws of prompt `i`. Prompts run in blocks of `batch_size` consecutive ones; `on_done` hears how
/// many more are finished.
///
/// # Errors
///
/// [`Error::Input`] for settings out of range, an empty prompt, or one that leaves no room in the
/// model's context.
pub fn generate(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &SamplingConfig,
    seeds: &[Seed],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Generation>> {
    sampling.check()?;
    if prompts.len() != seeds.len() {
        let (p, s) = (prompts.len(), seeds.len());
        return Err(Error::Input(format!("{p} prompts but {s} seeds")));
    }
    let context = model.config.max_position_embeddings;
    for (i, prompt) in prompts.iter().enumerate() {
        let length = prompt.len();
        if length == 0 || length >= context {
            return Err(Error::Input(format!(
                "prompt {}: {length} tokens; it must have between 1 and {} so that an answer fits \
                 the model's context of {context}",
                i + 1,
                context - 1
            )));
        }
    }
    let mut generations = Vec::with_capacity(prompts.len());
    let size = batch_size.max(1);
    for (prompts, seeds) in prompts.chunks(size).zip(seeds.chunks(size)) {
        generations.extend(block(model, prompts, sampling, seeds, on_done)?);
    }
    Ok(generations)
}

/// One prompt's generation under way.
struct Row {
    ids: Vec<u32>,
    logprob: f64,
    finish: Option<Finish>,
    /// Tokens it may have at most: the sampling's limit or what the context leaves.
    limit: usize,
}

fn block(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &SamplingConfig,
    seeds: &[Seed],
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Generation>> {
    let stops = model.tokenizer.stop_ids();
    let context = model.config.max_position_embeddings;
    let refs: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let batch = TokenBatch::left(&refs, model.tokenizer.pad(), &model.device);
    let width = batch.width();
    let pads: Vec<usize> = batch.lengths.iter().map(|n| width - n).collect();
    let mut cache =
        KvCache::new(&model.config, pads, width + sampling.max_new_tokens, &model.device);
    let mut rows: Vec<Row> = prompts
        .iter()
        .map(|p| Row {
            ids: Vec::new(),
            logprob: 0.0,
            finish: None,
            limit: sampling.max_new_tokens.min(context - p.len()),
        })
        .collect();
    // Rows of `rows` that the cache holds, in its order.
    let mut live: Vec<usize> = (0..rows.len()).collect();
    let mut logits = next_logits(model, batch.ids, &mut cache);
    loop {
        let vocabulary = logits.len() / live.len();
        let mut next = Vec::with_capacity(live.len());
        for (slot, &row) in live.iter().enumerate() {
            let logits = &logits[slot * vocabulary..(slot + 1) * vocabulary];
            next.push(step(&mut rows[row], logits, sampling, seeds[row], &stops, on_done));
        }
        let running: Vec<usize> =
            (0..live.len()).filter(|&slot| rows[live[slot]].finish.is_none()).collect();
        if running.is_empty() {
            break;
        }
        // Finished rows leave the batch once a quarter of it is finished: copying the cache costs
        // about as much as a step.
        if running.len() * 4 <= live.len() * 3 {
            cache.keep(&running);
            live = running.iter().map(|&slot| live[slot]).collect();
            next = running.iter().map(|&slot| next[slot]).collect();
        }
        let ids = TensorData::new(next, [live.len(), 1]);
        let ids = Tensor::<2, Int>::from_data(ids, &model.device);
        logits = next_logits(model, ids, &mut cache);
    }
    let finish = |row: Row| -> Result<Generation> {
        Ok(Generation {
            text: model.tokenizer.decode(&row.ids)?,
            ids: row.ids,
            logprob: row.logprob,
            finish: row.finish.unwrap_or(Finish::Length),
        })
    };
    rows.into_iter().map(finish).collect()
}

/// Adds a row's next token and says what to feed the model.
fn step(
    row: &mut Row,
    logits: &[f32],
    sampling: &SamplingConfig,
    seed: Seed,
    stops: &[u32],
    on_done: &mut dyn FnMut(usize),
) -> i64 {
    if row.finish.is_some() {
        return 0;
    }
    let choice = choose(logits, sampling, seed.index(row.ids.len() as u64));
    row.logprob += choice.logprob;
    if stops.contains(&choice.token) {
        row.finish = Some(Finish::Stop);
    } else {
        row.ids.push(choice.token);
        if row.ids.len() >= row.limit {
            row.finish = Some(Finish::Length);
        }
    }
    if row.finish.is_some() {
        on_done(1);
    }
    choice.token as i64
}

/// Logits after the last of the new tokens, row by row.
fn next_logits(model: &LanguageModel, ids: Tensor<2, Int>, cache: &mut KvCache) -> Vec<f32> {
    let [rows, tokens] = ids.dims();
    let hidden = model.gemma.hidden_cached(ids, cache);
    let last = hidden.narrow(1, tokens - 1, 1).reshape([rows, model.config.hidden_size]);
    model.gemma.logits(last).cast(DType::F32).into_data().iter::<f32>().collect()
}
