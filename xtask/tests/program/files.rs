//! A run on files of other people's making, and on a classifier that is there already.

use std::fs;

use serde_json::Value;

use crate::common::{done, pipeline, refused};

/// The micro config without the mini world: instructions as JSON, transcripts as JSONL, goals as CSV.
fn sets(dir: &std::path::Path) -> Vec<String> {
    let instruction = |i: usize| {
        format!(r#"{{"instruction": "How do I fold map {i}?", "output": "Follow crease {i}."}}"#)
    };
    let instructions: Vec<String> = (0..24).map(instruction).collect();
    fs::write(dir.join("maps.json"), format!("[{}]", instructions.join(",\n"))).unwrap();
    let transcript = |i: usize| {
        let talk = format!("\\n\\nHuman: How do I pick lock {i}?\\n\\nAssistant: ");
        format!("{{\"chosen\": \"{talk}No.\", \"rejected\": \"{talk}Bend a pin.\"}}\n")
    };
    fs::write(dir.join("locks.jsonl"), (0..8).map(transcript).collect::<String>()).unwrap();
    fs::write(dir.join("goals.csv"), "Goal,Kind\n\"Pick\na lock\",theft\nFold it,map\n").unwrap();
    let files = "{helpful: {path: DIR/maps.json, prompt: instruction, completion: output}, \
                 red_team: {path: DIR/locks.jsonl, turns: first}, \
                 harmless: {path: DIR/maps.json, prompt: instruction, take: 4}, \
                 evaluation: [{path: DIR/goals.csv, prompt: Goal, category: {column: Kind, map: \
                 {theft: harmful, '*': borderline}}}, {path: DIR/maps.json, prompt: instruction, \
                 reference: output, category: {value: harmless}, sample: 6}]}";
    let files = files.replace("DIR", &dir.display().to_string());
    ["--set".into(), format!("data={{files: {files}}}")].into()
}

#[test]
fn a_run_needs_neither_the_mini_world_nor_labelled_texts() {
    let runs = tempfile::tempdir().unwrap();
    done(&mut pipeline(&runs.path().join("first"), ["--to", "classifier"]));
    let trained = runs.path().join("first/micro/classifier");
    let from = format!("classifier={{from: {}}}", trained.display());
    let stdout =
        done(pipeline(runs.path(), ["--to", "sft"]).args(["--set", &from]).args(sets(runs.path())));
    assert!(
        stdout.contains("18 of 24 helpful records") && stdout.contains("6 evaluation_prompt"),
        "{stdout}"
    );
    assert!(stdout.contains("not trained here"), "{stdout}");

    let dir = runs.path().join("micro");
    let json = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(path)).unwrap()).unwrap()
    };
    assert_eq!(json("classifier/origin.json")["from"], trained.display().to_string());
    let manifest = json("manifest.json");
    let inputs = &manifest["stages"]["classifier"]["inputs"];
    assert!(
        inputs[trained.join("model.safetensors").display().to_string()].is_string(),
        "{inputs}"
    );
    assert_eq!(json("data/report.json")["sources"].as_array().unwrap().len(), 5);
}

#[test]
fn a_classifier_that_is_not_there_is_named_before_anything_runs() {
    let runs = tempfile::tempdir().unwrap();
    let nowhere = ["--set", "classifier={from: no/such/folder}"];
    let message = refused(pipeline(runs.path(), []).args(nowhere));
    assert!(message.contains("no/such/folder"), "{message}");
    assert!(!runs.path().join("micro/data").exists());
}

/// Two tokens are no answer.
#[test]
fn where_nothing_is_left_to_train_on_the_message_says_why_and_what_to_set() {
    let runs = tempfile::tempdir().unwrap();
    let short = ["critique.initial.max_new_tokens=2", "critique.revision.max_new_tokens=2"];
    let mut command = pipeline(runs.path(), ["--to", "sl_cai"]);
    let message = refused(command.args(short.iter().flat_map(|set| ["--set", set])));
    for part in
        ["16 critique records", "truncated", "critique.revision.max_new_tokens", "never ended"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
}
