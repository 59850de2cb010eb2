//! Stopping on request. In a file of its own, because the request is to the whole process.

#[path = "work/common.rs"]
mod common;

use cai_train::interrupt;
use common::{constitution, critique_config, files, leave_unfinished, model, prompts};
use critique_revision::{CRITIQUES, Error, run};

#[test]
fn an_interrupted_run_keeps_its_blocks_and_resumes() {
    let (_model, model) = model(1);
    let (constitution, prompts, config) = (constitution(), prompts(9), critique_config());
    let dir = tempfile::tempdir().unwrap();
    let run =
        |name: &str| run(&model, &constitution, None, &prompts, &config, &dir.path().join(name));
    run("whole").unwrap();
    let stopped = dir.path().join("stopped");
    leave_unfinished(&dir.path().join("whole").join(CRITIQUES), &stopped, 5, 9);

    interrupt::request();
    let error = run("stopped").unwrap_err();
    assert!(matches!(&error, Error::Interrupted { done: 4, total: 9, .. }), "{error}");
    assert!(error.to_string().contains("run the same command again"), "{error}");
    interrupt::clear();
    run("stopped").unwrap();
    assert!(files(&stopped) == files(&dir.path().join("whole")));
}
