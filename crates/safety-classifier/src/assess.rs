//! Everything that someone must know before a classifier is deployed.

use std::path::Path;

use cai_data::atomic;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::bootstrap::{self, Comparison, Intervals};
use crate::calibrate::{Calibration, Fit, argmax, bins};
use crate::config::Task;
use crate::curves::Curves;
use crate::data::{Counts, samples};
use crate::error::{Error, Result};
use crate::fairness::{self, Fairness, GroupReport};
use crate::metrics::{Evaluation, Outcome};
use crate::ood::{self, OodReport};
use crate::predict::SafetyClassifier;
use crate::{html, near};

/// Texts that are attacked, at most: the first ones by hash.
const ATTACKED: usize = 2000;
/// Texts that a class needs to count in a comparison of macro-F1.
const MIN_SUPPORT: usize = 100;

/// What is measured and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AssessConfig {
    /// The precision at which each class's threshold is set.
    pub precision: f64,
    /// Groups with fewer texts are shown but not compared.
    pub min_group_size: usize,
    /// Seed of attacks and resamples.
    pub seed: u64,
}

impl Default for AssessConfig {
    fn default() -> Self {
        Self { precision: 0.9, min_group_size: 10, seed: 42 }
    }
}

/// The measures of one classifier on one set of labelled texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// Which classifier: the hash of its files.
    pub fingerprint: String,
    /// The classes.
    pub labels: Vec<String>,
    /// Accuracy, F1, confusion, sources.
    pub evaluation: Evaluation,
    /// Their intervals.
    pub intervals: Intervals,
    /// The difference from recorded predictions of another classifier.
    pub comparison: Option<Comparison>,
    /// How the classifier was calibrated.
    pub calibration: Calibration,
    /// How well its probabilities fit these texts.
    pub fit: Fit,
    /// Mean probability, accuracy and number of the texts in each bin of confidence.
    pub reliability: Vec<(f64, f64, usize)>,
    /// Curves and thresholds, one class against the rest.
    pub curves: Vec<Curves>,
    /// Counterfactual sentences.
    pub fairness: Fairness,
    /// The data's own groups.
    pub groups: Vec<GroupReport>,
    /// Accuracy before attacks, and after each.
    pub robustness: Robustness,
    /// How texts of other kinds are noticed.
    pub ood: OodReport,
    /// Pairs of texts, labels apart, that are near-duplicates: a limit of what can be right.
    pub near_duplicates: usize,
}

/// Accuracy under attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Robustness {
    /// Texts that were attacked.
    pub texts: usize,
    /// Accuracy on them as they are.
    pub clean: f64,
    /// Accuracy after each attack that preserves the label, and its share of the clean one.
    pub attacks: Vec<Attacked>,
    /// The same where people may disagree about the label; `harm_called` tells more.
    pub context: Vec<Attacked>,
}

/// What one attack does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attacked {
    /// The attack.
    pub attack: Attack,
    /// Accuracy after it.
    pub accuracy: f64,
    /// That, as a share of the clean accuracy.
    pub kept: f64,
    /// Share of the harmful texts still called harmful.
    pub harm_called: f64,
    /// Share of the safe texts now called harmful.
    pub false_alarms: f64,
}

/// Measures `classifier` on `records`. `baseline` is another classifier's label for each record.
///
/// # Errors
/// No record, an unknown label, a baseline of another length, or a failure of tokenizer or device.
pub fn assess(
    classifier: &SafetyClassifier,
    records: &[LabelledText],
    baseline: Option<&[String]>,
    config: &AssessConfig,
) -> Result<Assessment> {
    if records.is_empty() {
        let found = "the file holds no record".into();
        return Err(Error::NoRecords { purpose: "evaluate", found });
    }
    let seed = Seed(config.seed);
    let labels = classifier.labels().to_vec();
    if classifier.task() == Task::MultiLabel {
        return Err(Error::Report("it compares labels that exclude each other".into()));
    }
    let samples = samples(records, &labels, classifier.task())?;
    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let classes: Vec<usize> = samples.iter().map(|sample| sample.classes[0]).collect();
    let rows = classifier.probabilities(&texts)?;
    let predicted: Vec<usize> = rows.iter().map(|row| argmax(row)).collect();
    let outcomes: Vec<Outcome> = rows
        .iter()
        .zip(&samples)
        .map(|(row, sample)| Outcome {
            probabilities: row.clone(),
            classes: sample.classes.clone(),
            group: sample.group.as_deref(),
            source: sample.source.as_deref(),
        })
        .collect();
    let comparison = match baseline {
        Some(baseline) => Some(compare(&classes, &predicted, baseline, &labels, seed)?),
        None => None,
    };
    let curves = labels.iter().enumerate().map(|(c, label)| {
        let scores: Vec<f64> = rows.iter().map(|row| row[c]).collect();
        let truth: Vec<bool> = classes.iter().map(|&class| class == c).collect();
        Curves::new(label, &scores, &truth, config.precision)
    });
    let truth: Vec<Vec<usize>> = samples.iter().map(|sample| sample.classes.clone()).collect();
    let bins = bins(&rows, &truth, classifier.task());
    let reliability = bins.iter().filter(|bin| bin.decisions > 0).map(|bin| {
        let texts = bin.decisions as f64;
        (bin.confidence / texts, bin.correct as f64 / texts, bin.decisions)
    });
    let clusters = near::clusters(&texts, 0.8);
    let apart = clusters.iter().enumerate().filter(|&(i, &first)| classes[i] != classes[first]);
    Ok(Assessment {
        fingerprint: classifier.fingerprint().into(),
        evaluation: Evaluation::new(
            &outcomes,
            &labels,
            classifier.safe(),
            classifier.task(),
            config.min_group_size,
        ),
        intervals: bootstrap::intervals(&classes, &predicted, labels.len(), seed),
        comparison,
        calibration: classifier.checkpoint().calibration.clone(),
        fit: Fit::new(&rows, &truth, classifier.task()),
        reliability: reliability.collect(),
        curves: curves.collect(),
        fairness: fairness::measure(classifier, &texts)?,
        groups: fairness::by_group(&outcomes, classifier.safe(), config.min_group_size),
        robustness: robustness(classifier, &texts, &classes, seed)?,
        ood: ood::report(classifier, &texts, seed)?,
        near_duplicates: apart.count(),
        labels,
    })
}

fn compare(
    classes: &[usize],
    predicted: &[usize],
    baseline: &[String],
    labels: &[String],
    seed: Seed,
) -> Result<Comparison> {
    if baseline.len() != classes.len() {
        let found = format!("{} predictions for {} texts", baseline.len(), classes.len());
        return Err(Error::NoRecords { purpose: "compare with the baseline", found });
    }
    let class = |(i, label): (usize, &String)| {
        labels.iter().position(|known| known == label).ok_or_else(|| Error::UnknownLabel {
            place: format!("baseline prediction {}", i + 1),
            label: label.clone(),
            known: labels.join(", "),
        })
    };
    let baseline: Vec<usize> = baseline.iter().enumerate().map(class).collect::<Result<_>>()?;
    Ok(bootstrap::compare(classes, predicted, &baseline, labels.len(), MIN_SUPPORT, seed))
}

fn robustness(
    classifier: &SafetyClassifier,
    texts: &[&str],
    classes: &[usize],
    seed: Seed,
) -> Result<Robustness> {
    let mut chosen: Vec<usize> = (0..texts.len()).collect();
    chosen.sort_by_key(|&i| seed.derive("attacked").index(i as u64).0);
    chosen.truncate(ATTACKED);
    let safe = classifier.safe();
    let judge = |texts: &[String]| -> Result<Vec<usize>> {
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        Ok(classifier.probabilities(&refs)?.iter().map(|row| argmax(row)).collect())
    };
    let share =
        |found: &[usize], of: &dyn Fn(usize) -> bool, hit: &dyn Fn(usize, usize) -> bool| {
            let wanted = || chosen.iter().zip(found).filter(|(i, _)| of(classes[**i]));
            let hits = wanted().filter(|(i, label)| hit(classes[**i], **label)).count();
            hits as f64 / wanted().count().max(1) as f64
        };
    let right = |class, label| class == label;
    let called = |_, label| label != safe;
    let original: Vec<String> = chosen.iter().map(|&i| texts[i].to_string()).collect();
    let clean = share(&judge(&original)?, &|_| true, &right);
    let attacked = |attack: Attack| -> Result<Attacked> {
        let changed: Vec<String> =
            chosen.iter().map(|&i| attack.apply(texts[i], seed.index(i as u64))).collect();
        let found = judge(&changed)?;
        let accuracy = share(&found, &|_| true, &right);
        Ok(Attacked {
            attack,
            accuracy,
            kept: if clean > 0.0 { accuracy / clean } else { 0.0 },
            harm_called: share(&found, &|class| class != safe, &called),
            false_alarms: share(&found, &|class| class == safe, &called),
        })
    };
    let attacks = Attack::LABEL_PRESERVING.into_iter().map(attacked).collect::<Result<_>>()?;
    let context = Attack::CONTEXT.into_iter().map(attacked).collect::<Result<_>>()?;
    Ok(Robustness { texts: chosen.len(), clean, attacks, context })
}

impl Assessment {
    /// Writes `assessment.json` and `report.html`. `data`, if known, becomes the data card.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path, data: Option<&Counts>) -> Result<()> {
        atomic::write_json(&dir.join("assessment.json"), self)?;
        let page = html::render(self, data)?;
        Ok(atomic::write(&dir.join("report.html"), page.as_bytes())?)
    }
}
