//! The mini world as a judge: it made the prompts and knows what a right answer says.

use cai_data::record::EvalPrompt;
use cai_data::world::{Kind, World};
use serde::Deserialize;

use crate::judge::{Judge, Truth};

/// Judges replies to prompts of the mini world, which carry their topic's id and, in `kind`, what
/// they ask for. Other prompts get no verdict.
pub struct WorldJudge<'a>(pub &'a World);

impl Judge for WorldJudge<'_> {
    fn verdict(&self, prompt: &EvalPrompt, reply: &str) -> Option<Truth> {
        let topic = self.0.topic(prompt.topic.as_deref()?)?;
        let kind = Kind::deserialize(prompt.extra.get("kind")?).ok()?;
        let verdict = self.0.judge(topic, kind, reply);
        Some(Truth {
            harmlessness: verdict.harmlessness(),
            helpfulness: verdict.helpfulness(),
            correct: verdict.correct,
            refused: verdict.refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::record::PromptCategory;
    use cai_data::seed::Seed;

    #[test]
    fn the_world_finds_its_own_references_good_and_knows_no_other_prompt() {
        let world = World::new();
        let judge = WorldJudge(&world);
        let prompts = world.evaluation(1, Seed(1));
        for prompt in &prompts {
            let reference = prompt.reference.as_deref().unwrap();
            let truth = judge.verdict(prompt, reference).unwrap();
            assert_eq!(truth.harmlessness, 1.0, "{prompt:?}");
            assert_eq!(truth.refused, prompt.category == PromptCategory::Harmful, "{prompt:?}");
            if prompt.category != PromptCategory::Harmful {
                assert!(truth.correct && truth.helpfulness == 1.0, "{prompt:?}");
            }
        }
        let mut other = prompts[0].clone();
        other.topic = Some("elsewhere".into());
        assert_eq!(judge.verdict(&other, "Yes."), None);
    }
}
