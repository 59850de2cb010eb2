//! One prompt, step by step.

use super::common::{classifier, constitution, critique_config, model, prompts};
use cai_data::jsonl;
use critique_revision::{CRITIQUES, CritiqueConfig, CritiqueRecord, run, run_live};
use serde_json::Value;

#[test]
fn one_prompt_live_is_the_record_of_a_run_and_every_step_is_told() {
    let (_model, model) = model(1);
    let (_classifier, classifier) = classifier();
    let (constitution, prompts) = (constitution(), prompts(3));
    let config = CritiqueConfig { batch_size: 1, ..critique_config() };
    let dir = tempfile::tempdir().unwrap();
    run(&model, &constitution, Some(&classifier), &prompts, &config, dir.path()).unwrap();
    let records: Vec<CritiqueRecord> = jsonl::read(&dir.path().join(CRITIQUES)).unwrap();

    for (prompt, expected) in prompts.iter().zip(records) {
        let mut steps = Vec::new();
        let tell = &mut |step: critique_revision::Step| {
            steps.push(serde_json::to_value(&step).unwrap());
        };
        let record =
            run_live(&model, &constitution, Some(&classifier), prompt, &config, tell).unwrap();
        // A run is named by all its prompts.
        assert_eq!(CritiqueRecord { run: expected.run.clone(), ..record.clone() }, expected);

        let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
        let round = ["criticising", "criticised", "revising", "revised"];
        let rounds = vec![round; record.rounds.len()].concat();
        assert_eq!(names, [&["answering", "answered"], &rounds[..], &["finished"]].concat());
        assert_eq!(steps[1]["answer"]["text"], Value::from(record.initial.text.clone()));
        assert_eq!(steps[2]["principle"]["id"], Value::from(record.rounds[0].principle.clone()));
        assert_eq!(steps[5]["revised"], serde_json::to_value(&record.rounds[0]).unwrap());
    }
}
