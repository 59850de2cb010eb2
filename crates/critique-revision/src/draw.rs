//! Which principles a comparison is made under.

use cai_data::constitution::{Constitution, Principle};
use cai_data::seed::Seed;

/// At most `count` different principles, drawn by weight without replacement.
pub(crate) fn draw(constitution: &Constitution, count: usize, seed: Seed) -> Vec<Principle> {
    let mut left = constitution.clone();
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count && !left.principles.is_empty() {
        let principle = left.sample(seed.index(drawn.len() as u64)).clone();
        left.principles.retain(|other| other.id != principle.id);
        drawn.push(principle);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::constitution::Category;

    #[test]
    fn principles_are_drawn_once_each() {
        let principle = |i: usize| Principle {
            id: i.to_string(),
            category: Category::Fairness,
            weight: 1.0 + i as f64,
            risks: Vec::new(),
            critique_request: "c".into(),
            revision_request: "r".into(),
            preference_question: "q".into(),
        };
        let constitution = Constitution {
            name: "n".into(),
            language: "en".into(),
            principles: (0..5).map(principle).collect(),
            few_shot: Vec::new(),
        };
        let ids = |count, seed| -> Vec<String> {
            draw(&constitution, count, Seed(seed)).into_iter().map(|p| p.id).collect()
        };
        assert_eq!(ids(3, 1), ids(5, 1)[..3]);
        let mut all = ids(9, 2);
        all.sort();
        assert_eq!(all, ["0", "1", "2", "3", "4"]);
    }
}
