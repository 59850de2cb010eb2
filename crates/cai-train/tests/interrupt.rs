//! Stopping on request. In a file of its own, because the request is to the whole process.

mod common;

use cai_train::{Error, interrupt, train};
use common::{Regression, args, model, run, weights};

#[test]
fn an_interrupted_run_is_saved_and_resumes() {
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (expected, _) = train(model(), &Regression::new(50), &args(), &run(whole.path())).unwrap();

    let mut objective = Regression::new(50);
    objective.interrupt_after = Some(13);
    let error = train(model(), &objective, &args(), &run(stopped.path())).unwrap_err();
    let Error::Interrupted { step, path } = &error else { panic!("{error}") };
    assert!(*step == 7 && path.join("trainer_state.json").exists(), "{error}");
    assert!(error.to_string().contains("run the same command again"), "{error}");

    interrupt::clear();
    let (resumed, report) =
        train(model(), &Regression::new(50), &args(), &run(stopped.path())).unwrap();
    assert_eq!((weights(&resumed), report.resumed_from), (weights(&expected), Some(7)));
    let names = |folder: &tempfile::TempDir| {
        cai_train::checkpoint::list(folder.path()).unwrap().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(&whole), names(&stopped));
}
