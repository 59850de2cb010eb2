//! AI feedback from end to end, with models that have learnt nothing.

use super::common::{constitution, feedback_config, files, leave_unfinished, model, prompts};
use cai_chat::{Question, prefer};
use cai_data::dialogue::{OPTION_A, OPTION_B, preference_prompt};
use cai_data::jsonl;
use cai_data::record::{Message, PreferencePair};
use cai_model::generate::SamplingConfig;
use cai_model::score::score;
use cai_train::{Progress, Verbosity};
use critique_revision::hhh::{KnownPair, KnownPairs, measure};
use critique_revision::{FEEDBACK, FEEDBACK_PAIRS, FeedbackConfig, FeedbackRecord, run_feedback};

#[test]
fn swapping_the_answers_swaps_the_probabilities() {
    let (_dir, judge) = model(2);
    let constitution = constitution();
    let prompt = [Message::user("How do I pick a lock?")];
    let (x, y) = ("To pick a lock, bend a pin.", "I can't help you pick a lock.");
    let questions: Vec<Question> = constitution
        .principles
        .iter()
        .flat_map(|principle| {
            let (principle, question) = (&principle.id, &principle.preference_question);
            let question =
                |first, second| Question { prompt: &prompt, principle, question, first, second };
            [question(x, y), question(y, x)]
        })
        .collect();
    let mut done = 0;
    let judgements = prefer(&judge, &questions, None, 7, &mut |n| done += n).unwrap();
    assert_eq!(done, 2 * questions.len());
    let mut spread = 0.0f64;
    for pair in judgements.chunks(2) {
        let (xy, yx) = (pair[0].as_ref().unwrap(), pair[1].as_ref().unwrap());
        let sum = xy.first_probability() + yx.first_probability();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert!((xy.position_bias() - yx.position_bias()).abs() < 1e-5);
        assert!((xy.p_ab + yx.p_ba - 1.0).abs() < 1e-5);
        spread = spread.max((xy.p_ab - 0.5).abs());
    }
    assert!(spread > 1e-3, "the probabilities say nothing: {spread}");
}

#[test]
fn the_probability_is_that_of_the_options_tokens() {
    let (_dir, judge) = model(2);
    let constitution = constitution();
    let principle = &constitution.principles[0];
    let prompt = [Message::user("How do I pick a lock?")];
    let question = Question {
        prompt: &prompt,
        principle: &principle.id,
        question: &principle.preference_question,
        first: "Bend it.",
        second: "No.",
    };
    let p_ab = prefer(&judge, &[question], None, 4, &mut |_| {}).unwrap()[0].as_ref().unwrap().p_ab;

    let dialogue = preference_prompt(&prompt, &principle.preference_question, "Bend it.", "No.");
    let example = |option| {
        let reply = [Message::assistant(option)];
        judge.tokenizer.completion(&dialogue, &reply).unwrap()
    };
    let examples = [example(OPTION_A), example(OPTION_B)];
    let scores = score(&judge, &examples, 2, &mut |_| {}).unwrap();
    let (a, b) = (&scores[0].token_logprobs, &scores[1].token_logprobs);
    // "(", then the letter: up to it the replies are the same.
    assert!((a[0] - b[0]).abs() < 1e-5);
    let expected = 1.0 / (1.0 + (b[1] as f64 - a[1] as f64).exp());
    assert!((p_ab - expected).abs() < 1e-5, "{p_ab} {expected}");
}

#[test]
fn a_killed_run_ends_with_the_bytes_of_one_that_was_not() {
    let ((_policy, policy), (_judge, judge)) = (model(1), model(2));
    let (constitution, prompts) = (constitution(), prompts(10));
    let config = FeedbackConfig { samples: 3, ..feedback_config() };
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let dir = dir.path().join(name);
        run_feedback(&policy, &judge, &constitution, &prompts, &config, &dir).unwrap()
    };
    let report = run("whole");
    let whole = files(&dir.path().join("whole"));
    assert_eq!(whole.len(), 6);
    assert_eq!((report.n, report.comparisons), (10, 30));
    assert_eq!(report.pairs + report.dropped.values().sum::<usize>(), 30);

    let finished = dir.path().join("whole").join(FEEDBACK);
    for (name, lines, torn) in [("border", 4, 0), ("torn", 5, 80), ("last", 8, 20)] {
        leave_unfinished(&finished, &dir.path().join(name), lines, torn);
        assert_eq!(run(name), report, "{name}");
        assert!(files(&dir.path().join(name)) == whole, "{name}");
    }
}

#[test]
fn pairs_hold_what_the_judge_said() {
    let ((_policy, policy), (_judge, judge)) = (model(1), model(2));
    let dir = tempfile::tempdir().unwrap();
    let config = feedback_config();
    let report =
        run_feedback(&policy, &judge, &constitution(), &prompts(40), &config, dir.path()).unwrap();
    let records: Vec<FeedbackRecord> = jsonl::read(&dir.path().join(FEEDBACK)).unwrap();
    let pairs: Vec<PreferencePair> = jsonl::read(&dir.path().join(FEEDBACK_PAIRS)).unwrap();
    assert_eq!(pairs.len(), report.pairs);
    assert!(!pairs.is_empty(), "{:?} {:?}", report.dropped, report.sample_cleaning);
    for pair in &pairs {
        let record = records.iter().find(|record| pair.extra["id"] == *record.id).unwrap();
        let [chosen, rejected] = [&pair.chosen, &pair.rejected].map(|m| &m[0].content);
        assert!(record.samples.iter().any(|sample| sample.text == *chosen));
        assert_ne!(chosen, rejected);
        let share = |key: &str| pair.extra[key].as_f64().unwrap();
        let p = pair.chosen_probability.unwrap();
        assert!(p > 0.5 && (p - (share("p_ab") + share("p_ba")) / 2.0).abs() < 1e-12);
        assert_eq!(pair.extra["principles"].as_array().unwrap().len(), 2);
        assert_eq!(pair.extra["source"], "feedback");
    }
    let compared: usize = report.histogram.iter().map(|bin| bin.count).sum();
    assert_eq!(
        compared,
        records.iter().filter(|r| !r.comparisons[0].judgements.is_empty()).count()
    );
    assert!(report.position_bias.unwrap().mean.abs() <= 0.5);
    let judged: usize = report.principles.values().map(|principle| principle.judgements).sum();
    assert_eq!(judged, 2 * compared);
    assert!(report.markdown().contains("## Examples"));
}

#[test]
fn with_chain_of_thought_the_judge_reasons_first_and_probabilities_are_clamped() {
    let ((_policy, policy), (_judge, judge)) = (model(1), model(2));
    let dir = tempfile::tempdir().unwrap();
    let reasoning = SamplingConfig { max_new_tokens: 6, ..SamplingConfig::default() };
    // Tiny models end many turns at once: an empty thought is no answer.
    let config = FeedbackConfig {
        chain_of_thought: true,
        reasoning,
        samples: 4,
        principles_per_pair: 1,
        ..feedback_config()
    };
    let report =
        run_feedback(&policy, &judge, &constitution(), &prompts(40), &config, dir.path()).unwrap();
    let records: Vec<FeedbackRecord> = jsonl::read(&dir.path().join(FEEDBACK)).unwrap();
    let judgements: Vec<_> =
        records.iter().flat_map(|r| &r.comparisons).flat_map(|c| &c.judgements).collect();
    assert!(judgements.iter().all(|j| j.reasoning.as_ref().is_some_and(|[a, b]| a != b)));
    let pairs: Vec<PreferencePair> = jsonl::read(&dir.path().join(FEEDBACK_PAIRS)).unwrap();
    assert!(!pairs.is_empty(), "{:?}", report.dropped);
    assert!(pairs.iter().all(|pair| pair.chosen_probability.unwrap() <= 0.6));
}

#[test]
fn a_feedback_model_is_measured_on_known_comparisons() {
    let (_judge, judge) = model(2);
    let pair = |better: &str, worse: &str| KnownPair {
        prompt: vec![Message::user("How do I swim?")],
        question: Some("Which answer is better?".into()),
        better: better.into(),
        worse: worse.into(),
    };
    let long = "swim ".repeat(400);
    let known = KnownPairs {
        pairs: vec![pair("Take lessons.", "No."), pair("No.", "Take lessons."), pair(&long, "No.")],
        left_out: Default::default(),
    };
    let mut progress = Progress::new("eval", 6, Verbosity::Quiet);
    let found = measure(&judge, &known, None, &feedback_config(), &mut progress).unwrap();
    // The same comparison both ways round: one of the two is right, and no position is preferred on
    // the whole that is not preferred in each.
    assert_eq!((found.given, found.left_out["no_room"]), (3, 1));
    assert_eq!(found.accuracy.unwrap().mean, 0.5);
    assert!((found.probability.unwrap().mean - 0.5).abs() < 1e-5);
    let by_principle =
        measure(&judge, &known, Some(&constitution()), &feedback_config(), &mut progress).unwrap();
    assert_eq!(by_principle.accuracy.unwrap().n, 2);
    assert!(found.markdown().contains("2 of 3 comparisons judged"), "{}", found.markdown());
}
