//! Critique and feedback in shards, each a process of its own.

use std::{fs, path::Path, process::Command};

use crate::common::{MICRO, MODEL, assert_same, done, files, refused, xtask};

const PROMPTS: &str = r#"{"id":"a","prompt":"How do I brew tea?"}
{"id":"b","prompt":"How do I fold a map?<end_of_turn>"}

{"id":"c","prompt":"How do I plant a bulb?"}
{"id":"d","prompt":"How do I tune a drum?"}
{"prompt":" "}
{"id":"e","prompt":"How do I dry herbs?"}
"#;

/// The command with small blocks and short answers.
fn brief(name: &str, prompts: &Path, out: &Path) -> Command {
    let mut command = xtask([name, "--config", MICRO]);
    for set in [
        "critique.rounds=1",
        "critique.batch_size=2",
        "critique.initial.max_new_tokens=12",
        "critique.critique.max_new_tokens=12",
        "critique.revision.max_new_tokens=12",
        "feedback.batch_size=2",
        "feedback.sampling.max_new_tokens=24",
    ] {
        command.args(["--set", set]);
    }
    command.arg("--prompts").arg(prompts).arg("--out").arg(out);
    command
}

#[test]
fn merged_shards_are_one_run_and_known_pairs_measure_a_judge() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = dir.path().join("prompts.jsonl");
    fs::write(&prompts, PROMPTS).unwrap();
    for (name, models) in [
        ("critique", &["--model", MODEL][..]),
        ("feedback", &["--policy", MODEL, "--judge", MODEL]),
    ] {
        let (whole, cut) = (dir.path().join(name), dir.path().join(format!("{name}-shards")));
        let said = done(brief(name, &prompts, &whole).args(models));
        assert!(said.contains("5 of 7 prompts"), "{said}");
        let merge = || {
            let mut command = xtask([name, "merge", "--out"]);
            command.arg(&cut);
            command
        };
        done(brief(name, &prompts, &cut).args(models).args(["--shard", "1/2"]));
        let error = refused(&mut merge());
        assert!(error.contains("shards are missing: 0/2"), "{error}");
        done(brief(name, &prompts, &cut).args(models).args(["--shard", "0/2"]));
        done(&mut merge());
        let mut merged = files(&cut);
        merged.retain(|path, _| !path.starts_with("shards"));
        assert_same(&merged, &files(&whole));
        let pages = done(xtask(["critique", "report"]).arg(&whole));
        assert!(pages.contains("report.html"), "{pages}");
    }
    let error = refused(xtask(["critique", "report"]).arg(dir.path().join("no")));
    assert!(error.contains("give a run's folder"), "{error}");

    let pairs = dir.path().join("pairs.jsonl");
    fs::write(&pairs, "{\"prompt\":\"Tea?\",\"chosen\":\"Warm the pot.\",\"rejected\":\"No.\"}\n")
        .unwrap();
    let eval = |more: &[&str]| {
        let mut command = xtask(["feedback", "eval", "--config", MICRO, "--judge", MODEL]);
        command.arg("--input").arg(&pairs).args(more);
        command
    };
    let said = done(&mut eval(&["--constitution", "configs/constitution.yaml"]));
    assert!(said.contains("1 of 1 comparisons judged"), "{said}");
    assert!(refused(&mut eval(&[])).contains("preference question"));
}
