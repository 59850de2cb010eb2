//! Held-out splits that do not depend on the order of the records.

use crate::record::Message;
use crate::seed::Seed;

/// Whether the record that `key` names is held out. About `fraction` of all keys are (0 or less:
/// none, 1 or more: all). The answer depends on key, fraction and seed alone: adding, removing or
/// reordering records moves no other record across the split, and a greater fraction only adds keys.
///
/// Records that must stay on one side (those of one prompt, say) get one key.
pub fn held_out(key: &str, fraction: f64, seed: Seed) -> bool {
    let bits = seed.derive("held out").derive(key).0;
    // The upper 53 bits are a uniform number in [0, 1), exactly representable.
    let uniform = (bits >> 11) as f64 / (1u64 << 53) as f64;
    uniform < fraction
}

/// What a prompt is split by: all stages that hold out prompts by this key, with the same seed and
/// fraction, hold out the same ones.
pub fn prompt_key(prompt: &[Message]) -> String {
    prompt.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(fraction: f64, seed: u64) -> f64 {
        let held = (0..10_000).filter(|i| held_out(&format!("key {i}"), fraction, Seed(seed)));
        held.count() as f64 / 10_000.0
    }

    #[test]
    fn the_fraction_is_met() {
        assert_eq!(share(0.0, 1), 0.0);
        assert_eq!(share(1.0, 1), 1.0);
        assert!((share(0.1, 1) - 0.1).abs() < 0.01);
        assert!((share(0.5, 2) - 0.5).abs() < 0.02);
    }

    #[test]
    fn a_greater_fraction_holds_out_the_same_keys_and_more() {
        for i in 0..1000 {
            let key = i.to_string();
            assert!(!held_out(&key, 0.1, Seed(3)) || held_out(&key, 0.2, Seed(3)));
        }
    }

    #[test]
    fn another_seed_splits_otherwise() {
        let split = |seed| (0..100).map(move |i| held_out(&i.to_string(), 0.5, Seed(seed)));
        assert!(split(1).ne(split(2)));
    }
}
