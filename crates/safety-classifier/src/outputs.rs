//! What the outputs of a model stand for.
//!
//! Data sets mean different things by the same label: what one calls hateful is merely rude in
//! another. A model that learns label and source together can tell which convention a text is
//! likely to follow, and the probability of a label is that of it summed over the sources:
//! `p(label | x) = Σ_source p(label, source | x)`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::data::Sample;
use crate::written::is_written;

/// The label of each output: that of its own, or one for each source that gives the label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outputs {
    labels: Vec<usize>,
}

impl Outputs {
    /// One output for each of `n` labels.
    pub fn plain(n: usize) -> Self {
        Self { labels: (0..n).collect() }
    }

    /// One output for each label and source of `samples`, and the output of each sample.
    ///
    /// Texts without a source, and those written for this project, stand for the sources of their
    /// label in turn: what they teach must hold under every convention.
    pub fn by_source(samples: &[Sample]) -> (Self, Vec<Vec<usize>>) {
        let source = |sample: &Sample| sample.source.clone().filter(|s| !is_written(s));
        let mut sources: BTreeMap<usize, BTreeSet<Option<String>>> = BTreeMap::new();
        for sample in samples {
            sources.entry(sample.classes[0]).or_default().insert(source(sample));
        }
        // "No source" is an output of its own only where no text of the label has a source.
        for own in sources.values_mut().filter(|own| own.len() > 1) {
            own.remove(&None);
        }
        let keys = sources.iter().flat_map(|(label, own)| own.iter().map(move |s| (*label, s)));
        let keys: Vec<(usize, &Option<String>)> = keys.collect();
        let mut turns = vec![0; keys.len()];
        let target = |sample: &Sample| {
            let label = sample.classes[0];
            let first = keys.iter().position(|(other, _)| *other == label).unwrap_or_default();
            let own = &keys[first..];
            let own = &own[..own.iter().take_while(|(other, _)| *other == label).count()];
            let source = source(sample);
            let at = own.iter().position(|(_, other)| **other == source).unwrap_or_else(|| {
                turns[first] += 1;
                (turns[first] - 1) % own.len()
            });
            vec![first + at]
        };
        let targets = samples.iter().map(target).collect();
        (Self { labels: keys.iter().map(|(label, _)| *label).collect() }, targets)
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of labels.
    pub fn n_labels(&self) -> usize {
        self.labels.iter().max().map_or(0, |last| last + 1)
    }

    /// The scores of the labels: of several outputs the log of the summed exponentials.
    pub fn merge(&self, row: &[f32]) -> Vec<f32> {
        let mut merged = vec![f32::NEG_INFINITY; self.n_labels()];
        for (&score, &label) in row.iter().zip(&self.labels) {
            let sum = &mut merged[label];
            let (low, high) = (sum.min(score), sum.max(score));
            *sum = if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() };
        }
        merged
    }

    /// [`Outputs::merge`] of every row.
    pub fn merge_all(&self, rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        match *self == Self::plain(self.len()) {
            true => rows,
            false => rows.iter().map(|row| self.merge(row)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_as_probable_as_its_sources_together() {
        let sample = |class: usize, source: Option<&str>| Sample {
            text: String::new(),
            classes: vec![class],
            group: None,
            source: source.map(Into::into),
            weight: 1.0,
        };
        let written = || sample(1, Some("written: self-harm"));
        let samples = [
            sample(1, Some("a")),
            sample(0, None),
            sample(1, Some("b")),
            written(),
            sample(1, None),
            written(),
        ];
        let (outputs, targets) = Outputs::by_source(&samples);
        assert_eq!(targets, [[1], [0], [2], [1], [2], [1]]);
        assert_eq!((outputs.len(), outputs.n_labels()), (3, 2));
        let merged = outputs.merge(&[0.0, 1f32.ln(), 3f32.ln()]);
        assert!((merged[0] - 0.0).abs() < 1e-6 && (merged[1] - 4f32.ln()).abs() < 1e-6);
        assert_eq!(Outputs::plain(2).merge(&[0.5, -1.0]), [0.5, -1.0]);
    }
}
