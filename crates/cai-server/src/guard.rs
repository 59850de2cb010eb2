//! Which texts are withheld.

use std::collections::BTreeMap;

use safety_classifier::Prediction;
use serde::Serialize;

use crate::config::GuardConfig;
use crate::{Error, Result};

/// The probability of each class but the safe one from which a text counts as harmful.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(BTreeMap<String, f64>);

/// Why a text is withheld.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Withheld {
    /// `prompt` or `answer`.
    pub stage: &'static str,
    /// The class, the one furthest above its threshold.
    pub category: String,
    /// Its probability.
    pub score: f64,
    /// The probability from which a text is withheld.
    pub threshold: f64,
}

impl Thresholds {
    /// Those of the config, for a classifier with these labels.
    ///
    /// # Errors
    ///
    /// A threshold for a class that it does not have.
    pub fn new(labels: &[String], safe: &str, config: &GuardConfig) -> Result<Self> {
        let classes: Vec<&String> = labels.iter().filter(|label| *label != safe).collect();
        if let Some(unknown) = config.thresholds.keys().find(|class| !classes.contains(class)) {
            let reason = format!("the classifier has no class {unknown}; it has {classes:?}");
            return Err(Error::Config { key: "guard.thresholds", reason });
        }
        let threshold = |class| config.thresholds.get(class).copied().unwrap_or(config.threshold);
        Ok(Self(classes.iter().map(|&class| (class.clone(), threshold(class))).collect()))
    }

    /// Each class and its threshold.
    pub fn of_classes(&self) -> impl Iterator<Item = (&String, f64)> {
        self.0.iter().map(|(class, &threshold)| (class, threshold))
    }

    /// Why a text is withheld, if it is.
    pub fn judge(&self, stage: &'static str, prediction: &Prediction) -> Option<Withheld> {
        let over = |(class, threshold): (&String, f64)| {
            let score = *prediction.probabilities.get(class)?;
            let category = class.clone();
            (score >= threshold).then_some(Withheld { stage, category, score, threshold })
        };
        let above = |withheld: &Withheld| withheld.score - withheld.threshold;
        self.of_classes().filter_map(over).max_by(|a, b| above(a).total_cmp(&above(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_threshold() {
        let labels = ["safe", "toxic", "self_harm"].map(String::from);
        let thresholds = [("self_harm".to_owned(), 0.2)].into();
        let config = GuardConfig { threshold: 0.5, thresholds };
        let guard = Thresholds::new(&labels, "safe", &config).unwrap();
        let judge = |scores: [f64; 3]| {
            let probabilities = labels.iter().cloned().zip(scores).collect();
            let (label, labels) = (String::new(), Vec::new());
            let prediction =
                Prediction { label, labels, probabilities, harm: 0.0, truncated: false };
            guard.judge("prompt", &prediction).map(|withheld| withheld.category)
        };
        assert_eq!(judge([0.9, 0.05, 0.05]), None);
        assert_eq!(judge([0.7, 0.1, 0.2]).as_deref(), Some("self_harm"));
        assert_eq!(judge([0.1, 0.6, 0.3]).as_deref(), Some("toxic"));
        assert_eq!(judge([0.1, 0.45, 0.45]).as_deref(), Some("self_harm"));
        let thresholds = [("safe".to_owned(), 0.2)].into();
        assert!(Thresholds::new(&labels, "safe", &GuardConfig { thresholds, ..config }).is_err());
    }
}
