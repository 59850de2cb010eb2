//! Whether people are treated alike: on the counterfactual sentences, and by group in the data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibrate::argmax;
use crate::curves::auroc;
use crate::error::Result;
use crate::identity::{counterfactuals, with_next_terms};
use crate::metrics::Outcome;
use crate::predict::SafetyClassifier;

/// Fairness on the counterfactual sentences of [`crate::identity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Share of pairs of texts, alike but for the term, that get different labels.
    pub flip_rate: f64,
    /// Pairs that were compared.
    pub pairs: usize,
    /// Largest minus smallest false-positive rate of any two terms.
    pub false_positive_gap: f64,
    /// Largest minus smallest true-positive rate.
    pub true_positive_gap: f64,
    /// Each term's rates.
    pub terms: Vec<TermRates>,
    /// Texts of the evaluation that name a term, and the share whose label changes with another term.
    pub swapped: Swapped,
}

/// How texts about one kind of people are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermRates {
    /// The kind (religion, origin, …).
    pub kind: String,
    /// The term.
    pub term: String,
    /// Share of safe sentences called harmful.
    pub false_positive_rate: f64,
    /// Share of hateful sentences called harmful.
    pub true_positive_rate: f64,
    /// Share of all sentences called harmful: the rate that demographic parity compares.
    pub positive_rate: f64,
    /// AUC of harm within the texts of the term.
    pub subgroup_auc: Option<f64>,
    /// AUC of the other terms' hateful against this term's safe sentences (BPSN): low where safe
    /// sentences about them are called harmful (Borkan et al., arXiv 1903.04561).
    pub bpsn_auc: Option<f64>,
    /// AUC of this term's hateful against the others' safe sentences (BNSP).
    pub bnsp_auc: Option<f64>,
}

/// What a change of terms does to texts of the evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Swapped {
    /// Texts that name a term.
    pub texts: usize,
    /// Share whose label changes.
    pub flip_rate: f64,
}

/// Measures by group of the data's own records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    pub group: String,
    /// Its texts.
    pub texts: usize,
    /// Whether it is large enough for its numbers to mean anything.
    pub enough: bool,
    /// Share of its texts called harmful.
    pub positive_rate: f64,
    /// Share of its safe texts called harmful; none without safe texts.
    pub false_positive_rate: Option<f64>,
    /// Share of its harmful texts called harmful; none without harmful texts.
    pub true_positive_rate: Option<f64>,
    /// AUC of harm within the group.
    pub subgroup_auc: Option<f64>,
    /// AUC of the other groups' harmful against this group's safe texts.
    pub bpsn_auc: Option<f64>,
    /// AUC of this group's harmful against the other groups' safe texts.
    pub bnsp_auc: Option<f64>,
}

/// A judged text: whom it is about, whether it is harmful, the harm found, the label found.
struct Judged {
    term: usize,
    harmful: bool,
    harm: f64,
    called: bool,
}

/// Measures `classifier` on the counterfactual sentences and on `texts` with their terms swapped.
///
/// # Errors
/// When the tokenizer or the device fails.
pub fn measure(classifier: &SafetyClassifier, texts: &[&str]) -> Result<Fairness> {
    let safe = classifier.safe();
    let mut terms: Vec<(&str, &str)> = Vec::new();
    let mut judged = Vec::new();
    let (mut pairs, mut flips) = (0, 0);
    for sentence in counterfactuals() {
        let refs: Vec<&str> = sentence.texts.iter().map(|(_, _, text)| text.as_str()).collect();
        let rows = classifier.probabilities(&refs)?;
        let labels: Vec<usize> = rows.iter().map(|row| argmax(row)).collect();
        for (i, (kind, term, _)) in sentence.texts.iter().enumerate() {
            if terms.len() == i {
                terms.push((*kind, *term));
            }
            flips += labels[..i].iter().filter(|&&other| other != labels[i]).count();
            pairs += i;
            let harmful = sentence.label != classifier.safe_label();
            let (harm, called) = (1.0 - rows[i][safe], labels[i] != safe);
            judged.push(Judged { term: i, harmful, harm, called });
        }
    }
    let terms: Vec<TermRates> = terms
        .iter()
        .enumerate()
        .map(|(i, (kind, term))| term_rates(i, kind, term, &judged))
        .collect();
    let gap = |rate: fn(&TermRates) -> f64| {
        let rates = || terms.iter().map(rate);
        rates().fold(0.0, f64::max) - rates().fold(1.0, f64::min)
    };
    Ok(Fairness {
        flip_rate: share(flips, pairs),
        pairs,
        false_positive_gap: gap(|rates| rates.false_positive_rate),
        true_positive_gap: gap(|rates| rates.true_positive_rate),
        swapped: swap(classifier, texts)?,
        terms,
    })
}

/// Measures by group; groups with fewer than `min_group_size` texts are marked. Empty if no record
/// names one.
pub fn by_group(outcomes: &[Outcome], safe: usize, min_group_size: usize) -> Vec<GroupReport> {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for group in outcomes.iter().filter_map(|outcome| outcome.group) {
        let next = groups.len();
        groups.entry(group).or_insert(next);
    }
    let judged: Vec<Judged> = outcomes
        .iter()
        .filter_map(|outcome| {
            Some(Judged {
                term: *groups.get(outcome.group?)?,
                harmful: !outcome.classes.contains(&safe),
                harm: 1.0 - outcome.probabilities[safe],
                called: argmax(&outcome.probabilities) != safe,
            })
        })
        .collect();
    let report = |(group, i): (&&str, &usize)| {
        let has = |harmful| judged.iter().any(|text| text.term == *i && text.harmful == harmful);
        let rates = term_rates(*i, "", group, &judged);
        let texts = judged.iter().filter(|text| text.term == *i).count();
        GroupReport {
            group: group.to_string(),
            texts,
            enough: texts >= min_group_size,
            positive_rate: rates.positive_rate,
            false_positive_rate: has(false).then_some(rates.false_positive_rate),
            true_positive_rate: has(true).then_some(rates.true_positive_rate),
            subgroup_auc: rates.subgroup_auc,
            bpsn_auc: rates.bpsn_auc,
            bnsp_auc: rates.bnsp_auc,
        }
    };
    groups.iter().map(report).collect()
}

fn term_rates(term: usize, kind: &str, name: &str, judged: &[Judged]) -> TermRates {
    let rate = |of: &dyn Fn(&Judged) -> bool| {
        let texts = || judged.iter().filter(|text| text.term == term && of(text));
        share(texts().filter(|text| text.called).count(), texts().count())
    };
    let harms = |own: bool, harmful: bool| -> Vec<f64> {
        let wanted = |text: &&Judged| (text.term == term) == own && text.harmful == harmful;
        judged.iter().filter(wanted).map(|text| text.harm).collect()
    };
    TermRates {
        kind: kind.into(),
        term: name.into(),
        false_positive_rate: rate(&|text| !text.harmful),
        true_positive_rate: rate(&|text| text.harmful),
        positive_rate: rate(&|_| true),
        subgroup_auc: auroc(&harms(true, true), &harms(true, false)),
        bpsn_auc: auroc(&harms(false, true), &harms(true, false)),
        bnsp_auc: auroc(&harms(true, true), &harms(false, false)),
    }
}

fn swap(classifier: &SafetyClassifier, texts: &[&str]) -> Result<Swapped> {
    let pairs: Vec<(&str, String)> =
        texts.iter().filter_map(|text| Some((*text, with_next_terms(text)?))).collect();
    let before: Vec<&str> = pairs.iter().map(|(text, _)| *text).collect();
    let after: Vec<&str> = pairs.iter().map(|(_, text)| text.as_str()).collect();
    let (before, after) = (classifier.probabilities(&before)?, classifier.probabilities(&after)?);
    let flips = before.iter().zip(&after).filter(|(a, b)| argmax(a) != argmax(b)).count();
    Ok(Swapped { texts: pairs.len(), flip_rate: share(flips, pairs.len()) })
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_three_is_marked() {
        let outcome = |harm: f64, class, group| Outcome {
            probabilities: vec![1.0 - harm, harm],
            classes: vec![class],
            group: Some(group),
            source: None,
        };
        let mut outcomes: Vec<Outcome> = (0..20)
            .map(|i| outcome(f64::from(i % 2) * 0.8 + 0.1, (i % 2) as usize, "large"))
            .collect();
        outcomes.extend([0.9, 0.1, 0.2].map(|harm| outcome(harm, 0, "small")));
        let groups = by_group(&outcomes, 0, 10);
        assert!(groups[0].enough && !groups[1].enough);
        assert_eq!(groups[0].subgroup_auc, Some(1.0));
        assert_eq!(groups[1].true_positive_rate, None);
        assert!((groups[1].false_positive_rate.unwrap() - 1.0 / 3.0).abs() < 1e-12);
        // The large group's harmful texts (0.9) against 0.9, 0.1 and 0.2: a tie and two wins.
        assert!((groups[1].bpsn_auc.unwrap() - 2.5 / 3.0).abs() < 1e-12);
    }
}
