//! Log-probabilities under the reference: computed once, kept in a file.

use std::path::Path;

use burn::module::Module;
use cai_data::{atomic, hash};
use cai_model::{gemma::Gemma, lora::without_adapter, model::LanguageModel};
use cai_train::{Progress, Verbosity};
use serde::{Deserialize, Serialize};

use crate::{
    DpoConfig, Error, Pair, PairLogps, Prepared, ReferenceModel, Result, objective::Forward,
};

/// What the reference gives every pair, in the order of [`Prepared`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Names the reference model, the pairs and the batch size (sha256).
    pub fingerprint: String,
    /// Of the training pairs.
    pub train: Vec<PairLogps>,
    /// Of the held-out pairs.
    pub held_out: Vec<PairLogps>,
}

impl Reference {
    /// Reads the log-probabilities from `path` if they are of this model and these pairs; otherwise
    /// computes them and writes them there. `label` names the progress bar.
    ///
    /// # Errors
    ///
    /// [`Error::Reference`] for a log-probability that is not finite; I/O errors.
    pub fn load_or_compute(
        path: &Path,
        model: &LanguageModel,
        prepared: &Prepared,
        config: &DpoConfig,
        label: &str,
    ) -> Result<Self> {
        // The batch size is part of the name because it decides how sums are rounded.
        let batch_size = config.train.per_device_train_batch_size;
        let (gemma, name) = reference_model(model, config.reference)?;
        let names = format!("{name} {} {batch_size}", prepared.fingerprint());
        let fingerprint = hash::bytes(names.as_bytes());
        if let Some(reference) = read(path, &fingerprint, prepared) {
            return Ok(reference);
        }
        let total = prepared.train.len() + prepared.held_out.len();
        let mut progress = Progress::new(label, total as u64, Verbosity::Auto);
        let pad = model.tokenizer.pad();
        let mut score = |pairs: &[Pair]| {
            pair_logps(&gemma, pairs, pad, batch_size, &mut |n| progress.advance(n as u64))
        };
        let (train, held_out) = (score(&prepared.train)?, score(&prepared.held_out)?);
        progress.finish("");
        let reference = Self { fingerprint, train, held_out };
        atomic::write_json(path, &reference)?;
        Ok(reference)
    }
}

/// The kept file, unless it is absent, damaged, or of another model or other pairs.
fn read(path: &Path, fingerprint: &str, prepared: &Prepared) -> Option<Reference> {
    let bytes = std::fs::read(path).ok()?;
    let stale = |why: &str| tracing::info!("{}: {why}; computing it anew", path.display());
    let reference: Reference = match serde_json::from_slice(&bytes) {
        Ok(reference) => reference,
        Err(error) => {
            stale(&format!("damaged ({error})"));
            return None;
        }
    };
    let sizes = (reference.train.len(), reference.held_out.len());
    if reference.fingerprint == fingerprint
        && sizes == (prepared.train.len(), prepared.held_out.len())
    {
        return Some(reference);
    }
    stale("made with another reference model or other pairs");
    None
}

/// The reference, without autodiff, and a name for it by content. The adapter in memory counts, not
/// the file that it came from: it may have been trained since.
fn reference_model(model: &LanguageModel, kind: ReferenceModel) -> Result<(Gemma, String)> {
    Ok(match kind {
        ReferenceModel::Start => (model.gemma.valid(), model.content_fingerprint()),
        ReferenceModel::Base => (without_adapter(model.gemma.clone()).valid(), model.base_name()),
    })
}

/// Log-probabilities of `pairs`, in order, in batches of `batch_size` consecutive pairs. `on_done`
/// hears how many more pairs are scored.
///
/// # Errors
///
/// [`Error::Reference`] for one that is not finite.
pub fn pair_logps(
    gemma: &Gemma,
    pairs: &[Pair],
    pad: u32,
    batch_size: usize,
    on_done: &mut dyn FnMut(usize),
) -> Result<Vec<PairLogps>> {
    let mut logps = Vec::with_capacity(pairs.len());
    for batch in pairs.chunks(batch_size.max(1)) {
        let refs: Vec<&Pair> = batch.iter().collect();
        let forward = Forward::run(gemma, &refs, pad, None);
        for n in 0..batch.len() {
            let pair = forward.logps(n);
            if let Some(value) = [pair.chosen, pair.rejected].into_iter().find(|x| !x.is_finite()) {
                return Err(Error::Reference { value });
            }
            logps.push(pair);
        }
        on_done(batch.len());
    }
    Ok(logps)
}
