use cai_data::record::Message;
use dpo_trainer::{DpoConfig, prepare};

use crate::fixture::{base, config, pair, pairs};

#[test]
fn every_record_is_used_or_counted() {
    let mut pairs = pairs();
    let used = pairs.len();
    let mut push = |change: &dyn Fn(&mut cai_data::record::PreferencePair)| {
        let mut bad = pair("Why?", "So.", "No.");
        change(&mut bad);
        pairs.push(bad);
    };
    push(&|p| p.rejected = p.chosen.clone());
    // The template trims.
    push(&|p| p.rejected = vec![Message::assistant(" So. ")]);
    push(&|p| p.prompt.push(Message::user("twice")));
    push(&|p| p.chosen = vec![]);
    push(&|p| p.prompt = vec![Message::user("long ".repeat(80))]);
    push(&|p| {
        p.chosen = vec![Message::assistant(format!("{} yes", "same ".repeat(80)))];
        p.rejected = vec![Message::assistant(format!("{} no", "same ".repeat(80)))];
    });
    push(&|p| p.weight = Some(0.0));
    push(&|p| p.chosen_probability = Some(0.55));
    let config = DpoConfig { min_confidence: 0.1, ..config() };
    let prepared = prepare(&base().tokenizer, &pairs, &config).unwrap();
    let left_out: Vec<(&str, usize)> =
        prepared.left_out.iter().map(|(reason, &n)| (reason.as_str(), n)).collect();
    let expected = [
        ("identical_after_truncation", 1),
        ("identical_replies", 2),
        ("low_confidence", 1),
        ("prompt_too_long", 1),
        ("template_refused", 2),
        ("zero_weight", 1),
    ];
    assert_eq!(left_out, expected);
    assert_eq!(prepared.train.len() + prepared.held_out.len(), used);
    assert_eq!(prepared.total, pairs.len());
}

#[test]
fn truncation_keeps_some_of_each_completion() {
    let long = pair("Why?", &format!("{} yes", "so ".repeat(80)), "No.");
    let config = DpoConfig { held_out: 0.0, ..config() };
    let prepared = prepare(&base().tokenizer, &[long], &config).unwrap();
    assert_eq!(prepared.truncated, 1);
    let chosen = &prepared.train[0].chosen;
    assert_eq!((chosen.ids.len(), chosen.trained.len()), (64, 64));
    assert!(chosen.trained[63] && !chosen.trained[0]);
}

#[test]
fn a_prompt_stands_on_one_side_of_the_split() {
    let mut doubled = pairs();
    doubled.extend(pairs().into_iter().map(|mut pair| {
        std::mem::swap(&mut pair.chosen, &mut pair.rejected);
        pair
    }));
    let prepared = prepare(&base().tokenizer, &doubled, &config()).unwrap();
    assert!(!prepared.held_out.is_empty());
    for held_out in &prepared.held_out {
        let swapped = |p: &&dpo_trainer::Pair| p.chosen.ids == held_out.rejected.ids;
        assert!(prepared.held_out.iter().any(|p| swapped(&p)));
        assert!(!prepared.train.iter().any(|p| swapped(&p)));
    }
}

#[test]
fn soft_labels_can_be_turned_off() {
    let mut soft = pair("Why?", "So.", "No.");
    soft.chosen_probability = Some(0.9);
    for (soft_labels, probability) in [(true, 0.9), (false, 1.0)] {
        let config = DpoConfig { soft_labels, held_out: 0.0, ..config() };
        let prepared = prepare(&base().tokenizer, &[soft.clone()], &config).unwrap();
        assert_eq!(prepared.train[0].chosen_probability, probability);
    }
}

#[test]
fn impossible_numbers_and_empty_sets_are_errors() {
    let mut bad = pairs();
    bad[6].chosen_probability = Some(1.5);
    let error = prepare(&base().tokenizer, &bad, &config()).unwrap_err().to_string();
    assert!(error.starts_with("preference pair 7: chosen_probability is 1.5"), "{error}");
    bad[6].chosen_probability = None;
    bad[1].weight = Some(f64::NAN);
    let error = prepare(&base().tokenizer, &bad, &config()).unwrap_err().to_string();
    assert!(error.starts_with("preference pair 2: weight is NaN"), "{error}");
    let error = prepare(&base().tokenizer, &[pair("Why?", "So.", "So.")], &config()).unwrap_err();
    assert!(error.to_string().contains("1 records, 1 identical_replies"), "{error}");
}
