//! Killing the process outright at arbitrary moments.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cai_data::seed::Seed;
use cai_train::optim::OptimizerName;
use cai_train::{TrainArgs, progress, train};
use common::{Regression, args, model, run, weights};
use rand::RngExt;

/// Set in the child process: the folder it trains in.
const FOLDER: &str = "CAI_TRAIN_KILL_TEST_FOLDER";
/// Set in the child process: the case, a place in [`cases`].
const CASE: &str = "CAI_TRAIN_KILL_TEST_CASE";

/// Every optimiser, and all that a checkpoint holds besides.
fn cases() -> Vec<TrainArgs> {
    use OptimizerName::*;
    let plain = TrainArgs { max_steps: 60, save_steps: 4, save_total_limit: Some(2), ..args() };
    let of = |optim| TrainArgs { optim, ..plain.clone() };
    let full = TrainArgs {
        optim: Lion,
        ema_decay: Some(0.9),
        load_best_model_at_end: true,
        early_stopping_patience: Some(40),
        ..plain.clone()
    };
    vec![of(Adamw), of(Rmsprop), of(Adafactor), of(Muon), full]
}

fn train_in(folder: &Path, case: usize) -> Vec<f32> {
    progress::set_quiet(true);
    let (trained, _) = train(model(), &Regression::new(50), &cases()[case], &run(folder)).unwrap();
    weights(&trained)
}

/// Not a test of its own: what the child process runs.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let case = std::env::var(CASE).unwrap().parse().unwrap();
        train_in(Path::new(&folder), case);
    }
}

#[test]
fn kills_do_not_change_the_result() {
    let mut moments = Seed(7).rng();
    let mut kills = 0;
    for case in 0..cases().len() {
        let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = train_in(whole.path(), case);
        for _ in 0..4 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "child"])
                .env(FOLDER, killed.path())
                .env(CASE, case.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(moments.random_range(10..70)));
            kills += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            // Whatever bears a checkpoint's final name is whole.
            for path in cai_train::checkpoint::list(killed.path()).unwrap().into_values() {
                cai_train::checkpoint::Checkpoint::load(&path).unwrap();
            }
        }
        assert_eq!(train_in(killed.path(), case), expected, "{case}");
        let newest = cai_train::checkpoint::list(whole.path()).unwrap();
        assert_eq!(newest, {
            let found = cai_train::checkpoint::list(killed.path()).unwrap().into_keys();
            found.map(|step| (step, whole.path().join(format!("checkpoint-{step}")))).collect()
        });
        for file in std::iter::once("metrics.jsonl".into()).chain(newest.keys().flat_map(|step| {
            ["trainer_state.json", "model.safetensors", "optimizer.safetensors"]
                .map(|file| format!("checkpoint-{step}/{file}"))
        })) {
            let read = |folder: &Path| std::fs::read(folder.join(&file)).unwrap();
            assert!(read(whole.path()) == read(killed.path()), "{case}: {file}");
        }
    }
    assert!(kills > 0);
}
