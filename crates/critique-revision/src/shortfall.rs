//! What is said where a stage has too little to go on: which counts did it, and which settings change
//! that.

use std::collections::BTreeMap;

use crate::clean::Rule;
use crate::report::{count, count_rules, list};
use crate::{CritiqueRecord, FeedbackConfig, FeedbackRecord, feedback_pairs};

/// Why `records` of critique and revision gave few answers to train on, or few pairs.
pub fn of_critiques(records: &[CritiqueRecord]) -> String {
    let initial = || records.iter().map(|record| &record.initial.cleaning);
    let revised = || records.iter().flat_map(|record| &record.rounds).map(|round| &round.cleaning);
    let outcomes = count(records.iter().map(|record| record.outcome.name()));
    let (answers, revisions) = (count_rules(initial()), count_rules(revised()));
    let advice = Advice {
        counts: count_rules(initial().chain(revised())),
        texts: initial().chain(revised()).count(),
        lengths: "critique.initial.max_new_tokens and critique.revision.max_new_tokens",
        stage: "critique",
    };
    format!(
        "{} critique records ({}); initial answers by broken rule: {}; revisions by broken rule: {}{advice}",
        records.len(),
        list(&outcomes),
        list(&answers),
        list(&revisions),
    )
}

/// Why `records` of AI feedback gave few pairs.
pub fn of_feedback(records: &[FeedbackRecord], config: &FeedbackConfig) -> String {
    let samples =
        || records.iter().flat_map(|record| &record.samples).map(|sample| &sample.cleaning);
    let (pairs, dropped) = feedback_pairs(records, config);
    let advice = Advice {
        counts: count_rules(samples()),
        texts: samples().count(),
        lengths: "feedback.sampling.max_new_tokens",
        stage: "feedback",
    };
    format!(
        "{} feedback records gave {} pairs; comparisons without a pair: {}; samples by broken rule: {}{advice}",
        records.len(),
        pairs.len(),
        list(&dropped),
        list(&advice.counts),
    )
}

/// Which settings change what was counted.
struct Advice<'a> {
    /// Broken rules of all texts.
    counts: BTreeMap<String, usize>,
    /// How many texts there are.
    texts: usize,
    /// The settings that limit their lengths.
    lengths: &'a str,
    /// The section of the config.
    stage: &'a str,
}

impl std::fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let of = |rule: Rule| self.counts.get(rule.name()).copied().unwrap_or_default();
        let (truncated, loops) = (of(Rule::Truncated), of(Rule::Loop));
        let Self { texts, lengths, stage, .. } = self;
        if truncated > 0 {
            write!(
                f,
                ". Truncated: raise {lengths}, or set {stage}.on_truncation: trim_to_sentence"
            )?;
        }
        if loops > 0 {
            write!(f, ". Loops: set a repetition_penalty of 1.1 or so beside max_new_tokens")?;
        }
        if 2 * (truncated + loops) > *texts {
            write!(
                f,
                ". {} of {texts} texts never ended: let SFT train the tokens that end a turn \
                 (sft.lora.trainable_token_indices), or longer",
                truncated + loops
            )?;
        }
        Ok(())
    }
}
