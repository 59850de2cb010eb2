use std::{cmp::Reverse, collections::HashMap, ops::ControlFlow};

use cai_data::seed::Seed;

use super::{Engine, Event, Generation, Limits, Request, SamplingConfig};
use crate::{Error, Result, model::LanguageModel};

/// Continues each prompt (token ids, `<bos>` included); the answers come in the order of the
/// prompts. `seeds[i]` alone decides the draws of prompt `i`. At most `batch_size` answers are
/// generated at once. Equal prompts are read once. `on_done` hears how many more are finished.
///
/// # Errors
///
/// [`Error::Input`] for settings out of range, an empty prompt, or one that leaves no room for
/// `max_new_tokens` in the model's context.
pub fn generate(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &SamplingConfig,
    seeds: &[Seed],
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<Generation>> {
    if prompts.len() != seeds.len() {
        let (p, s) = (prompts.len(), seeds.len());
        return Err(Error::Input(format!("{p} prompts but {s} seeds")));
    }
    let mut requests: Vec<Request> = Vec::new();
    let mut of_prompt: HashMap<&[u32], usize> = HashMap::new();
    // The request of each prompt; its samples are in the order of the prompts.
    let mut places = Vec::with_capacity(prompts.len());
    for (i, (prompt, &seed)) in prompts.iter().zip(seeds).enumerate() {
        let place = *of_prompt.entry(prompt).or_insert(requests.len());
        if place < requests.len() {
            requests[place].seeds.push(seed);
        } else {
            let (prompt, sampling) = (prompt.clone(), sampling.clone());
            let request = Request { prompt, sampling, seeds: vec![seed] };
            request
                .check(&model.spec, usize::MAX)
                .map_err(|error| Error::Input(format!("prompt {}: {error}", i + 1)))?;
            requests.push(request);
        }
        places.push(place);
    }
    let on_event = &mut |_: usize, event: &Event| {
        if matches!(event, Event::Finished { .. }) {
            on_done(1);
        }
        ControlFlow::Continue(())
    };
    let generations = complete(model, &requests, batch_size, on_event)?.unwrap_or_default();
    let mut samples: Vec<_> = generations.into_iter().map(Vec::into_iter).collect();
    Ok(places.into_iter().filter_map(|place| samples[place].next()).collect())
}

/// Runs requests to their ends and gives each one's generations, sample by sample.
///
/// At most `batch_size` samples are generated at once, those of the longest prompts first, so that
/// the rows of a batch are of similar length. `on_event` hears everything that happens, with the
/// index of the request; when it breaks, the work ends and the result is `None`.
///
/// # Errors
///
/// [`Error::Input`] for a request that [`Engine::submit`] refuses, by its number.
pub fn complete(
    model: &LanguageModel,
    requests: &[Request],
    batch_size: usize,
    on_event: &mut dyn FnMut(usize, &Event) -> ControlFlow<()>,
) -> Result<Option<Vec<Vec<Generation>>>> {
    let length = |r: &Request| r.prompt.len().saturating_add(r.sampling.max_new_tokens);
    let longest = requests.iter().map(length).max().unwrap_or(1);
    let samples: usize = requests.iter().map(|request| request.seeds.len()).sum();
    let limits = Limits {
        max_batch_size: batch_size.clamp(1, samples.max(1)),
        max_length: longest.min(model.spec.max_position_embeddings),
        ..Limits::default()
    };
    let mut engine = Engine::new(model.clone(), limits)?;
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| Reverse(requests[i].prompt.len()));
    let mut indices = HashMap::new();
    for i in order {
        let id = engine
            .submit(requests[i].clone())
            .map_err(|error| Error::Input(format!("prompt {}: {error}", i + 1)))?;
        indices.insert(id, i);
    }
    let mut generations: Vec<Vec<Option<Generation>>> =
        requests.iter().map(|request| vec![None; request.seeds.len()]).collect();
    while !engine.is_idle() {
        for event in engine.step()? {
            let i = indices[&event.request()];
            if on_event(i, &event).is_break() {
                return Ok(None);
            }
            if let Event::Finished { sample, generation, .. } = event {
                generations[i][sample] = Some(generation);
            }
        }
    }
    Ok(generations.into_iter().map(|samples| samples.into_iter().collect()).collect())
}
