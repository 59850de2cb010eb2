//! Measuring a trained classifier on labelled texts.

use cai_data::record::LabelledText;

use crate::data::samples;
use crate::error::{Error, Result};
use crate::metrics::{Evaluation, Outcome};
use crate::predict::SafetyClassifier;

/// Measures `classifier` on `records`, all of which count. Groups of people with fewer than
/// `min_group_size` safe texts do not count for the false-positive gap.
///
/// # Errors
/// No record, or one whose label the classifier does not know.
pub fn evaluate(
    classifier: &SafetyClassifier,
    records: &[LabelledText],
    min_group_size: usize,
) -> Result<Evaluation> {
    if records.is_empty() {
        let found = "the file holds no record".into();
        return Err(Error::NoRecords { purpose: "evaluate", found });
    }
    let samples = samples(records, classifier.labels(), classifier.task())?;
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let rows = classifier.probabilities(&texts)?;
    let outcomes: Vec<Outcome> = rows
        .into_iter()
        .zip(&samples)
        .map(|(probabilities, sample)| Outcome {
            probabilities,
            classes: sample.classes.clone(),
            group: sample.group.as_deref(),
            source: sample.source.as_deref(),
        })
        .collect();
    Ok(Evaluation::new(
        &outcomes,
        classifier.labels(),
        classifier.safe(),
        classifier.task(),
        min_group_size,
    ))
}
