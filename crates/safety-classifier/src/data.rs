//! Labelled texts: reading them, leaving out what cannot be learnt from, and splitting.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use cai_data::jsonl::Reader;
use cai_data::record::LabelledText;
use cai_data::seed::Seed;
use cai_data::text::normalise;
use serde::{Deserialize, Serialize};

use crate::config::{ClassifierConfig, Task};
use crate::error::{Error, Result};
use crate::{identity, near, written};

/// Stands between the labels of a text that has several.
pub const SEPARATOR: &str = "|";

/// A text with its classes as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The text as it was given.
    pub text: String,
    /// Positions of its labels in the config's `labels`, ascending; one where labels exclude each
    /// other.
    pub classes: Vec<usize>,
    /// The group of people that it is about.
    pub group: Option<String>,
    /// Where it comes from (the record's field `source`).
    pub source: Option<String>,
    /// How much it counts in losses and in its class's share of the texts: 1, or less if it has copies.
    pub weight: f64,
}

/// Training and held-out texts.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Texts to train on, in the order given.
    pub train: Vec<Sample>,
    /// Texts to evaluate and calibrate on, in the order given.
    pub held_out: Vec<Sample>,
    /// What became of every record.
    pub counts: Counts,
}

/// What became of every record: `total` = `train` + `held_out` + all of `left_out`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records given.
    pub total: usize,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Training texts by label.
    pub train: BTreeMap<String, usize>,
    /// Held-out texts by label.
    pub held_out: BTreeMap<String, usize>,
    /// Training texts that are copies of others, about other people.
    #[serde(default)]
    pub copies: usize,
    /// Texts by source, then `train` or `held_out`, then label; empty if no record names a source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, BTreeMap<String, BTreeMap<String, usize>>>,
}

/// Reads labelled texts from a JSONL file (`.jsonl` or `.jsonl.gz`), in order.
///
/// # Errors
/// A malformed line, or a label that is not one of `labels`, with file and line.
pub fn read(path: &Path, labels: &[String]) -> Result<Vec<LabelledText>> {
    let mut records = Vec::new();
    for line in Reader::<LabelledText>::open(path)? {
        let line = line?;
        classes_of(&line.value.label, labels, || format!("{}:{}", path.display(), line.number))?;
        records.push(line.value);
    }
    Ok(records)
}

impl Dataset {
    /// Leaves out unusable and repeated texts and holds out a share of each class.
    ///
    /// Two texts are the same if their normalised forms are (see [`normalise`]): of a repeated text
    /// the first record stays; a text found under two labels is left out altogether. Which texts
    /// are held out depends on the texts and the seed, not on their order.
    ///
    /// # Errors
    /// An unknown label, no usable record, nothing to hold out, or a class without a training text.
    pub fn new(records: &[LabelledText], config: &ClassifierConfig, seed: Seed) -> Result<Self> {
        let mut counts = Counts { total: records.len(), ..Counts::default() };
        let texts = distinct(records, config, &mut counts)?;
        if texts.is_empty() {
            let found = format!("{} records, left out {:?}", counts.total, counts.left_out);
            return Err(Error::NoRecords { purpose: "train on", found });
        }
        let held = held_out(&texts, config, seed);
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        for (text, held) in texts.into_iter().zip(held) {
            if held { &mut held_out } else { &mut train }.push(text.sample);
        }
        if held_out.is_empty() {
            let found = "no class has two different texts".into();
            return Err(Error::NoRecords { purpose: "hold out", found });
        }
        Self { train, held_out, counts }.checked(config)
    }

    /// Leaves out unusable and repeated training texts, and those that nearly occur among `valid`,
    /// which is held out as it is.
    ///
    /// # Errors
    /// An unknown label, no usable record, or a class without a training text.
    pub fn with_valid(
        records: &[LabelledText],
        valid: &[LabelledText],
        config: &ClassifierConfig,
    ) -> Result<Self> {
        let mut counts = Counts { total: records.len() + valid.len(), ..Counts::default() };
        let held_out = samples(valid, &config.labels, config.task)?;
        if held_out.is_empty() {
            let found = "the validation file holds no record".into();
            return Err(Error::NoRecords { purpose: "hold out", found });
        }
        let mut train = distinct(records, config, &mut counts)?;
        let texts: Vec<&str> = held_out.iter().map(|sample| sample.text.as_str()).collect();
        let texts: Vec<&str> =
            texts.into_iter().chain(train.iter().map(|text| text.sample.text.as_str())).collect();
        let clusters = near::clusters(&texts, config.near_duplicate);
        let before = train.len();
        let mut first = clusters[held_out.len()..].iter();
        train.retain(|_| first.next().is_none_or(|&first| first >= held_out.len()));
        if train.len() < before {
            counts.left_out.insert("nearly in the validation texts".into(), before - train.len());
        }
        let train = train.into_iter().map(|text| text.sample).collect();
        Self { train, held_out, counts }.checked(config)
    }

    /// The held-out texts as records.
    pub fn held_out_records(&self, labels: &[String]) -> Vec<LabelledText> {
        let record = |sample: &Sample| {
            let own: Vec<&str> =
                sample.classes.iter().map(|&class| labels[class].as_str()).collect();
            let mut record = LabelledText::new(sample.text.clone(), own.join(SEPARATOR));
            record.group = sample.group.clone();
            record.extra.extend(sample.source.clone().map(|s| ("source".to_string(), s.into())));
            record
        };
        self.held_out.iter().map(record).collect()
    }

    /// The dataset with the texts that `config.written` asks for among the training texts, but for
    /// those that already occur: texts of this project's own, and copies about other people.
    ///
    /// # Errors
    /// None that the config's checks let pass.
    pub fn with_written(mut self, config: &ClassifierConfig, seed: Seed) -> Result<Self> {
        let written = written::training_texts(config, seed);
        let known: HashSet<String> =
            self.train.iter().chain(&self.held_out).map(|sample| normalise(&sample.text)).collect();
        let is_new = |text: &str| !known.contains(&normalise(text));
        let new: Vec<LabelledText> =
            written.into_iter().filter(|text| is_new(&text.text)).collect();
        self.counts.total += new.len();
        let swaps = config.written.identity_swaps;
        let seed = seed.derive("identity swaps");
        let copies = copies_about_others(&mut self.train, swaps, seed, is_new);
        self.counts.total += copies.len();
        self.counts.copies = copies.len();
        self.train.extend(copies);
        self.train.extend(samples(&new, &config.labels, config.task)?);
        self.counted(config)
    }

    /// Counts what is there, and makes sure that every class can be learnt.
    fn checked(self, config: &ClassifierConfig) -> Result<Self> {
        require_all_classes(&self.train, config)?;
        let safe = config.safe_index()?;
        let both = |sample: &&Sample| sample.classes.len() > 1 && sample.classes.contains(&safe);
        if let Some(sample) = self.train.iter().chain(&self.held_out).find(both) {
            return Err(Error::SafeAndHarmful { text: sample.text.chars().take(60).collect() });
        }
        self.counted(config)
    }

    fn counted(mut self, config: &ClassifierConfig) -> Result<Self> {
        let Counts { train, held_out, sources, .. } = &mut self.counts;
        train.clear();
        held_out.clear();
        sources.clear();
        for (side, samples) in [("train", &self.train), ("held_out", &self.held_out)] {
            for sample in samples {
                for &class in &sample.classes {
                    let label = config.labels[class].clone();
                    let count = if side == "train" { &mut *train } else { &mut *held_out };
                    *count.entry(label.clone()).or_default() += 1;
                    if let Some(source) = &sample.source {
                        let sides = sources.entry(source.clone()).or_default();
                        *sides.entry(side.into()).or_default().entry(label).or_default() += 1;
                    }
                }
            }
        }
        Ok(self)
    }
}

/// `number` copies of each sample that names a term of identity, each with other terms; those that are
/// not new are left out. Together with its copies a sample counts as much as before: texts that name
/// people are more often hateful than others, and copies would make that more so.
fn copies_about_others(
    samples: &mut [Sample],
    number: usize,
    seed: Seed,
    is_new: impl Fn(&str) -> bool,
) -> Vec<Sample> {
    let copies = |(i, sample): (usize, &mut Sample)| {
        let seed = seed.index(i as u64);
        let copy = |copy| identity::with_drawn_terms(&sample.text, seed.index(copy as u64));
        let texts: Vec<String> = (0..number).map_while(copy).filter(|text| is_new(text)).collect();
        sample.weight /= (1 + texts.len()) as f64;
        let copy = |text| Sample { text, group: None, ..sample.clone() };
        texts.into_iter().map(copy).collect::<Vec<_>>()
    };
    samples.iter_mut().enumerate().flat_map(copies).collect()
}

/// Turns records into samples without leaving any out.
///
/// # Errors
/// An unknown label, or several where they exclude each other.
pub fn samples(records: &[LabelledText], labels: &[String], task: Task) -> Result<Vec<Sample>> {
    let sample = |(i, record): (usize, &LabelledText)| {
        let place = || format!("record {}", i + 1);
        let classes = classes_of(&record.label, labels, place)?;
        if task == Task::SingleLabel && classes.len() > 1 {
            return Err(Error::SeveralLabels { place: place(), label: record.label.clone() });
        }
        let source = record.extra.get("source").and_then(|source| source.as_str());
        let (text, group) = (record.text.clone(), record.group.clone());
        Ok(Sample { text, classes, group, source: source.map(Into::into), weight: 1.0 })
    };
    records.iter().enumerate().map(sample).collect()
}

struct Text {
    sample: Sample,
    normalised: String,
}

fn distinct(
    records: &[LabelledText],
    config: &ClassifierConfig,
    counts: &mut Counts,
) -> Result<Vec<Text>> {
    let mut texts: Vec<Text> = samples(records, &config.labels, config.task)?
        .into_iter()
        .map(|sample| Text { normalised: normalise(&sample.text), sample })
        .collect();
    let mut leave_out = |reason: &str, number: usize| {
        if number > 0 {
            *counts.left_out.entry(reason.into()).or_default() += number;
        }
    };

    let before = texts.len();
    texts.retain(|text| !text.normalised.is_empty());
    leave_out("no letters or digits", before - texts.len());

    // The classes of each text, or None where two records disagree.
    let mut classes: HashMap<String, Option<Vec<usize>>> = HashMap::new();
    for text in &texts {
        let own = &text.sample.classes;
        classes
            .entry(text.normalised.clone())
            .and_modify(|known| *known = known.take().filter(|known| known == own))
            .or_insert_with(|| Some(own.clone()));
    }
    let before = texts.len();
    texts.retain(|text| classes[&text.normalised].is_some());
    leave_out("same text under two labels", before - texts.len());

    let before = texts.len();
    texts.retain(|text| classes.remove(&text.normalised).is_some());
    leave_out("repeated text", before - texts.len());
    Ok(texts)
}

/// For each text whether it is held out: of every class the texts with the smallest hashes, each
/// with all its near-duplicates.
fn held_out(texts: &[Text], config: &ClassifierConfig, seed: Seed) -> Vec<bool> {
    let seed = seed.derive("held out");
    let raw: Vec<&str> = texts.iter().map(|text| text.sample.text.as_str()).collect();
    let clusters = near::clusters(&raw, config.near_duplicate);
    let mut members = vec![Vec::new(); texts.len()];
    for (i, &first) in clusters.iter().enumerate() {
        members[first].push(i);
    }
    // A cluster is known by its smallest hash, so that the order of the texts does not matter.
    let hash = |i: usize| seed.derive(&texts[i].normalised).0;
    let mut order: Vec<(u64, usize)> = members
        .iter()
        .enumerate()
        .filter_map(|(first, cluster)| Some((cluster.iter().map(|&i| hash(i)).min()?, first)))
        .collect();
    order.sort_unstable();

    let mut sizes = vec![0; config.labels.len()];
    // A text with several labels counts for the first of them.
    let class = |i: usize| texts[i].sample.classes[0];
    (0..texts.len()).for_each(|i| sizes[class(i)] += 1);
    let mut room: Vec<usize> =
        sizes.iter().map(|&size| held_out_of_class(size, config.held_out_fraction)).collect();
    let mut held = vec![false; texts.len()];
    for (_, first) in order {
        let mut wanted = vec![0; room.len()];
        members[first].iter().for_each(|&i| wanted[class(i)] += 1);
        if wanted.iter().zip(&room).all(|(wanted, room)| wanted <= room) {
            room.iter_mut().zip(wanted).for_each(|(room, wanted)| *room -= wanted);
            members[first].iter().for_each(|&i| held[i] = true);
        }
    }
    held
}

/// The rounded share, but at least one on each side where there are two texts.
fn held_out_of_class(number: usize, fraction: f64) -> usize {
    let share = (number as f64 * fraction).round() as usize;
    if number < 2 { 0 } else { share.clamp(1, number - 1) }
}

fn require_all_classes(train: &[Sample], config: &ClassifierConfig) -> Result<()> {
    let missing: Vec<&str> = config
        .labels
        .iter()
        .enumerate()
        .filter(|(class, _)| train.iter().all(|sample| !sample.classes.contains(class)))
        .map(|(_, label)| label.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingClass { labels: missing.join(", ") })
}

/// The classes that `label` names, ascending: one, or several with [`SEPARATOR`] between them.
pub(crate) fn classes_of(
    label: &str,
    labels: &[String],
    place: impl Fn() -> String,
) -> Result<Vec<usize>> {
    let class =
        |name: &str| {
            labels.iter().position(|label| label == name.trim()).ok_or_else(|| {
                Error::UnknownLabel { place: place(), label: name.into(), known: labels.join(", ") }
            })
        };
    let mut classes = label.split(SEPARATOR).map(class).collect::<Result<Vec<usize>>>()?;
    classes.sort_unstable();
    classes.dedup();
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_duplicates_stay_on_one_side() {
        let long = "a long text about the bread that my neighbour bakes on every Sunday, number";
        let mut texts = records(20);
        for i in 0..40 {
            let text = format!("{long} {}{}", i / 4, ["", "!", " ?", "..."][i % 4]);
            let tail = format!(" {}", i % 4);
            texts.push(LabelledText::new(text + &tail, "safe"));
        }
        let config = ClassifierConfig { near_duplicate: 0.8, ..config() };
        let data = Dataset::new(&texts, &config, Seed(1)).unwrap();
        let about_bread =
            |side: &[Sample]| side.iter().filter(|sample| sample.text.starts_with(long)).count();
        assert_eq!(about_bread(&data.train).min(about_bread(&data.held_out)), 0);

        let (valid, train) = texts.split_at(41);
        let data = Dataset::with_valid(train, valid, &config);
        assert!(data.unwrap_err().to_string().contains("no training text"));
        // "kind words 1" and "kind words 10" share 8 of 9 pieces.
        let config = ClassifierConfig { near_duplicate: 0.95, ..config };
        let all = Dataset::with_valid(&texts, &texts[..10], &config).unwrap();
        assert_eq!(all.counts.left_out["nearly in the validation texts"], 10);
    }

    fn config() -> ClassifierConfig {
        let labels = vec!["safe".into(), "toxic_content".into()];
        ClassifierConfig { labels, held_out_fraction: 0.25, ..Default::default() }
    }

    fn records(number: usize) -> Vec<LabelledText> {
        (0..number)
            .flat_map(|i| {
                let safe = LabelledText::new(format!("kind words {i}"), "safe");
                [safe, LabelledText::new(format!("rude words {i}"), "toxic_content")]
            })
            .collect()
    }

    #[test]
    fn every_record_is_accounted_for() {
        let mut records = records(8);
        records.push(LabelledText::new("Kind words: 3!", "safe"));
        records.push(LabelledText::new("kind words 4", "toxic_content"));
        records.push(LabelledText::new("?!", "safe"));
        let counts = Dataset::new(&records, &config(), Seed(1)).unwrap().counts;
        let reasons = ["no letters or digits", "repeated text", "same text under two labels"];
        let left_out: Vec<(&str, usize)> =
            counts.left_out.iter().map(|(reason, number)| (reason.as_str(), *number)).collect();
        assert_eq!(left_out, [(reasons[0], 1), (reasons[1], 1), (reasons[2], 2)]);
        let used: usize = counts.train.values().chain(counts.held_out.values()).sum();
        assert_eq!(used + 4, counts.total);
        assert_eq!(counts.held_out["toxic_content"], 2);
    }

    #[test]
    fn a_text_and_its_copies_count_as_one() {
        let mut records = records(8);
        records.extend((0..8).map(|i| LabelledText::new(format!("rude gay {i}"), "toxic_content")));
        // Held out as it is: no copy may say the same.
        let valid = [("rude blind 3", "toxic_content"), ("kind words 40", "safe")]
            .map(|(text, label)| LabelledText::new(text, label));
        let mut config = config();
        config.written.identity_swaps = 60;
        let data = Dataset::with_valid(&records, &valid, &config).unwrap();
        let data = data.with_written(&config, Seed(1)).unwrap();
        assert!(data.counts.copies > 300 && data.train.len() == records.len() + data.counts.copies);
        assert!(data.train.iter().all(|sample| sample.text != "rude blind 3"));
        for i in 0..8 {
            let ending = format!(" {i}");
            let about =
                |word: &&Sample| word.text.starts_with("rude") && word.text.ends_with(&ending);
            let weights: Vec<f64> =
                data.train.iter().filter(about).map(|sample| sample.weight).collect();
            // With the one that names nobody.
            assert!(
                (weights.iter().sum::<f64>() - 2.0).abs() < 1e-9 && weights.len() > 40,
                "{weights:?}"
            );
        }
    }

    #[test]
    fn the_split_does_not_depend_on_the_order() {
        let mut records = records(20);
        let held = |records: &[LabelledText]| {
            let mut texts: Vec<String> = Dataset::new(records, &config(), Seed(1))
                .unwrap()
                .held_out
                .into_iter()
                .map(|sample| sample.text)
                .collect();
            texts.sort();
            texts
        };
        let before = held(&records);
        records.reverse();
        assert_eq!(held(&records), before);
    }

    #[test]
    fn unusable_data_is_an_error_that_says_so() {
        let error = Dataset::new(&[], &config(), Seed(1)).unwrap_err();
        assert!(error.to_string().contains("no labelled texts to train on"), "{error}");
        let safe: Vec<_> = records(4).into_iter().filter(|record| record.label == "safe").collect();
        let error = Dataset::new(&safe, &config(), Seed(1)).unwrap_err();
        assert!(error.to_string().contains("toxic_content"), "{error}");
    }

    #[test]
    fn an_unknown_label_is_reported_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.jsonl");
        let lines = "{\"text\":\"a\",\"label\":\"safe\"}\n\n{\"text\":\"b\",\"label\":\"odd\"}\n";
        std::fs::write(&path, lines).unwrap();
        let error = read(&path, &config().labels).unwrap_err().to_string();
        assert!(error.contains("texts.jsonl:3") && error.contains("\"odd\""), "{error}");
    }
}
