//! A stage in one of its rounds.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Stage;

/// What the runner runs: a stage, or a round of AI feedback or DPO after the first, `dpo-2` and so
/// on. Its name is that of its folder too. In order: round by round, the evaluation last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// The round, from 1.
    pub round: usize,
}

impl Step {
    /// A round of DPO.
    pub fn dpo(round: usize) -> Self {
        Self { stage: Stage::Dpo, round }
    }

    /// All steps of a run with `rounds` of AI feedback and DPO, in order.
    pub fn all(rounds: usize) -> Vec<Self> {
        let later = |round| [Stage::Feedback, Stage::Dpo].map(|stage| Self { stage, round });
        let mut steps: Vec<Self> = Stage::ALL.map(Self::from).to_vec();
        steps.extend((2..=rounds).flat_map(later));
        steps.sort_unstable();
        steps
    }
}

impl From<Stage> for Step {
    /// In its first round.
    fn from(stage: Stage) -> Self {
        Self { stage, round: 1 }
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |step: &Self| (step.stage == Stage::Evaluate, step.round, step.stage);
        place(self).cmp(&place(other))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // `pad`, so that a width is kept to.
        match self.round {
            1 => f.pad(self.stage.name()),
            round => f.pad(&format!("{}-{round}", self.stage.name())),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let stage = |name: &str| Stage::ALL.into_iter().find(|stage| stage.name() == name);
        if let Some(stage) = stage(name) {
            return Ok(stage.into());
        }
        let later = name.rsplit_once('-').and_then(|(name, round)| {
            let stage = stage(name).filter(|s| matches!(s, Stage::Feedback | Stage::Dpo))?;
            let round = round.parse::<usize>().ok().filter(|&round| round > 1)?;
            Some(Self { stage, round })
        });
        later.ok_or_else(|| {
            let names = Stage::ALL.map(Stage::name).join(", ");
            format!("'{name}' is no stage; use {names}, or feedback-2, dpo-2, … of later rounds")
        })
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        step.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rounds: usize) -> Vec<String> {
        Step::all(rounds).iter().map(Step::to_string).collect()
    }

    #[test]
    fn rounds_take_turns_before_the_evaluation() {
        assert_eq!(names(1), Stage::ALL.map(Stage::name));
        let ends = ["feedback", "dpo", "feedback-2", "dpo-2", "feedback-3", "dpo-3", "evaluate"];
        assert_eq!(names(3)[5..], ends);
        for step in Step::all(3) {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["dpo-1", "dpo-", "sft-2", "dpo2", ""] {
            let error = name.parse::<Step>().unwrap_err();
            assert!(error.contains("sl_cai") && error.contains("dpo-2"), "{error}");
        }
    }
}
