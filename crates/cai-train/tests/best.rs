//! When things happen, the best model, early stopping, and averaged parameters.

mod common;

use std::path::Path;

use cai_train::{Error, IntervalStrategy, TrainArgs, TrainReport, train};
use common::{Linear, Regression, args, model, run, weights};

fn trained(args: &TrainArgs, folder: &Path) -> (Linear, TrainReport) {
    train(model(), &Regression::new(20), args, &run(folder)).unwrap()
}

fn steps(folder: &Path) -> Vec<usize> {
    cai_train::checkpoint::list(folder).unwrap().into_keys().collect()
}

/// Steps whose log entry has `metric`.
fn logged(report: &TrainReport, metric: &str) -> Vec<usize> {
    let entries = report.log_history.iter();
    entries.filter(|entry| entry.metrics.contains_key(metric)).map(|entry| entry.step).collect()
}

/// A rate so high that the loss falls and then rises: the bias overshoots.
fn overshooting() -> TrainArgs {
    TrainArgs {
        learning_rate: 0.4,
        warmup_steps: 0,
        max_steps: 12,
        eval_steps: Some(1),
        save_steps: 5,
        ..args()
    }
}

#[test]
fn epochs_decide_when_asked() {
    // 20 examples in batches of 4 × 2: 3 steps in an epoch.
    let folder = tempfile::tempdir().unwrap();
    let epoch = IntervalStrategy::Epoch;
    let args =
        TrainArgs { logging_strategy: epoch, eval_strategy: epoch, save_strategy: epoch, ..args() };
    let (_, report) = trained(&args, folder.path());
    assert_eq!(logged(&report, "loss"), [3, 6, 9, 10]);
    assert_eq!(logged(&report, "eval_loss"), [3, 6, 9, 10]);
    assert_eq!(steps(folder.path()), [3, 6, 9, 10]);

    let folder = tempfile::tempdir().unwrap();
    let no = IntervalStrategy::No;
    let args = TrainArgs { logging_strategy: no, eval_strategy: no, save_strategy: no, ..args };
    let (_, report) = trained(&args, folder.path());
    assert_eq!((logged(&report, "loss"), steps(folder.path())), (vec![10], vec![10]));
    assert!(logged(&report, "eval_loss").is_empty());
}

#[test]
fn the_best_model_is_kept_and_returned() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        TrainArgs { load_best_model_at_end: true, save_total_limit: Some(1), ..overshooting() };
    let (best, report) = trained(&args, folder.path());
    let losses: Vec<f64> =
        report.log_history.iter().filter_map(|e| e.metrics.get("eval_loss").copied()).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let step = report.best_step.unwrap();
    assert!(lowest < *losses.last().unwrap(), "{losses:?}");
    assert_eq!(report.at(step, "eval_loss"), Some(lowest));
    assert_eq!(report.model_step, step);
    assert_eq!(steps(folder.path()), [step, 12]);

    // The same parameters as a run that ends there.
    let constant = cai_train::schedule::LrSchedulerType::Constant;
    let args = TrainArgs { lr_scheduler_type: constant, ..args };
    let folder = tempfile::tempdir().unwrap();
    let (best_constant, report) = trained(&args, folder.path());
    let short = TrainArgs {
        max_steps: report.model_step as i64,
        load_best_model_at_end: false,
        ..args.clone()
    };
    let (ends_there, _) = trained(&short, tempfile::tempdir().unwrap().path());
    assert_eq!(weights(&best_constant), weights(&ends_there));
    assert_ne!(weights(&best), weights(&best_constant));
    // Called again, the complete run gives the same model back.
    assert_eq!(weights(&trained(&args, folder.path()).0), weights(&best_constant));
}

#[test]
fn training_stops_when_it_no_longer_gets_better() {
    let folder = tempfile::tempdir().unwrap();
    let args = TrainArgs { early_stopping_patience: Some(2), max_steps: 40, ..overshooting() };
    let (stopped, report) = trained(&args, folder.path());
    assert!(report.stopped_early && report.steps < 40, "{}", report.steps);
    assert_eq!(report.steps, report.best_step.unwrap() + 2);
    assert!(steps(folder.path()).contains(&report.steps));
    assert_eq!(*logged(&report, "loss").last().unwrap(), report.steps);
    // It stays stopped.
    let (again, report_again) = trained(&args, folder.path());
    assert_eq!((weights(&again), report_again.steps), (weights(&stopped), report.steps));

    // What was compared when decides the result: other evaluations are another run.
    let other = TrainArgs { eval_steps: Some(3), ..args.clone() };
    let error = train(model(), &Regression::new(20), &other, &run(folder.path())).unwrap_err();
    assert!(error.to_string().contains("eval_steps was 1 and is 3"), "{error}");

    let threshold = TrainArgs { early_stopping_threshold: 1e9, ..args };
    let (_, report) = trained(&threshold, tempfile::tempdir().unwrap().path());
    assert_eq!(report.steps, 3);
}

#[test]
fn a_metric_that_is_not_measured_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let metric_for_best_model = Some("eval_accuracy".to_owned());
    let args = TrainArgs { metric_for_best_model, ..args() };
    let error = train(model(), &Regression::new(20), &args, &run(folder.path())).unwrap_err();
    let Error::Setting { key, .. } = &error else { panic!("{error}") };
    assert!(*key == "metric_for_best_model" && error.to_string().contains("use one of: eval_loss"));
}

#[test]
fn averages_are_those_of_the_formula() {
    let base = TrainArgs { max_steps: 3, eval_steps: Some(1), save_steps: 1, ..args() };
    // The parameters after each step, from runs' checkpoints.
    let folder = tempfile::tempdir().unwrap();
    trained(&base, folder.path());
    let mut average: Vec<f64> = weights(&model()).into_iter().map(f64::from).collect();
    for step in 1..=3 {
        let path = folder.path().join(format!("checkpoint-{step}"));
        let found = cai_train::checkpoint::Checkpoint::load(&path).unwrap().model;
        let values = found["weight"].iter::<f32>().chain(found["bias"].iter::<f32>());
        for (average, value) in average.iter_mut().zip(values) {
            *average = 0.8 * *average + 0.2 * f64::from(value);
        }
    }
    let args = TrainArgs { ema_decay: Some(0.8), ..base };
    let folder = tempfile::tempdir().unwrap();
    let (averaged, report) = trained(&args, folder.path());
    for (got, want) in weights(&averaged).iter().zip(&average) {
        assert!((f64::from(*got) - want).abs() < 1e-6, "{got} is not {want}");
    }
    // What is evaluated is what is returned.
    let expected = cai_train::Objective::evaluate(&Regression::new(20), &averaged).unwrap();
    assert_eq!(report.last("eval_loss"), expected.mean("loss"));
}
