//! The data stage on files: records of other people's making, each used or left out for a counted
//! reason.
//!
//! Beside the reasons that lie in the record itself (`cai_data::hh` lists them), a record is left out as
//! `repeated_prompt` if an earlier one asks the same, as `evaluation_prompt` if a turn of its prompt is
//! what models are evaluated on, and as `too_long`, `skipped`, `not_taken` or `over_limit` if the
//! settings say so.
//! Texts are compared without case and punctuation.

use std::{collections::HashSet, path::Path};

use anyhow::{Result, bail};
use cai_data::{
    dataset::{Policy, Usable},
    record::{Conversation, EvalPrompt, LabelledText, Message, PreferencePair, Prompt, Role},
    source::Source,
    split::prompt_key,
    text::normalise,
};
use critique_revision::CritiquePrompt;

use super::{
    Stage,
    data::{Report, SourceReport, save},
};
use crate::{
    config::{ClassifierStage, Config, FileData},
    input,
};

/// Writes the records of all stages into `dir`.
pub fn run(config: &Config, files: &FileData, dir: &Path, report: &mut Report) -> Result<()> {
    check_complete(config, files)?;
    let mut reading = Reading { config, files, report, evaluated: HashSet::new() };
    // First, because what is evaluated on is trained on by no stage.
    let evaluation = reading.evaluation()?;
    let pairs = reading.records("pairs", &files.pairs.0, &PAIRS)?;
    let helpful = match files.helpful.0.as_slice() {
        [] => pairs.iter().map(PreferencePair::chosen_conversation).collect(),
        sources => reading.records("helpful", sources, &CONVERSATIONS)?,
    };
    let red_team = reading.prompts("red_team", &files.red_team.0)?;
    let harmless = reading.prompts("harmless", &files.harmless.0)?;
    let labelled = reading.labelled()?;

    save(dir, "helpful", &helpful, report)?;
    save(dir, "sl_cai_helpful", &helpful, report)?;
    save(dir, "pairs", &pairs, report)?;
    save(dir, "red_team", &red_team, report)?;
    save(dir, "harmless", &harmless, report)?;
    save(dir, "labelled", &labelled, report)?;
    save(dir, "evaluation", &evaluation, report)
}

/// Every stage that runs has its records.
fn check_complete(config: &Config, files: &FileData) -> Result<()> {
    let trains_classifier = matches!(config.classifier, ClassifierStage::Train(_));
    let helpful = !files.helpful.0.is_empty() || !files.pairs.0.is_empty();
    let needs = [
        (Stage::Classifier, "labelled", !files.labelled.0.is_empty() || !trains_classifier),
        (Stage::Sft, "helpful", helpful),
        (Stage::Critique, "red_team", !files.red_team.0.is_empty()),
        (Stage::SlCai, "helpful", helpful),
        (Stage::Feedback, "red_team", !files.red_team.0.is_empty()),
        (Stage::Feedback, "harmless", !files.harmless.0.is_empty()),
        (Stage::Evaluate, "evaluation", !files.evaluation.0.is_empty()),
    ];
    for (stage, name, given) in needs {
        if !given && !config.skip.contains_key(&stage) {
            bail!("stage {stage} needs data.files.{name}: set it, or name the stage under skip");
        }
    }
    Ok(())
}

/// A kind of records: how they are read, and what they say.
struct Kind<T> {
    read: fn(&Source, &Path, &Policy) -> cai_data::Result<Usable<T>>,
    turns: fn(&T) -> &[Message],
    /// Whether records that ask the same are left out.
    once: bool,
}

const CONVERSATIONS: Kind<Conversation> =
    Kind { read: Source::conversations, turns: |record| &record.messages, once: true };
const PROMPTS: Kind<Prompt> =
    Kind { read: Source::prompts, turns: |record| &record.prompt, once: true };
const EVALUATION: Kind<EvalPrompt> =
    Kind { read: Source::evaluation, turns: |record| &record.prompt, once: true };
/// People compare several replies to one prompt.
const PAIRS: Kind<PreferencePair> =
    Kind { read: Source::pairs, turns: |record| &record.prompt, once: false };

/// The turns up to the last of the person.
fn prompt(turns: &[Message]) -> &[Message] {
    let end = turns.iter().rposition(|turn| turn.role == Role::User).map_or(0, |last| last + 1);
    &turns[..end]
}

/// Files that are being read.
struct Reading<'a> {
    config: &'a Config,
    files: &'a FileData,
    report: &'a mut Report,
    /// What models are evaluated on.
    evaluated: HashSet<String>,
}

impl Reading<'_> {
    /// The records of `data.files.NAME`.
    fn records<T>(&mut self, name: &str, sources: &[Source], kind: &Kind<T>) -> Result<Vec<T>> {
        let text = |record: &T| normalise(&prompt_key(prompt((kind.turns)(record))));
        let seed = self.config.data_seed().derive(name);
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        for source in sources {
            let file = input::file(&source.path)?.path;
            let mut usable = (kind.read)(source, &file, &self.files.policy())?;
            if kind.once {
                usable.leave_out("repeated_prompt", |record| !seen.insert(text(record)));
            }
            usable.leave_out("evaluation_prompt", |record| self.is_evaluated((kind.turns)(record)));
            source.leave_out_long(&mut usable, kind.turns);
            source.select(&mut usable, text, seed);
            let (mut place, limit) = (0.., self.files.limit.unwrap_or(usize::MAX));
            usable.leave_out("over_limit", |_| place.next().is_some_and(|at| at >= limit));
            all.extend(self.account(name, &source.path, usable)?);
        }
        Ok(all)
    }

    /// Counts what was read of a source.
    fn account<T>(&mut self, name: &str, path: &str, usable: Usable<T>) -> Result<Vec<T>> {
        let Usable { records, counts, total } = usable;
        let source = SourceReport {
            r#for: name.to_owned(),
            path: path.to_owned(),
            total,
            used: records.len(),
            left_out: counts,
        };
        if records.is_empty() {
            bail!(
                "data.files.{name}, {path}: {source}; take other records of it (skip, take, \
                 sample), or give another file"
            );
        }
        self.report.sources.push(source);
        Ok(records)
    }

    fn is_evaluated(&self, turns: &[Message]) -> bool {
        let asked = turns.iter().filter(|message| message.role == Role::User);
        asked.map(|message| normalise(&message.content)).any(|text| self.evaluated.contains(&text))
    }

    /// Evaluation prompts, whose requests are then known to the rest.
    fn evaluation(&mut self) -> Result<Vec<EvalPrompt>> {
        let mut prompts = self.records("evaluation", &self.files.evaluation.0, &EVALUATION)?;
        let mut ids = HashSet::new();
        if !prompts.iter().all(|prompt| ids.insert(prompt.id.clone())) {
            // Files number their records each for itself.
            prompts.iter_mut().enumerate().for_each(|(i, p)| p.id = format!("{}-{}", i + 1, p.id));
        }
        let request = |prompt: &EvalPrompt| prompt.prompt.last().map(|m| normalise(&m.content));
        self.evaluated = prompts.iter().filter_map(request).collect();
        Ok(prompts)
    }

    /// Prompts for critique and feedback, numbered.
    fn prompts(&mut self, name: &str, sources: &[Source]) -> Result<Vec<CritiquePrompt>> {
        let prompts = self.records(name, sources, &PROMPTS)?;
        let number = |(i, Prompt { prompt, .. })| CritiquePrompt {
            id: format!("{name}-{i:06}"),
            prompt,
            extra: Default::default(),
        };
        Ok(prompts.into_iter().enumerate().map(number).collect())
    }

    /// Texts for the classifier, if it is trained.
    fn labelled(&mut self) -> Result<Vec<LabelledText>> {
        let ClassifierStage::Train(classifier) = &self.config.classifier else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for source in &self.files.labelled.0 {
            let records = source.read(&input::file(&source.path)?.path, &classifier.labels)?;
            let (mut place, limit) = (0.., self.files.limit.unwrap_or(usize::MAX));
            let total = records.len();
            let mut usable = Usable { records, counts: Default::default(), total };
            usable.leave_out("over_limit", |_| place.next().is_some_and(|at| at >= limit));
            all.extend(self.account("labelled", &source.path, usable)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::jsonl;
    use std::fs;

    /// A config whose files are in `dir`, after changes.
    fn config(dir: &Path, sets: &[&str]) -> Config {
        let yaml = r#"
name: test
seed: 1
model: none
constitution: none
skip: {feedback: none}
classifier: {from: elsewhere}
data:
  files:
    helpful: {path: DIR/instructions.json, prompt: instruction, completion: output, take: 2}
    red_team: {path: DIR/pairs.jsonl, turns: first}
    evaluation:
      - {path: DIR/goals.csv, prompt: Goal, category: {value: harmful}}
      - {path: DIR/instructions.json, prompt: instruction, reference: output, category: {value: harmless}, skip: 3}
"#;
        let path = dir.join("config.yaml");
        fs::write(&path, yaml.replace("DIR", &dir.display().to_string())).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        Config::read(&path, &sets).unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let instruction = |n: usize| {
            // The second asks what the first asks, in other letters.
            let text = if n == 1 { "NAME sea 0!".into() } else { format!("Name sea {n}.") };
            format!(r#"{{"instruction": "{text}", "output": "Sea {n}."}}"#)
        };
        let instructions: Vec<String> = (0..6).map(instruction).collect();
        let json = format!("[{}]", instructions.join(",\n"));
        fs::write(dir.path().join("instructions.json"), json).unwrap();
        fs::write(dir.path().join("goals.csv"), "id,Goal\n1,\"Hurt\nsomeone\"\n").unwrap();
        let pair = |request: &str| {
            let talk = format!("\\n\\nHuman: {request}\\n\\nAssistant: ");
            format!("{{\"chosen\": \"{talk}No.\", \"rejected\": \"{talk}Yes.\"}}\n")
        };
        let pairs: String = ["Pick a lock?", "hurt someone!", "pick a lock"].map(pair).concat();
        fs::write(dir.path().join("pairs.jsonl"), pairs).unwrap();
        dir
    }

    fn read(config: &Config, out: &Path) -> Result<Report> {
        let crate::config::DataConfig::Files(files) = &config.data else { unreachable!() };
        let mut report = Report::default();
        run(config, files, out, &mut report)?;
        Ok(report)
    }

    #[test]
    fn records_of_all_formats_are_used_or_counted_and_none_is_evaluated_and_trained_on() {
        let dir = folder();
        let out = dir.path().join("data");
        let report = read(&config(dir.path(), &[]), &out).unwrap();
        let evaluation: Vec<EvalPrompt> = jsonl::read(&out.join("evaluation.jsonl")).unwrap();
        let requests: Vec<&str> = evaluation.iter().map(|p| p.prompt[0].content.as_str()).collect();
        assert_eq!(requests, ["Hurt\nsomeone", "Name sea 4.", "Name sea 5."]);
        assert_eq!(evaluation[1].reference.as_deref(), Some("Sea 4."));
        let helpful: Vec<Conversation> = jsonl::read(&out.join("helpful.jsonl")).unwrap();
        let replies: Vec<&str> = helpful.iter().map(|c| c.messages[1].content.as_str()).collect();
        assert_eq!(replies, ["Sea 0.", "Sea 2."]);
        let red_team: Vec<CritiquePrompt> = jsonl::read(&out.join("red_team.jsonl")).unwrap();
        assert_eq!((red_team.len(), red_team[0].id.as_str()), (1, "red_team-000000"));
        let counts = |name: &str, reason: &str| {
            let of = report.sources.iter().rfind(|source| source.r#for == name).unwrap();
            assert_eq!(of.total, of.used + of.left_out.values().sum::<usize>());
            of.left_out[reason]
        };
        assert_eq!(counts("evaluation", "repeated_prompt"), 1);
        assert_eq!(counts("evaluation", "skipped"), 3);
        assert_eq!(counts("helpful", "evaluation_prompt"), 2);
        assert_eq!(counts("helpful", "not_taken"), 1);
        assert_eq!(counts("red_team", "evaluation_prompt"), 1);
        assert_eq!(counts("red_team", "repeated_prompt"), 1);
    }

    #[test]
    fn what_is_missing_is_named_before_anything_is_read() {
        let dir = folder();
        let out = dir.path().join("data");
        let refused = |sets: &[&str]| {
            let config = config(dir.path(), sets);
            format!("{:#}", read(&config, &out).unwrap_err())
        };
        let error = refused(&["data.files.red_team=[]"]);
        assert!(error.contains("stage critique needs data.files.red_team"), "{error}");
        let error = refused(&["data.files.evaluation.1.skip=0"]);
        assert!(
            error.contains("instructions.json: 0 of 6") && error.contains("5 evaluation_prompt"),
            "{error}"
        );
        let error = refused(&["data.files.helpful.prompt=question"]);
        assert!(error.contains("instructions.json:1: there is no column `question`"), "{error}");
        assert!(error.contains("instruction, output"), "{error}");
    }
}
