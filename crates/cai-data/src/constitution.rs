//! The constitution: the principles by which answers are criticised, revised and compared.

use crate::seed::Seed;
use crate::{Error, Result};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// A set of principles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constitution {
    /// What it is called.
    pub name: String,
    /// The principles; at least one.
    pub principles: Vec<Principle>,
}

/// What a principle protects.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// That no one is hurt.
    HarmPrevention,
    /// That what is said is true.
    Truthfulness,
    /// That the person gets what they need.
    Helpfulness,
    /// That people are treated alike.
    Fairness,
}

/// One principle, in the three forms in which a model is asked about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principle {
    /// A name, unique in the constitution.
    pub id: String,
    /// What it protects.
    pub category: Category,
    /// How often it is drawn, relative to the others; above 0.
    #[serde(default = "one")]
    pub weight: f64,
    /// Asks for a critique of the answer before.
    pub critique_request: String,
    /// Asks for a revision of that answer.
    pub revision_request: String,
    /// Asks which of two answers is better.
    pub preference_question: String,
}

fn one() -> f64 {
    1.0
}

impl Constitution {
    /// Reads a YAML file and checks it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not such YAML (with the line), has an unknown key, or if an id
    /// is used twice, a text is empty, a weight is not above 0 or there is no principle.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        Constitution::parse(&text, &path.display().to_string())
    }

    /// Reads YAML text and checks it; `place` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`Constitution::read`].
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let constitution: Constitution = serde_yaml::from_str(text).map_err(|error| {
            let line = error.location().map_or(String::new(), |at| format!(":{}", at.line()));
            Error::Invalid {
                place: format!("{place}{line}"),
                reason: format!("{error}; mend the constitution there"),
            }
        })?;
        constitution.check(place)?;
        Ok(constitution)
    }

    fn check(&self, place: &str) -> Result<()> {
        let invalid = |key: &str, reason: &str| {
            Err(Error::Invalid { place: format!("{place}: {key}"), reason: reason.to_owned() })
        };
        if self.name.trim().is_empty() {
            return invalid("name", "is empty; give the constitution a name");
        }
        if self.principles.is_empty() {
            return invalid("principles", "are none; write at least one");
        }
        let mut ids = HashSet::new();
        for (i, principle) in self.principles.iter().enumerate() {
            let key = |field: &str| format!("principles[{i}].{field}");
            for (field, text) in [
                ("id", &principle.id),
                ("critique_request", &principle.critique_request),
                ("revision_request", &principle.revision_request),
                ("preference_question", &principle.preference_question),
            ] {
                if text.trim().is_empty() {
                    return invalid(&key(field), "is empty; write it, or remove the principle");
                }
            }
            if !ids.insert(&principle.id) {
                let reason = format!("{} is used twice; give each principle its own", principle.id);
                return invalid(&key("id"), &reason);
            }
            if !(principle.weight.is_finite() && principle.weight > 0.0) {
                let reason = format!("{} is no number above 0", principle.weight);
                return invalid(&key("weight"), &reason);
            }
        }
        Ok(())
    }

    /// The principle that `seed` draws, each as often as its weight says.
    ///
    /// # Panics
    ///
    /// Without principles; a constitution that was read has at least one.
    pub fn sample(&self, seed: Seed) -> &Principle {
        let total: f64 = self.principles.iter().map(|principle| principle.weight).sum();
        let mut roll = seed.rng().random::<f64>() * total;
        let last = self.principles.len() - 1;
        for principle in &self.principles[..last] {
            if roll < principle.weight {
                return principle;
            }
            roll -= principle.weight;
        }
        &self.principles[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../configs/constitution.yaml");

    fn error(text: &str) -> String {
        Constitution::parse(text, "c.yaml").unwrap_err().to_string()
    }

    fn edited(from: &str, to: &str) -> String {
        assert!(SHIPPED.contains(from));
        SHIPPED.replacen(from, to, 1)
    }

    #[test]
    fn the_shipped_constitution_is_whole_and_brief() {
        let constitution = Constitution::parse(SHIPPED, "constitution.yaml").unwrap();
        let count =
            |category| constitution.principles.iter().filter(|p| p.category == category).count();
        assert_eq!(count(Category::HarmPrevention), 9);
        assert_eq!(count(Category::Truthfulness), 4);
        assert_eq!(count(Category::Helpfulness), 4);
        assert_eq!(count(Category::Fairness), 3);
        let mut texts = HashSet::new();
        for principle in &constitution.principles {
            for text in [
                &principle.critique_request,
                &principle.revision_request,
                &principle.preference_question,
            ] {
                assert!(text.split_whitespace().count() <= 22, "{text}");
                assert!(texts.insert(text), "used twice: {text}");
            }
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(error(&edited("weight: 1", "wieght: 1")).contains("wieght"));
        assert!(error(&edited("weight: 1", "wieght: 1")).starts_with("c.yaml:"));
        assert!(error(&edited("weight: 1", "weight: 0")).contains("principles[0].weight"));
        assert!(error(&edited("weight: 1", "weight: .nan")).contains("principles[0].weight"));
        assert!(error(&edited("category: harm_prevention", "category: harm")).contains("harm"));
        assert!(error("name: x\nprinciples: []").contains("at least one"));
        assert!(error(&edited("id: danger", "id: ''")).contains("principles[0].id"));
        assert!(error(&edited("id: crime", "id: danger")).contains("danger is used twice"));
    }

    #[test]
    fn principles_are_drawn_by_weight() {
        let mut constitution = Constitution::parse(SHIPPED, "").unwrap();
        constitution.principles.truncate(2);
        constitution.principles[1].weight = 3.0;
        let second = &constitution.principles[1];
        let draws = (0..4000).map(|i| constitution.sample(Seed(1).index(i)));
        let share = draws.filter(|drawn| *drawn == second).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
    }
}
