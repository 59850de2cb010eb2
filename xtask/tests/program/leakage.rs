//! No evaluation prompt is in any training set: in the files of `configs/mini.yaml`, as the pipeline
//! writes them, and in the pretraining data.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use cai_data::{
    constitution::Constitution,
    jsonl,
    record::{EvalPrompt, Message, PromptCategory, Role},
    seed::Seed,
    text::normalise,
    world::World,
};
use helpful_sft::pretrain::PretrainConfig;
use serde_json::{Map, Value};

use crate::common::{done, root, xtask};

fn user_turns(messages: &[Message]) -> impl Iterator<Item = String> {
    messages.iter().filter(|m| m.role == Role::User).map(|m| normalise(&m.content))
}

/// Every text of a record of whatever kind that could hold a prompt, normalised.
fn texts(record: &Map<String, Value>) -> Vec<String> {
    let mut texts: Vec<String> =
        record.get("text").and_then(Value::as_str).map(normalise).into_iter().collect();
    for key in ["messages", "prompt"] {
        if let Some(turns) = record.get(key) {
            let turns: Vec<Message> = serde_json::from_value(turns.clone()).unwrap();
            texts.extend(user_turns(&turns));
        }
    }
    texts
}

#[test]
fn no_evaluation_prompt_is_trained_on() {
    let runs = tempfile::tempdir().unwrap();
    let mut pipeline = xtask(["pipeline", "--config", "configs/mini.yaml", "--to", "data"]);
    done(pipeline.arg("--runs").arg(runs.path()));
    let data = runs.path().join("mini/data");

    let evaluation: Vec<EvalPrompt> = jsonl::read(&data.join("evaluation.jsonl")).unwrap();
    // The request itself: turns before it are small talk.
    let mut prompts: BTreeSet<String> =
        evaluation.iter().filter_map(|prompt| user_turns(&prompt.prompt).last()).collect();
    for file in ["test.jsonl", "extended.jsonl"] {
        let written: Vec<EvalPrompt> =
            jsonl::read(&root().join("configs/prompts").join(file)).unwrap();
        prompts.extend(written.iter().filter_map(|prompt| user_turns(&prompt.prompt).last()));
    }
    let topics: BTreeSet<&str> = evaluation.iter().filter_map(|p| p.topic.as_deref()).collect();
    let phrasings: BTreeSet<&str> =
        evaluation.iter().filter_map(|p| p.phrasing.as_deref()).collect();
    enough(&evaluation);

    for name in ["helpful", "sl_cai_helpful", "red_team", "harmless", "labelled"] {
        let records = read(&data, name);
        assert!(records.len() >= 400, "{name} has only {} records", records.len());
        for record in &records {
            let texts = texts(record);
            assert!(!texts.is_empty(), "{name}: a record without text: {record:?}");
            let found = texts.iter().find(|text| prompts.contains(*text));
            assert_eq!(found, None, "{name}.jsonl holds an evaluation prompt");
            // Labelled texts may be about any topic, but never in an evaluation wording.
            if name != "labelled" {
                let field = |key: &str| record[key].as_str().unwrap();
                assert!(!topics.contains(field("topic")), "{name}: topic {}", field("topic"));
                assert!(!phrasings.contains(field("phrasing")), "{name}: {}", field("phrasing"));
            }
        }
    }

    let constitution = Constitution::read(&root().join("configs/constitution.yaml")).unwrap();
    let text = std::fs::read_to_string(root().join("configs/pretrain.yaml")).unwrap();
    let config: PretrainConfig = serde_yaml::from_str(&text).unwrap();
    let (world, seed) = (World::new(), Seed(config.train.seed));
    let sets = [("train", config.records), ("tokenizer", config.tokenizer_records)];
    for (label, count) in sets {
        for record in world.pretrain(&constitution.principles, count, seed.derive(label)) {
            let found = user_turns(&record.messages).find(|text| prompts.contains(text));
            assert_eq!(found, None, "pretraining holds an evaluation prompt ({})", record.kind);
        }
    }
}

/// The evaluation is wide enough to say something.
fn enough(evaluation: &[EvalPrompt]) {
    assert!(evaluation.len() >= 300, "only {} evaluation prompts", evaluation.len());
    let mut categories: HashMap<PromptCategory, usize> = HashMap::new();
    for prompt in evaluation {
        *categories.entry(prompt.category).or_default() += 1;
        assert!(prompt.topic.is_some() && prompt.phrasing.is_some(), "{}", prompt.id);
    }
    assert_eq!(categories.len(), 3, "{categories:?}");
    assert!(categories.values().all(|&n| n >= 50), "{categories:?}");
}

fn read(data: &Path, name: &str) -> Vec<Map<String, Value>> {
    jsonl::read(&data.join(format!("{name}.jsonl"))).unwrap()
}
