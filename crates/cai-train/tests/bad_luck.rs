//! Folders that cannot be written and disks that are full.

mod common;

use std::path::Path;
use std::process::Command;

use cai_train::{TrainArgs, checkpoint, progress, train};
use common::{Regression, args, model, run};

/// Set in the child process: the folder it trains in.
const FOLDER: &str = "CAI_TRAIN_FULL_DISK_TEST_FOLDER";

fn many_steps() -> TrainArgs {
    // The log in trainer_state.json grows from checkpoint to checkpoint.
    TrainArgs { max_steps: 60, logging_steps: 1, save_steps: 5, ..args() }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run");
    std::fs::write(&file, "not a folder").unwrap();
    let error = train(model(), &Regression::new(20), &args(), &run(&file)).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(error.contains("writable"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a folder");
}

/// Not a test of its own: what the child process runs.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    progress::set_quiet(true);
    let error =
        train(model(), &Regression::new(20), &many_steps(), &run(Path::new(&folder))).unwrap_err();
    println!("error: {error}");
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle of a file.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact child --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("error: ") && text.contains("the disk is not full"), "{text}");
    let left = checkpoint::list(folder.path()).unwrap();
    let (last, _) = left.last_key_value().expect("a checkpoint");
    assert!((5..60).contains(last), "{left:?}");
    for path in left.values() {
        checkpoint::Checkpoint::load(path).unwrap();
    }
    // With room again, the run goes on from there and ends like one without trouble.
    let (_, resumed) =
        train(model(), &Regression::new(20), &many_steps(), &run(folder.path())).unwrap();
    assert_eq!(resumed.resumed_from, Some(*last));
    let whole = tempfile::tempdir().unwrap();
    train(model(), &Regression::new(20), &many_steps(), &run(whole.path())).unwrap();
    for file in ["checkpoint-60/model.safetensors", "metrics.jsonl"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(whole.path()) == read(folder.path()), "{file} differs");
    }
}
