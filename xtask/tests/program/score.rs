//! `score`, `generate` and `merge` on files.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::common::{MODEL, adapter, done, xtask};

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(path: &Path, lines: &[Value]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn scores(lines: &[Value], args: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    write(&input, lines);
    let mut command = xtask(["score", "--model", MODEL]);
    done(command.args(args).arg("--input").arg(&input).arg("--output").arg(&output));
    read(&output)
}

#[test]
fn each_line_gets_its_score() {
    let messages = json!([{"role": "user", "content": "How do I brew tea?"}]);
    let lines = [
        json!({"prompt": messages, "completion": "Warm the pot first."}),
        json!({"prompt": "The quick brown fox", "completion": " jumps over the lazy dog"}),
        json!({"prompt": messages, "completion": "No."}),
        json!({"prompt": messages, "completion": "Warm the pot first."}),
    ];
    let with_tokens = scores(&lines, &["--tokens"]);
    assert_eq!(with_tokens.len(), lines.len());
    for score in &with_tokens {
        let tokens = score["token_logprobs"].as_array().unwrap();
        assert_eq!(score["tokens"].as_u64(), Some(tokens.len() as u64));
        assert!(tokens.iter().all(|logprob| logprob.as_f64().unwrap() <= 0.0));
        let sum: f64 = tokens.iter().map(|logprob| logprob.as_f64().unwrap()).sum();
        assert!((sum - score["logprob"].as_f64().unwrap()).abs() < 1e-3, "{score}");
    }
    assert_eq!(with_tokens[0], with_tokens[3]);
    // Content, end of turn and line break.
    assert!(with_tokens[2]["tokens"].as_u64().unwrap() >= 4);

    let alone = scores(&lines[..1], &[]);
    assert_eq!(alone[0].get("token_logprobs"), None);
    let difference =
        alone[0]["logprob"].as_f64().unwrap() - with_tokens[0]["logprob"].as_f64().unwrap();
    assert!(difference.abs() < 1e-3, "a batch changes the score by {difference}");
}

#[test]
fn a_quantised_base_is_compared_with_the_stored_one() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    write(&input, &[json!({"prompt": "The quick brown fox", "completion": " jumps"})]);
    let mut command = xtask(["score", "--model", MODEL, "--quantize", "8", "--compare"]);
    let printed = done(command.arg("--input").arg(&input).arg("--output").arg(&output));
    assert!(printed.contains("1.0625 bytes per weight, stored 4.0000"), "{printed}");
    assert!(read(&output)[0]["logprob"].as_f64().unwrap() < 0.0);
}

/// Answers of a model to a few prompts, as text.
fn answers(command: &mut Command) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.jsonl"), dir.path().join("out.jsonl"));
    let prompts = ["How do I brew tea?", "How do I fold a map?", "Tell me about knots."];
    write(&input, &prompts.map(|prompt| json!({"prompt": prompt})));
    let command = command.args(["--max-new-tokens", "40"]);
    done(command.arg("--input").arg(&input).arg("--output").arg(&output));
    let text = |line: Value| line["completion"].as_str().unwrap().to_string();
    read(&output).into_iter().map(text).collect()
}

#[test]
fn a_seed_decides_what_is_generated() {
    let generate = |args: &[&str]| answers(xtask(["generate", "--model", MODEL]).args(args));
    let greedy = generate(&["--greedy"]);
    assert_eq!(greedy.len(), 3);
    assert!(greedy.iter().all(|text| !text.is_empty()), "{greedy:?}");
    assert_eq!(greedy, generate(&["--greedy"]));
    assert_eq!(generate(&["--seed", "1"]), generate(&["--seed", "1"]));
}

#[test]
fn a_merged_model_answers_as_its_adapter_does() {
    let trained = adapter();
    let folder = trained.path().join("adapter");
    let merged = trained.path().join("merged");
    let mut merge = xtask(["merge", "--model", MODEL, "--dtype", "f32"]);
    let stdout = done(merge.arg("--adapter").arg(&folder).arg("--out").arg(&merged));
    assert!(stdout.contains("largest weight change"), "{stdout}");
    let report = fs::read_to_string(merged.join("merge_report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let number = |path: &str| report.pointer(path).unwrap().as_f64().unwrap();
    assert!(number("/weight_change/largest") > number("/weight_change/mean"), "{report}");
    assert!(number("/weight_change/mean") > 0.0, "{report}");
    assert!(number("/largest_logit_change") < 1e-3, "{report}");
    assert_eq!(number("/largest_logit_change_as_written"), number("/largest_logit_change"));

    let with_adapter = {
        let mut command = xtask(["generate", "--model", MODEL, "--greedy"]);
        answers(command.arg("--adapter").arg(&folder))
    };
    let of_base = answers(&mut xtask(["generate", "--model", MODEL, "--greedy"]));
    let of_merged = answers(xtask(["generate", "--greedy"]).arg("--model").arg(&merged));
    assert_eq!(of_merged, with_adapter);
    assert_ne!(of_base, with_adapter, "the adapter changes nothing, and the test shows nothing");
}
