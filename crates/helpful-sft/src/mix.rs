//! Several sets of conversations in given proportions.

use cai_data::{record::Conversation, seed::Seed};
use rand::seq::SliceRandom;

use crate::{Error, Result};

/// The largest mix of `sets` in which each has its share and no conversation stands twice. Shares
/// need not add up to 1; without any (all `None`) everything is taken. What a set gives is drawn by
/// `seed`, and the mix is in the order of the sets.
///
/// # Errors
///
/// [`Error::Share`] for a share that is not above 0, or where only some sets have one.
pub fn mix(sets: Vec<(Vec<Conversation>, Option<f64>)>, seed: Seed) -> Result<Vec<Conversation>> {
    if sets.iter().all(|(_, share)| share.is_none()) {
        return Ok(sets.into_iter().flat_map(|(set, _)| set).collect());
    }
    for (i, (_, share)) in sets.iter().enumerate() {
        let share = share.unwrap_or(0.0);
        if !(share.is_finite() && share > 0.0) {
            return Err(Error::Share { number: i + 1, share });
        }
    }
    let share = |share: Option<f64>| share.unwrap_or(1.0);
    // What one unit of share may be worth, so that no set is too small.
    let unit = sets.iter().map(|(set, of)| set.len() as f64 / share(*of)).fold(f64::MAX, f64::min);
    let mut mixed = Vec::new();
    for (i, (mut set, of)) in sets.into_iter().enumerate() {
        // The small set's own count must not fall short by rounding.
        let count = (unit * share(of) + 1e-9).floor() as usize;
        let mut order: Vec<usize> = (0..set.len()).collect();
        order.shuffle(&mut seed.derive("mix").index(i as u64).rng());
        order.truncate(count);
        order.sort_unstable();
        let mut kept = order.into_iter().peekable();
        let mut index = 0;
        set.retain(|_| {
            let keep = kept.next_if_eq(&index).is_some();
            index += 1;
            keep
        });
        mixed.extend(set);
    }
    Ok(mixed)
}

#[cfg(test)]
mod tests {
    use cai_data::record::Message;

    use super::*;

    fn set(name: &str, count: usize) -> Vec<Conversation> {
        (0..count).map(|i| Conversation::new(vec![Message::user(format!("{name}{i}"))])).collect()
    }

    fn counts(mixed: &[Conversation]) -> [usize; 2] {
        ["a", "b"]
            .map(|name| mixed.iter().filter(|c| c.messages[0].content.starts_with(name)).count())
    }

    #[test]
    fn shares_hold_and_nothing_stands_twice() {
        let sets = || vec![(set("a", 100), Some(0.6)), (set("b", 30), Some(0.4))];
        let mixed = mix(sets(), Seed(1)).unwrap();
        assert_eq!(counts(&mixed), [45, 30]);
        let mut texts: Vec<_> = mixed.iter().map(|c| &c.messages[0].content).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 75);
        assert_eq!(mixed, mix(sets(), Seed(1)).unwrap());
        assert_ne!(mixed, mix(sets(), Seed(2)).unwrap());
    }

    #[test]
    fn without_shares_everything_is_taken_and_bad_ones_are_named() {
        let mixed = mix(vec![(set("a", 3), None), (set("b", 2), None)], Seed(1)).unwrap();
        assert_eq!(counts(&mixed), [3, 2]);
        let error = mix(vec![(set("a", 3), Some(1.0)), (set("b", 2), None)], Seed(1)).unwrap_err();
        assert!(error.to_string().starts_with("data 2: its share is 0"), "{error}");
    }
}
