//! Critique and revision from end to end, with a model that has learnt nothing.

use std::collections::BTreeMap;
use std::fs;

use super::common::{
    classifier, constitution, critique_config, files, leave_unfinished, model, prompts,
};
use cai_data::jsonl;
use cai_data::record::{Message, PreferencePair};
use cai_data::seed::Seed;
use critique_revision::{
    CRITIQUE_PLAN, CRITIQUES, CritiqueConfig, CritiquePrompt, CritiqueRecord, Outcome,
    PrincipleChoice, REVISION_PAIRS, run,
};

#[test]
fn a_killed_run_ends_with_the_bytes_of_one_that_was_not() {
    let (_model, model) = model(1);
    let (_classifier, classifier) = classifier();
    let (constitution, prompts, config) = (constitution(), prompts(10), critique_config());
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let dir = dir.path().join(name);
        run(&model, &constitution, Some(&classifier), &prompts, &config, &dir).unwrap()
    };
    let report = run("whole");
    let whole = files(&dir.path().join("whole"));
    let names: Vec<&str> = whole.iter().map(|(name, _)| name.as_str()).collect();
    let reports = ["report.html", "report.json", "report.md"];
    assert_eq!(names[..2], [CRITIQUE_PLAN, CRITIQUES]);
    assert_eq!((&names[2..5], names[5]), (&reports[..], REVISION_PAIRS));

    // At a block's border, within a block, within its last line; in the last, shorter block; with
    // every line written but not renamed; and with lines of another run.
    let finished = dir.path().join("whole").join(CRITIQUES);
    for (name, lines, torn) in
        [("border", 4, 0), ("within", 6, 0), ("torn", 7, 100), ("last", 9, 3), ("none", 0, 5)]
    {
        leave_unfinished(&finished, &dir.path().join(name), lines, torn);
        assert_eq!(run(name), report, "{name}");
        assert!(files(&dir.path().join(name)) == whole, "{name}");
    }
    let unnamed = dir.path().join("unnamed");
    fs::create_dir_all(&unnamed).unwrap();
    fs::copy(&finished, unnamed.join(format!("{CRITIQUES}.part"))).unwrap();
    run("unnamed");
    assert!(files(&unnamed) == whole);

    // A finished run is not run again: a mark in its file stays.
    let marked = fs::read_to_string(&finished).unwrap().replace("\"outcome\"", "\"outcome\" ");
    fs::write(&finished, &marked).unwrap();
    run("whole");
    assert_eq!(fs::read_to_string(&finished).unwrap(), marked);
}

#[test]
fn other_inputs_start_again() {
    let (_model, model) = model(1);
    let (constitution, prompts, config) = (constitution(), prompts(6), critique_config());
    let dir = tempfile::tempdir().unwrap();
    let other = CritiqueConfig { seed: 7, ..config.clone() };
    run(&model, &constitution, None, &prompts, &other, &dir.path().join("other")).unwrap();
    let (stale, fresh) = (dir.path().join("stale"), dir.path().join("fresh"));
    leave_unfinished(&dir.path().join("other").join(CRITIQUES), &stale, 4, 0);
    fs::copy(dir.path().join("other").join(CRITIQUES), stale.join(CRITIQUES)).unwrap();
    run(&model, &constitution, None, &prompts, &config, &stale).unwrap();
    run(&model, &constitution, None, &prompts, &config, &fresh).unwrap();
    assert!(files(&stale) == files(&fresh));
}

#[test]
fn principles_and_fields_follow_the_prompt_not_its_place() {
    let (_model, model) = model(1);
    let (constitution, mut prompts, config) = (constitution(), prompts(9), critique_config());
    let dir = tempfile::tempdir().unwrap();
    let principles = |prompts: &[CritiquePrompt], name: &str| -> BTreeMap<String, Vec<String>> {
        let dir = dir.path().join(name);
        run(&model, &constitution, None, prompts, &config, &dir).unwrap();
        let records: Vec<CritiqueRecord> = jsonl::read(&dir.join(CRITIQUES)).unwrap();
        for (record, prompt) in records.iter().zip(prompts) {
            assert_eq!((&record.id, &record.extra), (&prompt.id, &prompt.extra));
            assert_eq!((record.initial.harm, record.rounds.len()), (None, 2));
            for (i, round) in record.rounds.iter().enumerate() {
                let seed = Seed(config.seed).derive(&record.id).index(i as u64);
                assert_eq!(round.principle, constitution.sample(seed).id);
            }
        }
        let drawn = |record: CritiqueRecord| {
            (record.id, record.rounds.into_iter().map(|round| round.principle).collect())
        };
        records.into_iter().map(drawn).collect()
    };
    let forward = principles(&prompts, "forward");
    prompts.reverse();
    assert_eq!(principles(&prompts, "backward"), forward);
    let some = principles(&prompts[..5], "some");
    assert!(some.iter().all(|(id, drawn)| forward[id] == *drawn));
}

#[test]
fn what_is_not_usable_is_counted_and_what_is_safe_is_left_alone() {
    let (_model, model) = model(1);
    let (_classifier, classifier) = classifier();
    let (constitution, mut prompts) = (constitution(), prompts(3));
    let prompt =
        |id: &str, prompt| CritiquePrompt { id: id.into(), prompt, extra: Default::default() };
    prompts.push(prompt("long", vec![Message::user("how ".repeat(300))]));
    prompts.push(prompt("done", vec![Message::user("Hi."), Message::assistant("Hello.")]));
    prompts.push(prompt("twice", vec![Message::user("Hi."), Message::user("Hi?")]));
    let config = CritiqueConfig { stop_when_safe: true, safe_threshold: 1.0, ..critique_config() };
    let dir = tempfile::tempdir().unwrap();
    let report =
        run(&model, &constitution, Some(&classifier), &prompts, &config, dir.path()).unwrap();
    assert_eq!((report.prompts, report.n), (6, 3));
    let left_out: Vec<_> = report.left_out.iter().map(|(r, n)| (r.as_str(), *n)).collect();
    assert_eq!(left_out, [("no_request", 1), ("prompt_too_long", 1), ("template_refused", 1)]);
    assert_eq!(report.outcomes["safe"], 3);
    assert_eq!((report.rounds[2].revisions, report.rounds.len()), (0, 3));
    let harm = report.rounds[0].harm.unwrap();
    assert!(harm.n == 3 && (0.0..=1.0).contains(&harm.mean));

    // Safe is not enough where a refusal is wanted, too.
    let strict = CritiqueConfig { stop_needs_refusal: true, ..config.clone() };
    let strict_dir = tempfile::tempdir().unwrap();
    let report =
        run(&model, &constitution, Some(&classifier), &prompts, &strict, strict_dir.path())
            .unwrap();
    assert_eq!(report.rounds[1].revisions, 3);

    prompts.truncate(1);
    let again = [prompts.clone(), prompts.clone()].concat();
    let error = run(&model, &constitution, None, &again, &config, dir.path()).unwrap_err();
    assert!(error.to_string().contains("used twice"), "{error}");
    prompts[0].extra.insert("outcome".into(), 1.into());
    let error = run(&model, &constitution, None, &prompts, &config, dir.path()).unwrap_err();
    assert!(error.to_string().contains("\"outcome\""), "{error}");
    let none: Vec<CritiquePrompt> = Vec::new();
    let error = run(&model, &constitution, None, &none, &config, dir.path()).unwrap_err();
    assert!(error.to_string().contains("0 given"), "{error}");
}

#[test]
fn a_broken_revision_is_recorded_and_not_used() {
    let (_model, model) = model(1);
    let dir = tempfile::tempdir().unwrap();
    let config = critique_config();
    let report = run(&model, &constitution(), None, &prompts(40), &config, dir.path()).unwrap();
    let records: Vec<CritiqueRecord> = jsonl::read(&dir.path().join(CRITIQUES)).unwrap();
    for record in &records {
        let mut answer = &record.initial.text;
        for round in record.rounds.iter().filter(|round| round.cleaning.is_empty()) {
            assert!(!round.revision.is_empty() && round.revision != *answer);
            answer = &round.revision;
        }
        assert_eq!(record.final_revision, *answer);
        assert_eq!(record.outcome == Outcome::Revised, *answer != record.initial.text);
    }
    let broken = records.iter().flat_map(|record| &record.rounds).flat_map(|r| &r.cleaning);
    assert_eq!(broken.count(), report.cleaning.values().sum::<usize>());
    assert!(report.cleaning.contains_key("truncated"), "{:?}", report.cleaning);
    let pairs: Vec<PreferencePair> = jsonl::read(&dir.path().join(REVISION_PAIRS)).unwrap();
    assert_eq!(pairs.len(), report.pairs.pairs);
    assert!(!pairs.is_empty(), "{:?}", report.cleaning);
    assert_eq!(report.examples.len(), 20);
    assert!(report.markdown().contains("| 2 | 40 |"), "{}", report.markdown());
}

#[test]
fn principles_are_matched_to_what_the_classifier_finds() {
    let (_model, model) = model(1);
    let (_classifier, classifier) = classifier();
    let dir = tempfile::tempdir().unwrap();
    let config = CritiqueConfig { principles: PrincipleChoice::Matched, ..critique_config() };
    let constitution = constitution();
    run(&model, &constitution, Some(&classifier), &prompts(12), &config, dir.path()).unwrap();
    let records: Vec<CritiqueRecord> = jsonl::read(&dir.path().join(CRITIQUES)).unwrap();
    let mut matched = 0;
    for record in &records {
        let risk = record.initial.risk.as_ref().unwrap();
        let drawn = &record.rounds[0].principle;
        let calls = |p: &&cai_data::constitution::Principle| p.risks.contains(risk);
        if constitution.principles.iter().any(|p| calls(&p)) {
            assert!(constitution.principles.iter().filter(calls).any(|p| p.id == *drawn));
            matched += 1;
        }
    }
    assert!(matched > 0, "the classifier found nothing but safe");
}

#[test]
fn revisions_may_be_asked_for_at_once_and_after_examples() {
    let (_model, model) = model(1);
    let (mut constitution, prompts) = (constitution(), prompts(4));
    let run = |constitution: &_, config: &CritiqueConfig| {
        let dir = tempfile::tempdir().unwrap();
        run(&model, constitution, None, &prompts, config, dir.path())
            .map(|_| jsonl::read::<CritiqueRecord>(&dir.path().join(CRITIQUES)).unwrap())
    };
    let config = CritiqueConfig { direct: true, rounds: 1, ..critique_config() };
    let direct = run(&constitution, &config).unwrap();
    assert!(direct.iter().all(|record| record.rounds[0].critique.is_empty()));

    let config = CritiqueConfig { few_shot: 1, rounds: 1, ..critique_config() };
    let error = run(&constitution, &config).unwrap_err().to_string();
    assert!(error.contains("few_shot: is 1") && error.contains("has 0 examples"), "{error}");
    constitution.few_shot = vec![vec![Message::user("Is it kind?"), Message::assistant("Yes.")]];
    let without = run(&constitution, &CritiqueConfig { few_shot: 0, ..config.clone() }).unwrap();
    let with = run(&constitution, &config).unwrap();
    assert_eq!(with[0].initial, without[0].initial);
    assert!(with.iter().zip(&without).any(|(a, b)| a.rounds[0].critique != b.rounds[0].critique));
}
