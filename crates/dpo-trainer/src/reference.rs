//! Log-probabilities under the reference: computed once, kept in a file.

use std::{io::ErrorKind, path::Path};

use burn::module::Module;
use cai_data::atomic;
use cai_model::{decoder::Decoder, lora::without_adapter, model::LanguageModel};
use cai_train::{Progress, Verbosity};
use serde::{Deserialize, Serialize};

use crate::{
    DpoConfig, Error, Pair, PairLogps, Prepared, ReferenceModel, Result,
    objective::{Forward, mismatched_logps},
};

/// What log-probabilities were computed from. Other sources make them stale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Names the reference model, base and adapter, by content (sha256).
    pub model: String,
    /// Names the pairs by content (sha256).
    pub pairs: String,
    /// The settings that decide the numbers, the batch size because it decides how sums are rounded.
    pub settings: String,
}

impl Sources {
    /// What of these is not as in `wanted`, in words.
    fn differences(&self, wanted: &Sources) -> Vec<String> {
        let mut found = Vec::new();
        if self.model != wanted.model {
            found.push("another reference model (base or adapter)".to_owned());
        }
        if self.pairs != wanted.pairs {
            found.push("other pairs".to_owned());
        }
        if self.settings != wanted.settings {
            found.push(format!("other settings ({}, now {})", self.settings, wanted.settings));
        }
        found
    }
}

/// What the reference gives every pair, in the order of [`Prepared`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// What they were computed from.
    pub sources: Sources,
    /// Of the training pairs.
    pub train: Vec<PairLogps>,
    /// Of the held-out pairs.
    pub held_out: Vec<PairLogps>,
}

impl Reference {
    /// Reads the log-probabilities from `path`; if there is no such file, computes them and writes
    /// them there. `label` names the progress bar.
    ///
    /// # Errors
    ///
    /// [`Error::StaleReference`] for a file that was made of something else or is damaged;
    /// [`Error::Reference`] for a log-probability that is not finite; I/O errors.
    pub fn load_or_compute(
        path: &Path,
        model: &LanguageModel,
        prepared: &Prepared,
        config: &DpoConfig,
        label: &str,
    ) -> Result<Self> {
        if !config.needs_reference() {
            return Ok(Self::none(prepared));
        }
        let batch_size = config.train.per_device_train_batch_size;
        let (decoder, name) = reference_model(model, config.reference)?;
        let sources = Sources {
            model: name,
            pairs: prepared.fingerprint(),
            settings: format!(
                "objective {:?}, batch size {batch_size}, ld_alpha {:?}, share_prompt {}",
                config.objective, config.ld_alpha, config.share_prompt
            ),
        };
        if let Some(reference) = read(path, &sources, prepared)? {
            return Ok(reference);
        }
        let total = prepared.train.len() + prepared.held_out.len();
        let mut progress = Progress::new(label, total as u64, Verbosity::Auto);
        let pad = model.tokenizer.pad();
        let mut score = |pairs: &[Pair]| {
            let done = &mut |n| progress.advance(n as u64);
            pair_logps(&decoder, pairs, pad, config, done)
        };
        let (train, held_out) = (score(&prepared.train)?, score(&prepared.held_out)?);
        progress.finish("");
        let reference = Self { sources, train, held_out };
        atomic::write_json(path, &reference)?;
        Ok(reference)
    }

    /// For losses that look at no reference: all log-probabilities are 0.
    fn none(prepared: &Prepared) -> Self {
        let zeros = |pairs: &[Pair]| vec![PairLogps::default(); pairs.len()];
        Self {
            sources: Sources { pairs: prepared.fingerprint(), ..Sources::default() },
            train: zeros(&prepared.train),
            held_out: zeros(&prepared.held_out),
        }
    }
}

/// The kept file, if there is one. It is refused if it is damaged or made of something else, which is
/// then named.
fn read(path: &Path, sources: &Sources, prepared: &Prepared) -> Result<Option<Reference>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(stale(path, format!("cannot be read ({error})"))),
    };
    let reference: Reference = serde_json::from_slice(&bytes)
        .map_err(|error| stale(path, format!("is damaged ({error})")))?;
    let mut others = reference.sources.differences(sources);
    let sizes = (reference.train.len(), reference.held_out.len());
    if others.is_empty() && sizes != (prepared.train.len(), prepared.held_out.len()) {
        others.push("another number of pairs".to_owned());
    }
    match others.is_empty() {
        true => Ok(Some(reference)),
        false => Err(stale(path, format!("was made with {}", others.join(" and ")))),
    }
}

fn stale(path: &Path, reason: String) -> Error {
    Error::StaleReference { path: path.to_owned(), reason }
}

/// The reference, without autodiff, and a name for it by content. The adapter in memory counts, not
/// the file that it came from: it may have been trained since.
fn reference_model(model: &LanguageModel, kind: ReferenceModel) -> Result<(Decoder, String)> {
    Ok(match kind {
        ReferenceModel::Start => (model.decoder.valid(), model.content_fingerprint()),
        ReferenceModel::Base => (without_adapter(model.decoder.clone()).valid(), model.base_name()),
    })
}

/// Log-probabilities of `pairs`, in order, as `config` wants them: in batches of as many consecutive
/// pairs as a training batch has, tokens beyond the length of a pair's shorter completion times
/// `ld_alpha`. `on_done` hears how many more pairs are scored.
///
/// # Errors
///
/// [`Error::Reference`] for one that is not finite.
pub fn pair_logps(
    decoder: &Decoder,
    pairs: &[Pair],
    pad: u32,
    config: &DpoConfig,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<PairLogps>> {
    let mut logps = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(config.train.per_device_train_batch_size.max(1)) {
        let refs: Vec<&Pair> = batch.iter().collect();
        let forward = Forward::run(decoder, &refs, pad, config, false);
        let mut mismatched = mismatched_logps(decoder, &refs, pad).into_iter();
        for n in 0..batch.len() {
            let (chosen, rejected) = forward.completions(n, config.ld_alpha);
            let pair = PairLogps {
                chosen: chosen.policy,
                rejected: rejected.policy,
                mismatched: mismatched.next(),
            };
            let values = [Some(pair.chosen), Some(pair.rejected), pair.mismatched];
            if let Some(value) = values.into_iter().flatten().find(|x| !x.is_finite()) {
                return Err(Error::Reference { value });
            }
            logps.push(pair);
        }
        on_done(batch.len());
    }
    Ok(logps)
}
