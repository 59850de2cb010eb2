//! What people chose so far, and how far the evaluator agrees.

use std::collections::BTreeMap;

use serde::Serialize;

use super::choices::{Choice, Provenance};

/// All choices, counted.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Tally {
    /// Number of choices.
    choices: usize,
    ties: usize,
    both_bad: usize,
    /// By name, the most preferred first.
    models: Vec<ModelTally>,
    agreement: Agreement,
}

/// How often a model was preferred, of the comparisons that were decided.
#[derive(Debug, PartialEq, Serialize)]
struct ModelTally {
    name: String,
    preferred: usize,
    compared: usize,
}

/// How far the evaluator chooses as people do: A, B or neither (equally good and both bad are one).
#[derive(Debug, PartialEq, Serialize)]
struct Agreement {
    n: usize,
    same: usize,
    /// Cohen's kappa; absent where both always say the same one thing, or nothing.
    kappa: Option<f64>,
}

impl Tally {
    pub(super) fn of(choices: &[Provenance]) -> Self {
        let count = |choice| choices.iter().filter(|made| made.choice == choice).count();
        let mut models: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for made in choices.iter().filter(|made| made.choice.is_decided()) {
            let chosen = models.entry(&made.chosen_model).or_default();
            (chosen.0, chosen.1) = (chosen.0 + 1, chosen.1 + 1);
            models.entry(&made.rejected_model).or_default().1 += 1;
        }
        let mut models: Vec<ModelTally> = models
            .into_iter()
            .map(|(name, (preferred, compared))| ModelTally {
                name: name.to_owned(),
                preferred,
                compared,
            })
            .collect();
        models.sort_by_key(|model| std::cmp::Reverse(model.preferred));
        Self {
            choices: choices.len(),
            ties: count(Choice::Tie),
            both_bad: count(Choice::BothBad),
            models,
            agreement: Agreement::of(choices),
        }
    }
}

impl Agreement {
    fn of(choices: &[Provenance]) -> Self {
        let sides: Vec<[usize; 2]> =
            choices.iter().map(|made| [side(made.choice), side(made.evaluator)]).collect();
        let same = sides.iter().filter(|[person, evaluator]| person == evaluator).count();
        Self { n: sides.len(), same, kappa: kappa(&sides) }
    }
}

/// A, B or neither.
fn side(choice: Choice) -> usize {
    match choice {
        Choice::A => 0,
        Choice::B => 1,
        Choice::Tie | Choice::BothBad => 2,
    }
}

/// Cohen's kappa (1960), `(p_o − p_e) / (1 − p_e)`: `p_o` is the share of the same verdicts, `p_e` the
/// share that two raters with these frequencies would share by chance.
fn kappa(pairs: &[[usize; 2]]) -> Option<f64> {
    let n = pairs.len() as f64;
    let share = |holds: &dyn Fn(&[usize; 2]) -> bool| {
        pairs.iter().filter(|pair| holds(pair)).count() as f64 / n
    };
    let observed = share(&|[one, other]| one == other);
    let by_chance: f64 =
        (0..3).map(|side| share(&|pair| pair[0] == side) * share(&|pair| pair[1] == side)).sum();
    (n > 0.0 && by_chance < 1.0).then(|| (observed - by_chance) / (1.0 - by_chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_is_agreement_beyond_chance() {
        // Of 50 both say yes in 20 and no in 15; one alone says yes in 5, the other in 10: p_o is
        // 0.7, p_e is 0.5 · 0.6 + 0.5 · 0.4 = 0.5.
        let pairs = [[[0, 0]; 20].as_slice(), &[[0, 1]; 5], &[[1, 0]; 10], &[[1, 1]; 15]].concat();
        assert!((kappa(&pairs).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(kappa(&[[0, 0], [1, 1], [2, 2]]), Some(1.0));
        assert_eq!(kappa(&[[2, 2], [2, 2]]), None);
        assert_eq!(kappa(&[]), None);
    }

    #[test]
    fn models_are_counted_where_a_choice_was_decided() {
        let made = |choice, evaluator, chosen: &str, rejected: &str| Provenance {
            choice,
            evaluator,
            chosen_model: chosen.into(),
            rejected_model: rejected.into(),
            ..Provenance::default()
        };
        let choices = [
            made(Choice::A, Choice::A, "dpo", "base"),
            made(Choice::B, Choice::A, "dpo", "base"),
            made(Choice::B, Choice::Tie, "base", "sft"),
            made(Choice::Tie, Choice::Tie, "dpo", "sft"),
            made(Choice::BothBad, Choice::Tie, "base", "sft"),
        ];
        let tally = Tally::of(&choices);
        let rows: Vec<_> =
            tally.models.iter().map(|m| (m.name.as_str(), m.preferred, m.compared)).collect();
        assert_eq!(rows, [("dpo", 2, 2), ("base", 1, 3), ("sft", 0, 1)]);
        assert_eq!((tally.choices, tally.ties, tally.both_bad), (5, 1, 1));
        assert_eq!((tally.agreement.n, tally.agreement.same), (5, 3));
    }
}
