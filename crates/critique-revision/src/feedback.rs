//! AI feedback: preference pairs from the policy's own samples (section 4 of the paper).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cai_chat::{Ask, ChatModel, Judgement, Question, Reasoning, prefer};
use cai_data::constitution::{Constitution, Principle};
use cai_data::jsonl;
use cai_data::record::{Message, PreferencePair};
use cai_data::refusal::is_refusal;
use cai_data::seed::Seed;
use cai_train::Progress;
use serde_json::json;

use crate::blocks::{Work, run_name, work_through};
use crate::clean::{self, Mended};
use crate::critique::request;
use crate::draw::draw;
use crate::prompts::{CritiquePrompt, Prompts, Usable, usable};
use crate::report_files::write_feedback_report;
use crate::shards::{Plan, Shard};
use crate::{
    Comparison, Error, FEEDBACK, FEEDBACK_PAIRS, FEEDBACK_PLAN, FeedbackConfig, FeedbackRecord,
    FeedbackReport, Result, Sample,
};

/// Lets `policy` answer each prompt several times and `judge` compare the answers, and writes the
/// records ([`FEEDBACK`]), the pairs ([`FEEDBACK_PAIRS`]), the plan ([`FEEDBACK_PLAN`]), and
/// `feedback_report.json`, `feedback_report.md` and `feedback_report.html` into `dir`. Run again
/// after an interruption, it resumes; with other inputs, it starts again.
///
/// Every two samples that differ are compared under `principles_per_pair` principles, each in both
/// orders, and the probabilities are averaged.
///
/// # Errors
///
/// Bad settings, no prompt left ([`Error::NothingLeft`]), an id used twice, a request to stop
/// ([`Error::Interrupted`]), and those of the models and files.
pub fn run_feedback<'a>(
    policy: &dyn ChatModel,
    judge: &dyn ChatModel,
    constitution: &Constitution,
    prompts: impl Into<Prompts<'a>>,
    config: &FeedbackConfig,
    dir: &Path,
) -> Result<FeedbackReport> {
    let begun = begin(policy, judge, constitution, &prompts.into(), config, dir)?;
    let records = begun.work(&begun.usable.prompts, dir.join(FEEDBACK))?;
    finish(dir, &begun.plan, &records)
}

/// Does one shard of what [`run_feedback`] does; returns its number of records. When all shards are
/// there, [`merge_feedback`] makes of them what [`run_feedback`] would have made.
///
/// # Errors
///
/// As [`run_feedback`].
pub fn run_feedback_shard<'a>(
    policy: &dyn ChatModel,
    judge: &dyn ChatModel,
    constitution: &Constitution,
    prompts: impl Into<Prompts<'a>>,
    config: &FeedbackConfig,
    shard: Shard,
    dir: &Path,
) -> Result<usize> {
    let begun = begin(policy, judge, constitution, &prompts.into(), config, dir)?;
    let prompts = shard.of_prompts(&begun.usable.prompts, config.batch_size);
    Ok(begun.work(&prompts, shard.path(dir, FEEDBACK))?.len())
}

/// Puts the shards together that are in `dir` and in the run folders `others` (of other machines).
///
/// # Errors
///
/// [`Error::Shards`] that names what is missing or of another run.
pub fn merge_feedback(dir: &Path, others: &[PathBuf]) -> Result<FeedbackReport> {
    let plan: Plan<FeedbackConfig> = Plan::read(&dir.join(FEEDBACK_PLAN))?;
    let records: Vec<FeedbackRecord> =
        plan.merged(FEEDBACK, plan.config.batch_size, dir, others)?;
    jsonl::write(&dir.join(FEEDBACK), &records)?;
    finish(dir, &plan, &records)
}

/// Makes pairs and report of the records in `dir` once more.
///
/// # Errors
///
/// Files that are missing or do not belong together.
pub fn report_feedback(dir: &Path) -> Result<FeedbackReport> {
    let plan: Plan<FeedbackConfig> = Plan::read(&dir.join(FEEDBACK_PLAN))?;
    let records = plan.records(&dir.join(FEEDBACK))?;
    finish(dir, &plan, &records)
}

fn finish(
    dir: &Path,
    plan: &Plan<FeedbackConfig>,
    records: &[FeedbackRecord],
) -> Result<FeedbackReport> {
    let (pairs, dropped) = feedback_pairs(records, &plan.config);
    jsonl::write(&dir.join(FEEDBACK_PAIRS), &pairs)?;
    let report = FeedbackReport::new(records, &pairs, dropped, plan);
    write_feedback_report(&report, dir)?;
    Ok(report)
}

/// A run under way.
struct Begun<'a> {
    stage: Stage<'a>,
    plan: Plan<FeedbackConfig>,
    usable: Usable,
}

/// Checks what a run is given, names it, and writes its plan.
fn begin<'a>(
    policy: &'a dyn ChatModel,
    judge: &'a dyn ChatModel,
    constitution: &Constitution,
    prompts: &Prompts,
    config: &'a FeedbackConfig,
    dir: &Path,
) -> Result<Begun<'a>> {
    config.check()?;
    let constitution = constitution.only(Principle::compares);
    if constitution.principles.is_empty() {
        let what = "a preference question";
        return Err(Error::NoPrinciple { name: constitution.name, what });
    }
    let usable = usable(policy, prompts, &config.sampling)?;
    let run = run_name(&json!({
        "stage": "feedback",
        "policy": policy.fingerprint(),
        "judge": judge.fingerprint(),
        "constitution": constitution,
        "prompts": usable.prompts,
        "config": config.of_records(),
    }));
    let plan = Plan::new(&run, &usable, config, &constitution);
    plan.write(&dir.join(FEEDBACK_PLAN))?;
    Ok(Begun { stage: Stage { policy, judge, constitution, config, run }, plan, usable })
}

impl Begun<'_> {
    fn work(&self, prompts: &[CritiquePrompt], path: PathBuf) -> Result<Vec<FeedbackRecord>> {
        let Stage { config, run, .. } = &self.stage;
        let questions = pairs_of(config.samples).count() * self.stage.steps();
        let work = Work {
            path,
            label: "AI feedback",
            run: run.clone(),
            block: config.batch_size,
            units: (config.samples + questions) as u64,
        };
        work_through(&work, prompts, |block, progress| self.stage.records(block, progress))
    }
}

/// The preference pairs of records, and how many comparisons gave none, by reason: those of
/// [`Comparison::dropped`], and `undecided` for a confidence below `min_confidence`, or exactly 0
/// unless ties are kept.
///
/// `chosen_probability` is clamped as the config says. Other fields: those of the prompt,
/// `source: "feedback"`, `id`, `principles`, and `p_ab`, `p_ba`: the probability (before clamping)
/// that the chosen sample is better when it is shown as (A) and when as (B).
pub fn feedback_pairs(
    records: &[FeedbackRecord],
    config: &FeedbackConfig,
) -> (Vec<PreferencePair>, BTreeMap<String, usize>) {
    let (mut pairs, mut dropped) = (Vec::new(), BTreeMap::<String, usize>::new());
    for record in records {
        for comparison in &record.comparisons {
            match pair(record, comparison, config) {
                Ok(pair) => pairs.push(pair),
                Err(reason) => *dropped.entry(reason.to_owned()).or_default() += 1,
            }
        }
    }
    (pairs, dropped)
}

fn pair<'a>(
    record: &FeedbackRecord,
    comparison: &'a Comparison,
    config: &FeedbackConfig,
) -> std::result::Result<PreferencePair, &'a str> {
    let dropped = comparison.dropped.as_deref().unwrap_or("undecided");
    let first = comparison.first_probability().ok_or(dropped)?;
    let confidence = (2.0 * first - 1.0).abs();
    let tie = confidence == 0.0 && !config.keep_ties;
    if tie || confidence < config.min_confidence {
        return Err("undecided");
    }
    let mean = |of: &dyn Fn(&Judgement) -> f64| {
        let judgements = &comparison.judgements;
        judgements.iter().map(of).sum::<f64>() / judgements.len() as f64
    };
    let (p_ab, p_ba) = (mean(&|j| j.p_ab), mean(&|j| j.p_ba));
    let (first_wins, samples) = (first >= 0.5, [comparison.first, comparison.second]);
    let [chosen, rejected] = if first_wins { samples } else { [samples[1], samples[0]] };
    // Shown as (A), the second sample stands in the order in which the first is (B).
    let (p_ab, p_ba) = if first_wins { (p_ab, p_ba) } else { (1.0 - p_ba, 1.0 - p_ab) };
    let [low, high] = config.bounds();
    let better = first.max(1.0 - first).clamp(low, high);

    let answer = |i: usize| vec![Message::assistant(&record.samples[i].text)];
    let mut pair = PreferencePair::new(record.prompt.clone(), answer(chosen), answer(rejected));
    pair.chosen_probability = Some(better);
    let principles: Vec<&str> =
        comparison.judgements.iter().map(|judgement| judgement.principle.as_str()).collect();
    pair.extra = record.extra.clone();
    pair.extra.extend([
        ("source".to_owned(), "feedback".into()),
        ("id".to_owned(), record.id.as_str().into()),
        ("p_ab".to_owned(), p_ab.into()),
        ("p_ba".to_owned(), p_ba.into()),
        ("principles".to_owned(), principles.into()),
    ]);
    Ok(pair)
}

/// Every two of `count` samples.
fn pairs_of(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |first| (first + 1..count).map(move |second| (first, second)))
}

struct Stage<'a> {
    policy: &'a dyn ChatModel,
    judge: &'a dyn ChatModel,
    constitution: Constitution,
    config: &'a FeedbackConfig,
    run: String,
}

impl Stage<'_> {
    /// Steps of the judge that one comparison takes: both orders under each principle, and as many
    /// again with reasoning.
    fn steps(&self) -> usize {
        let principles = self.config.principles_per_pair.min(self.constitution.principles.len());
        2 * principles * if self.config.chain_of_thought { 2 } else { 1 }
    }

    /// The records of one block.
    fn records(
        &self,
        prompts: &[CritiquePrompt],
        progress: &mut Progress,
    ) -> Result<Vec<FeedbackRecord>> {
        let mut records = self.sampled(prompts, progress)?;
        self.compare(&mut records, progress)?;
        Ok(records)
    }

    /// Records with samples, and with comparisons that are dropped or still to be made.
    fn sampled(
        &self,
        prompts: &[CritiquePrompt],
        progress: &mut Progress,
    ) -> Result<Vec<FeedbackRecord>> {
        let mut asks = Vec::new();
        for prompt in prompts {
            for sample in 0..self.config.samples {
                let seed = self.seed(&prompt.id).derive("sample").index(sample as u64);
                asks.push(Ask { dialogue: prompt.prompt.clone(), seed });
            }
        }
        let on_done = &mut |done| progress.advance(done as u64);
        let (sampling, size) = (&self.config.sampling, self.config.batch_size);
        let replies = self.policy.replies(&asks, sampling, size, on_done)?;
        let samples = replies.into_iter().zip(&asks).map(|(reply, ask)| {
            let Mended { reply, repairs, unrepaired } =
                Mended::new(reply).trimmed(self.config.on_truncation);
            let (text, cleaning) = match reply {
                Ok(reply) => {
                    let cleaning = clean::sample(&reply, request(&ask.dialogue));
                    (reply.text, cleaning)
                }
                Err(why) => (String::new(), vec![why.into()]),
            };
            Sample { refused: is_refusal(&text), cleaning, text, unrepaired, repairs }
        });
        let samples: Vec<Sample> = samples.collect();
        let record = |(prompt, samples): (&CritiquePrompt, &[Sample])| FeedbackRecord {
            id: prompt.id.clone(),
            prompt: prompt.prompt.clone(),
            samples: samples.to_vec(),
            comparisons: pairs_of(samples.len()).map(|pair| comparison(samples, pair)).collect(),
            seed: self.config.seed,
            policy: self.policy.fingerprint().to_owned(),
            judge: self.judge.fingerprint().to_owned(),
            run: self.run.clone(),
            extra: prompt.extra.clone(),
        };
        Ok(prompts.iter().zip(samples.chunks(self.config.samples)).map(record).collect())
    }

    /// Fills in the judgements of the comparisons that are to be made.
    fn compare(&self, records: &mut [FeedbackRecord], progress: &mut Progress) -> Result<()> {
        let mut to_make = Vec::new();
        for (i, record) in records.iter().enumerate() {
            let seed = self.seed(&record.id).derive("principles");
            for (j, comparison) in record.comparisons.iter().enumerate() {
                match comparison.dropped {
                    Some(_) => progress.advance(self.steps() as u64),
                    None => to_make.push((i, j, self.draw(seed.index(j as u64)))),
                }
            }
        }
        let mut questions = Vec::new();
        for (i, j, principles) in &to_make {
            let (record, comparison) = (&records[*i], &records[*i].comparisons[*j]);
            questions.extend(principles.iter().map(|principle| Question {
                prompt: &record.prompt,
                principle: &principle.id,
                question: &principle.preference_question,
                first: &record.samples[comparison.first].text,
                second: &record.samples[comparison.second].text,
            }));
        }
        let reasoning = self.config.chain_of_thought.then_some(Reasoning {
            sampling: &self.config.reasoning,
            seed: Seed(self.config.seed),
        });
        let on_done = &mut |done| progress.advance(done as u64);
        let judgements =
            prefer(self.judge, &questions, reasoning, self.config.batch_size, on_done)?;

        let mut judgements = judgements.into_iter();
        for (i, j, principles) in &to_make {
            // Every judgement is taken, so that the next comparison begins with its own.
            let judged: Vec<_> = judgements.by_ref().take(principles.len()).collect();
            let comparison = &mut records[*i].comparisons[*j];
            match judged.into_iter().collect::<std::result::Result<Vec<_>, _>>() {
                Ok(judged) => comparison.judgements = judged,
                Err(why) => comparison.dropped = Some(why.name().to_owned()),
            }
        }
        Ok(())
    }

    fn draw(&self, seed: Seed) -> Vec<Principle> {
        draw(&self.constitution, self.config.principles_per_pair, seed)
    }

    fn seed(&self, id: &str) -> Seed {
        Seed(self.config.seed).derive(id)
    }
}

fn comparison(samples: &[Sample], (first, second): (usize, usize)) -> Comparison {
    let (a, b) = (&samples[first], &samples[second]);
    let dropped = if !a.cleaning.is_empty() || !b.cleaning.is_empty() {
        Some("unclean".into())
    } else if a.text == b.text {
        Some("identical".into())
    } else {
        None
    };
    Comparison { first, second, dropped, judgements: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(p_ab: f64, p_ba: f64) -> FeedbackRecord {
        let sample = |text: &str| Sample {
            text: text.into(),
            refused: false,
            cleaning: vec![],
            unrepaired: None,
            repairs: vec![],
        };
        let judgement =
            |p_ab, p_ba| Judgement { principle: "danger".into(), p_ab, p_ba, reasoning: None };
        let samples = vec![sample("one"), sample("two"), sample("two")];
        let mut comparisons: Vec<Comparison> =
            pairs_of(3).map(|pair| comparison(&samples, pair)).collect();
        comparisons[0].judgements = vec![judgement(p_ab, p_ba), judgement(p_ab, p_ba)];
        comparisons[1].dropped = Some("no_room".into());
        FeedbackRecord {
            id: "1".into(),
            prompt: vec![Message::user("How?")],
            samples,
            comparisons,
            seed: 1,
            policy: "p".into(),
            judge: "j".into(),
            run: "r".into(),
            extra: Default::default(),
        }
    }

    #[test]
    fn the_better_sample_is_chosen_with_its_probability() {
        let config = FeedbackConfig::default();
        let (pairs, dropped) = feedback_pairs(&[record(0.9, 0.5), record(0.4, 0.2)], &config);
        assert_eq!(pairs[0].chosen, [Message::assistant("one")]);
        assert!((pairs[0].chosen_probability.unwrap() - 0.7).abs() < 1e-12);
        assert_eq!(pairs[1].chosen, [Message::assistant("two")]);
        assert!((pairs[1].chosen_probability.unwrap() - 0.7).abs() < 1e-12);
        // "two" as (A): first as (B) had 0.2.
        let share = |key: &str| pairs[1].extra[key].as_f64().unwrap();
        assert!((share("p_ab") - 0.8).abs() < 1e-12 && (share("p_ba") - 0.6).abs() < 1e-12);
        assert_eq!(dropped["identical"], 2);
        assert_eq!(dropped["no_room"], 2);
    }

    #[test]
    fn undecided_pairs_are_dropped_and_probabilities_clamped() {
        let config =
            FeedbackConfig { min_confidence: 0.3, clamp: Some([0.4, 0.6]), ..Default::default() };
        let records = [record(0.9, 0.5), record(0.6, 0.6), record(0.5, 0.5)];
        let (pairs, dropped) = feedback_pairs(&records, &config);
        assert_eq!((pairs.len(), dropped["undecided"]), (1, 2));
        assert_eq!(pairs[0].chosen_probability, Some(0.6));
        let (pairs, dropped) = feedback_pairs(&records, &FeedbackConfig::default());
        assert_eq!((pairs.len(), dropped["undecided"]), (2, 1));
        let kept = FeedbackConfig { keep_ties: true, ..Default::default() };
        let (pairs, dropped) = feedback_pairs(&records, &kept);
        assert_eq!((pairs.len(), dropped.get("undecided")), (3, None));
        assert_eq!(pairs[2].chosen_probability, Some(0.5));
        let probability = |config| feedback_pairs(&records, &config).0[0].chosen_probability;
        let reasoned = FeedbackConfig { chain_of_thought: true, ..Default::default() };
        assert_eq!(probability(reasoned), Some(0.6));
    }
}
