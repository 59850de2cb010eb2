//! Whether a text is of the kind that the classifier was trained on.
//!
//! Two scores, higher for texts from elsewhere: one minus the largest probability (Hendrycks and
//! Gimpel, arXiv 1610.02136) and the energy, minus the log-sum-exp of the scores before the softmax
//! (Liu et al., arXiv 2010.03759). A third counts how much of the text is known at all.

use cai_data::seed::Seed;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::curves::auroc;
use crate::ensemble::prepare;
use crate::error::Result;
use crate::predict::SafetyClassifier;

/// Texts from elsewhere that are compared.
const TEXTS: usize = 300;

/// How far a text is from the training texts; higher is further.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OodScore {
    /// 1 − the largest class probability.
    pub uncertainty: f64,
    /// Minus the log-sum-exp of the class scores, averaged over the models.
    pub energy: f64,
    /// Share of the words that are not among the n-grams; 0 without n-grams.
    pub unknown: f64,
}

/// How well each score tells texts from elsewhere from the evaluation's texts: AUROC.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OodReport {
    /// Of 1 − the largest probability.
    pub uncertainty: Option<f64>,
    /// Of the energy.
    pub energy: Option<f64>,
    /// Of the share of unknown words.
    pub unknown: Option<f64>,
    /// Texts from elsewhere.
    pub texts: usize,
}

impl SafetyClassifier {
    /// How far each text is from the training texts.
    ///
    /// # Errors
    /// When the tokenizer or the device fails.
    pub fn ood_scores(&self, texts: &[&str]) -> Result<Vec<OodScore>> {
        let checkpoint = self.checkpoint();
        let members = checkpoint.models.scores(texts)?.members;
        let rows = checkpoint.calibration.probabilities(&members);
        let unknown = |text: &&str| {
            let ngrams = checkpoint.models.ngrams.as_ref();
            ngrams.map_or(0.0, |n| n.unknown_words(&prepare(text, checkpoint.models.fold)))
        };
        let unknown: Vec<f64> = texts.iter().map(unknown).collect();
        let score = |(i, row): (usize, &Vec<f64>)| OodScore {
            uncertainty: 1.0 - row.iter().copied().fold(0.0, f64::max),
            energy: -members.iter().map(|member| log_sum_exp(&member[i])).sum::<f64>()
                / members.len().max(1) as f64,
            unknown: unknown[i],
        };
        Ok(rows.iter().enumerate().map(score).collect())
    }
}

/// Compares `texts` (those of the evaluation) with texts of other kinds made here.
///
/// # Errors
/// When the tokenizer or the device fails.
pub fn report(classifier: &SafetyClassifier, texts: &[&str], seed: Seed) -> Result<OodReport> {
    let elsewhere = texts_from_elsewhere(TEXTS, seed);
    let elsewhere: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    let (far, near) = (classifier.ood_scores(&elsewhere)?, classifier.ood_scores(texts)?);
    let area = |of: fn(&OodScore) -> f64| {
        let values = |scores: &[OodScore]| scores.iter().map(of).collect::<Vec<f64>>();
        auroc(&values(&far), &values(&near))
    };
    Ok(OodReport {
        uncertainty: area(|score| score.uncertainty),
        energy: area(|score| score.energy),
        unknown: area(|score| score.unknown),
        texts: elsewhere.len(),
    })
}

fn log_sum_exp(scores: &[f32]) -> f64 {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(top) + scores.iter().map(|score| f64::from(score - top).exp()).sum::<f64>().ln()
}

const SYLLABLES: &[&str] =
    &["ka", "lu", "mir", "to", "vex", "qui", "zan", "bol", "ne", "shi", "or", "tha"];
const OTHER_LANGUAGES: &[&str] = &[
    "Der Zug nach Leipzig fährt heute von Gleis sieben ab.",
    "Morgen kaufen wir frisches Brot auf dem Markt.",
    "Le chat dort sur la chaise près de la fenêtre.",
    "Nous avons marché toute la journée dans la forêt.",
    "La biblioteca abre a las nueve de la mañana.",
    "Mi hermana aprende a tocar el piano.",
    "Il treno per Torino parte tra dieci minuti.",
    "De fietsen staan achter het huis.",
    "Поезд отправляется завтра утром.",
    "今日は天気がいいので散歩に行きます。",
    "今天我们去公园看花。",
    "القطار يصل في المساء.",
    "Pociąg odjeżdża za pięć minut.",
    "Bugün hava çok güzel.",
];
const CODE: &[&str] = &[
    "let x = {n};",
    "for i in range({n}): print(i)",
    "SELECT id FROM t WHERE n > {n};",
    "if (a[{n}] == NULL) return -1;",
    "git rebase -i HEAD~{n}",
];

fn texts_from_elsewhere(number: usize, seed: Seed) -> Vec<String> {
    let text = |i: usize| {
        let mut rng = seed.derive("elsewhere").index(i as u64).rng();
        match i % 4 {
            0 => invented_words(&mut rng),
            1 => [(); 2].map(|()| pick(OTHER_LANGUAGES, &mut rng)).join(" "),
            2 => pick(CODE, &mut rng).replace("{n}", &rng.random_range(0..999).to_string()),
            _ => (0..rng.random_range(5..20))
                .map(|_| format!("{} ", rng.random_range(0..99999)))
                .collect(),
        }
    };
    (0..number).map(text).collect()
}

fn invented_words(rng: &mut ChaCha8Rng) -> String {
    let mut word =
        || -> String { (0..rng.random_range(2..5)).map(|_| pick(SYLLABLES, rng)).collect() };
    (0..12).map(|_| word() + " ").collect()
}

fn pick(list: &[&'static str], rng: &mut ChaCha8Rng) -> &'static str {
    list.choose(rng).copied().unwrap_or_default()
}
