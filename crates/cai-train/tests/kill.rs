//! Killing the process outright at arbitrary moments.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cai_train::{TrainArgs, progress, train};
use common::{Regression, args, model, run, weights};

/// Set in the child process: the folder it trains in.
const FOLDER: &str = "CAI_TRAIN_KILL_TEST_FOLDER";

fn train_in(folder: &Path) -> Vec<f32> {
    progress::set_quiet(true);
    let args = TrainArgs { max_steps: 150, save_steps: 2, save_total_limit: Some(2), ..args() };
    let (trained, _) = train(model(), &Regression::new(50), &args, &run(folder)).unwrap();
    weights(&trained)
}

/// Not a test of its own: what the child process runs.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train_in(Path::new(&folder));
    }
}

#[test]
fn kills_do_not_change_the_result() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = train_in(whole.path());
    let mut kills = 0;
    for milliseconds in [15, 40, 25, 60, 33, 50, 21, 45] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(FOLDER, killed.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0);
    assert_eq!(train_in(killed.path()), expected);
    for file in ["metrics.jsonl", "checkpoint-148/trainer_state.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert_eq!(read(whole.path()), read(killed.path()), "{file}");
    }
    for folder in [&whole, &killed] {
        let steps = cai_train::checkpoint::list(folder.path()).unwrap().into_keys();
        assert_eq!(steps.collect::<Vec<_>>(), [148, 150]);
    }
}
