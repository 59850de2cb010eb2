//! Shards of a run, merged, are the run.

use std::fs;
use std::path::Path;

use super::common::{constitution, critique_config, feedback_config, files, model, prompts};
use critique_revision::{
    CRITIQUES, FeedbackConfig, Shard, merge_critiques, merge_feedback, report_critiques, run,
    run_feedback, run_feedback_shard, run_shard,
};

/// All files of a folder but its shards.
fn merged_files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let kept = dir.join("without shards");
    fs::create_dir_all(&kept).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
        }
    }
    files(&kept)
}

#[test]
fn four_merged_shards_of_critique_are_byte_equal_to_one_run() {
    let (_model, model) = model(1);
    let (constitution, prompts, config) = (constitution(), prompts(18), critique_config());
    let dir = tempfile::tempdir().unwrap();
    let (whole, here, there) =
        (dir.path().join("whole"), dir.path().join("here"), dir.path().join("there"));
    let report = run(&model, &constitution, None, &prompts, &config, &whole).unwrap();
    let shard = |index, dir: &Path| {
        let shard = Shard { index, of: 4 };
        run_shard(&model, &constitution, None, &prompts, &config, shard, dir).unwrap()
    };
    assert_eq!((shard(2, &here), shard(0, &here)), (4, 6));
    let error = merge_critiques(&here, &[]).unwrap_err().to_string();
    assert!(error.contains("shards are missing: 1/4, 3/4"), "{error}");
    // Two shards come from another machine, one of them killed and resumed.
    assert_eq!((shard(1, &there), shard(3, &there)), (4, 4));
    let file = there.join("shards/critiques-1-of-4.jsonl");
    let bytes = fs::read(&file).unwrap();
    fs::write(there.join("shards/critiques-1-of-4.jsonl.part"), &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(&file).unwrap();
    let error = merge_critiques(&here, &[there.clone()]).unwrap_err().to_string();
    assert!(error.contains("1/4 (begun, not finished)"), "{error}");
    shard(1, &there);
    assert_eq!(merge_critiques(&here, &[there.clone()]).unwrap(), report);
    assert!(merged_files(&here) == files(&whole));
    assert_eq!(report_critiques(&here).unwrap(), report);

    // A shard of another run is refused, and so is one that lacks a record.
    let text = String::from_utf8(bytes).unwrap();
    fs::write(&file, text.replace("\"run\":\"", "\"run\":\"x")).unwrap();
    let error = merge_critiques(&here, &[there.clone()]).unwrap_err().to_string();
    assert!(error.contains("critiques-1-of-4.jsonl: made by run x"), "{error}");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&file, lines[1..].join("\n") + "\n").unwrap();
    let error = merge_critiques(&here, &[there]).unwrap_err().to_string();
    assert!(error.contains("holds 3 records of which 0 are the planned ones"), "{error}");
    let cut: Vec<u8> = fs::read(whole.join(CRITIQUES))
        .unwrap()
        .split_inclusive(|b| *b == b'\n')
        .skip(1)
        .flatten()
        .copied()
        .collect();
    fs::write(whole.join(CRITIQUES), cut).unwrap();
    assert!(report_critiques(&whole).is_err());
}

#[test]
fn merged_shards_of_feedback_are_byte_equal_to_one_run() {
    let ((_policy, policy), (_judge, judge)) = (model(1), model(2));
    let (constitution, prompts) = (constitution(), prompts(10));
    let config = FeedbackConfig { samples: 2, ..feedback_config() };
    let dir = tempfile::tempdir().unwrap();
    let (whole, shards) = (dir.path().join("whole"), dir.path().join("shards"));
    let report = run_feedback(&policy, &judge, &constitution, &prompts, &config, &whole).unwrap();
    for index in 0..2 {
        let shard = Shard { index, of: 2 };
        run_feedback_shard(&policy, &judge, &constitution, &prompts, &config, shard, &shards)
            .unwrap();
    }
    assert_eq!(merge_feedback(&shards, &[]).unwrap(), report);
    assert!(merged_files(&shards) == files(&whole));
}
