//! Prints samples of the mini world and the average length of its records.
//!
//! `cargo run -p cai-data --example world`

use cai_data::constitution::Constitution;
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_data::world::{Split, World};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

fn main() -> cai_data::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let constitution = Constitution::read(&root.join("configs/constitution.yaml"))?;
    let world = World::new();
    println!(
        "{} topics, {} phrasings, {} training prompts, {} evaluation prompts",
        world.topics().len(),
        world.all_phrasings().len(),
        world.distinct_prompts(Split::Training),
        world.distinct_prompts(Split::Evaluation),
    );

    let mut samples: BTreeMap<String, Vec<Vec<Message>>> = BTreeMap::new();
    let mut vocabulary = HashSet::new();
    for record in world.pretrain(&constitution.principles, 20_000, Seed(1)) {
        for message in &record.messages {
            vocabulary.extend(message.content.split_whitespace().map(str::to_owned));
        }
        samples.entry(record.kind).or_default().push(record.messages);
    }
    for (kind, records) in &samples {
        let words: usize = records.iter().flatten().map(|m| words(&m.content)).sum();
        println!(
            "\n== {kind}: {} records of {:.1} words",
            records.len(),
            mean(words, records.len())
        );
        records.iter().take(8).for_each(|messages| print(messages));
    }
    println!("\n{} different words, with punctuation", vocabulary.len());

    println!("\n== helpful");
    world.helpful(6, Seed(1)).iter().for_each(|record| print(&record.messages));
    println!("\n== red team");
    world.red_team(6, Seed(1)).iter().for_each(|record| print(&record.prompt));
    println!("\n== harmless");
    world.harmless(6, Seed(1)).iter().for_each(|record| print(&record.prompt));
    println!("\n== labelled");
    for record in world.labelled(20, Seed(1)) {
        println!("{}: {} {:?}", record.label, record.text, record.group);
    }
    println!("\n== evaluation");
    for record in world.evaluation(1, Seed(1)).iter().step_by(4) {
        print(&record.prompt);
        println!("  ({:?}) {}", record.category, record.reference.as_deref().unwrap_or_default());
    }
    Ok(())
}

fn print(messages: &[Message]) {
    let turns: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    println!("- {}", turns.join("\n  | "));
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn mean(sum: usize, count: usize) -> f64 {
    sum as f64 / count as f64
}
