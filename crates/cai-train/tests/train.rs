//! The loop as a whole, on a linear regression.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::Module;
use cai_train::schedule::LrSchedulerType;
use cai_train::{Error, Objective, TrainArgs, train};
use common::{Regression, args, model, run, weights};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn it_learns_logs_and_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let args = TrainArgs {
        max_steps: -1,
        num_train_epochs: 30.0,
        eval_on_start: true,
        logging_first_step: true,
        learning_rate: 0.05,
        ..args()
    };
    let (trained, report) =
        train(model(), &Regression::new(41), &args, &run(folder.path())).unwrap();
    assert!(!trained.weight.val().is_autodiff());
    assert_eq!(weights(&trained).len(), 4);
    assert_eq!(trained.frozen.val().into_scalar::<f32>(), 2.0);
    // 41 examples: 11 micro-batches, 6 steps in each of 30 epochs.
    assert_eq!((report.steps, report.tokens, report.trainable_parameters), (180, 41 * 3 * 30, 4));
    assert!(report.last("eval_loss").unwrap() < 0.05 * report.first("eval_loss").unwrap());
    let first = &report.log_history[1];
    assert_eq!((first.step, first.metrics["learning_rate"]), (1, 0.0));
    assert_eq!(first.metrics["num_tokens"], 24.0);
    assert_eq!(first.metrics["mean_token_accuracy"], 0.5);
    assert_eq!(report.log_history.last().unwrap().epoch, 30.0);
    let lines = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), report.log_history.len());
    assert_eq!(fs::read_dir(folder.path().join("tensorboard")).unwrap().count(), 1);
}

#[test]
fn accumulation_does_not_change_the_step() {
    // One batch of 8, or the same examples as 4 batches of 2 with unequal weights.
    let trained = |size, accumulation, group_by_length| {
        let folder = tempfile::tempdir().unwrap();
        let args = TrainArgs {
            per_device_train_batch_size: size,
            gradient_accumulation_steps: accumulation,
            group_by_length,
            max_steps: 5,
            warmup_steps: 0,
            ..args()
        };
        // The noise depends on the micro-batch: large inputs drown it.
        let mut objective = Regression::new(8);
        objective.inputs.iter_mut().flatten().for_each(|x| *x *= 1e3);
        let (trained, report) = train(model(), &objective, &args, &run(folder.path())).unwrap();
        (weights(&trained), report.first("grad_norm").unwrap())
    };
    let (whole, norm) = trained(8, 1, true);
    let (parts, parts_norm) = trained(2, 4, false);
    assert!((norm / parts_norm - 1.0).abs() < 1e-5);
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-6, "{whole:?} {parts:?}");
    }
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let objective = Regression::new(50);
    let (straight, report) = train(model(), &objective, &args(), &run(whole.path())).unwrap();

    // Killed while saving at step 10: the checkpoint of step 5, later log lines and half a
    // checkpoint remain.
    let (_, _) = train(model(), &objective, &args(), &run(killed.path())).unwrap();
    fs::remove_dir_all(killed.path().join("checkpoint-10")).unwrap();
    fs::create_dir(killed.path().join(".checkpoint-10.tmp")).unwrap();
    let (resumed, resumed_report) =
        train(model(), &objective, &args(), &run(killed.path())).unwrap();

    assert_eq!(weights(&straight), weights(&resumed));
    assert_eq!((report.resumed_from, resumed_report.resumed_from), (None, Some(5)));
    assert_eq!(report.log_history, resumed_report.log_history);
    let names = ["checkpoint-5", "checkpoint-10"];
    for name in names {
        assert_eq!(files(&whole.path().join(name)), files(&killed.path().join(name)));
    }
    let metrics = |folder: &Path| fs::read(folder.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics(whole.path()), metrics(killed.path()));
    assert!(!killed.path().join(".checkpoint-10.tmp").exists());

    // A complete run gives its model back without a step.
    let calls = objective.calls.get();
    let (again, report) = train(model(), &objective, &args(), &run(killed.path())).unwrap();
    assert_eq!((weights(&again), report.steps), (weights(&straight), 10));
    assert_eq!(objective.calls.get(), calls);
}

#[test]
fn another_run_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let objective = Regression::new(20);
    train(model(), &objective, &args(), &run(folder.path())).unwrap();
    let other = TrainArgs { learning_rate: 0.5, logging_steps: 1, ..args() };
    let error = train(model(), &objective, &other, &run(folder.path())).unwrap_err().to_string();
    assert!(error.contains("learning_rate was 0.01 and is 0.5"), "{error}");
    assert!(!error.contains("logging_steps") && error.contains("delete the folder"), "{error}");
    let mut other = run(folder.path());
    other.fingerprint = "other".into();
    let error = train(model(), &objective, &args(), &other).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }));
}

#[test]
fn checkpoints_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let args = TrainArgs { save_steps: 2, save_total_limit: Some(2), ..args() };
    train(model(), &Regression::new(20), &args, &run(folder.path())).unwrap();
    let left = cai_train::checkpoint::list(folder.path()).unwrap();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [8, 10]);
}

#[test]
fn nan_stops_the_run_and_names_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let mut objective = Regression::new(60);
    objective.poison = Some(17);
    let args = TrainArgs { save_steps: 1, ..args() };
    let error = train(model(), &objective, &args, &run(folder.path())).unwrap_err();
    let Error::NotFinite { what, items, step, .. } = &error else { panic!("{error}") };
    assert!(what == "loss" && items.contains(&17), "{error}");
    assert_eq!(cai_train::checkpoint::list(folder.path()).unwrap().len(), step - 1);

    let mut objective = Regression::new(60);
    objective.inputs[3] = [1e30; 3];
    let folder = tempfile::tempdir().unwrap();
    assert!(train(model(), &objective, &args, &run(folder.path())).is_err());
}

#[test]
fn a_step_without_weight_is_found_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let mut objective = Regression::new(12);
    objective.weights.fill(0.0);
    let error = train(model(), &objective, &args(), &run(folder.path())).unwrap_err();
    assert!(matches!(error, Error::Weight { step: 1, .. }), "{error}");
    assert_eq!(objective.calls.get(), 0);
    let frozen = model().no_grad();
    let error = train(frozen, &Regression::new(12), &args(), &run(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NothingToTrain), "{error}");
    assert!(Regression::new(0).is_empty());
    let error = train(model(), &Regression::new(0), &args(), &run(folder.path())).unwrap_err();
    assert!(matches!(error, Error::NoExamples), "{error}");
}

#[test]
fn the_update_is_that_of_torch() {
    // Two steps of torch.optim.AdamW by hand, in f64, on one batch with a constant rate, decay on
    // the weight but not on the bias, and clipping to norm 1.
    let folder = tempfile::tempdir().unwrap();
    let (rate, decay, beta1, beta2, epsilon) = (0.02, 0.1, 0.8, 0.95, 1e-8);
    let args = TrainArgs {
        learning_rate: rate,
        lr_scheduler_type: LrSchedulerType::Constant,
        warmup_steps: 0,
        max_steps: 2,
        per_device_train_batch_size: 1,
        gradient_accumulation_steps: 1,
        weight_decay: decay,
        adam_beta1: beta1,
        adam_beta2: beta2,
        ..args()
    };
    let mut objective = Regression::new(1);
    objective.inputs = vec![[300.0, -200.0, 100.0]];
    let (trained, report) = train(model(), &objective, &args, &run(folder.path())).unwrap();

    let x = [300.0, -200.0, 100.0, 0.5];
    let mut w = [0.5, -0.25, 0.125, 0.1];
    let (mut m, mut v) = ([0.0; 4], [0.0; 4]);
    for t in 1..=2 {
        // y = 2 x w + b, so dy/dw = 2 x and, with the bias input written as 0.5, dy/db = 1.
        let error: f64 = (0..4).map(|i| 2.0 * x[i] * w[i]).sum::<f64>() - 200.0;
        let gradient: [f64; 4] = std::array::from_fn(|i| 2.0 * error * 2.0 * x[i]);
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        for i in 0..4 {
            let g = gradient[i] / (norm + 1e-6);
            w[i] *= if i < 3 { 1.0 - rate * decay } else { 1.0 };
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            let m_hat = m[i] / (1.0 - beta1.powi(t));
            let v_hat = v[i] / (1.0 - beta2.powi(t));
            w[i] -= rate * m_hat / (v_hat.sqrt() + epsilon);
        }
    }
    for (got, want) in weights(&trained).iter().zip(w) {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got} is not {want}");
    }
    assert!(report.last("grad_norm").unwrap() > 1.0);
}
