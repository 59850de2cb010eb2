//! AI feedback: preference pairs from the policy's own samples (section 4 of the paper).

use std::collections::BTreeMap;
use std::path::Path;

use cai_data::constitution::{Constitution, Principle};
use cai_data::record::{Message, PreferencePair};
use cai_data::refusal::is_refusal;
use cai_data::seed::Seed;
use cai_data::{atomic, jsonl};
use cai_model::model::LanguageModel;
use cai_train::Progress;
use serde_json::json;

use crate::blocks::{Work, run_name, work_through};
use crate::clean::{self, Rule};
use crate::judge::{Question, draw, prefer};
use crate::reply::{replies, usable};
use crate::{
    Comparison, CritiquePrompt, Error, FEEDBACK, FEEDBACK_PAIRS, FeedbackConfig, FeedbackRecord,
    FeedbackReport, Result, Sample,
};

/// Lets `policy` answer each prompt several times and `judge` compare the answers, and writes the
/// records ([`FEEDBACK`]), the pairs ([`FEEDBACK_PAIRS`]), `feedback_report.json` and
/// `feedback_report.md` into `dir`. Run again after an interruption, it resumes; with other inputs,
/// it starts again.
///
/// Every two samples that differ are compared under `principles_per_pair` principles, each in both
/// orders, and the probabilities are averaged.
///
/// # Errors
///
/// Bad settings, no prompt left ([`Error::NothingLeft`]), an id used twice, a request to stop
/// ([`Error::Interrupted`]), and those of the models and files.
pub fn run_feedback(
    policy: &LanguageModel,
    judge: &LanguageModel,
    constitution: &Constitution,
    prompts: &[CritiquePrompt],
    config: &FeedbackConfig,
    dir: &Path,
) -> Result<FeedbackReport> {
    config.check()?;
    if constitution.principles.is_empty() {
        return Err(Error::NoPrinciple { name: constitution.name.clone() });
    }
    let (usable, left_out) = usable(policy, prompts, &config.sampling)?;
    let inputs = json!({
        "stage": "feedback",
        "policy": policy.fingerprint,
        "judge": judge.fingerprint,
        "constitution": constitution,
        "prompts": usable,
        "config": config.of_records(),
    });
    let stage = Stage { policy, judge, constitution, config, run: &run_name(&inputs) };
    let work = Work {
        path: dir.join(FEEDBACK),
        label: "AI feedback",
        run: stage.run.to_owned(),
        block: config.batch_size,
        units: (config.samples + pairs_of(config.samples).count() * stage.questions()) as u64,
    };
    let records = work_through(&work, &usable, |block, progress| stage.records(block, progress))?;

    let (pairs, dropped) = feedback_pairs(&records, config);
    jsonl::write(&dir.join(FEEDBACK_PAIRS), &pairs)?;
    let report = FeedbackReport::new(&records, &pairs, dropped, prompts.len(), left_out);
    atomic::write_json(&dir.join("feedback_report.json"), &report)?;
    atomic::write(&dir.join("feedback_report.md"), report.markdown().as_bytes())?;
    Ok(report)
}

/// The preference pairs of records, and how many comparisons gave none, by reason: those of
/// [`Comparison::dropped`], and `undecided` for a confidence below `min_confidence` or exactly 0.
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
    if confidence == 0.0 || confidence < config.min_confidence {
        return Err("undecided");
    }
    let mean = |of: &dyn Fn(&crate::Judgement) -> f64| {
        let judgements = &comparison.judgements;
        judgements.iter().map(of).sum::<f64>() / judgements.len() as f64
    };
    let (p_ab, p_ba) = (mean(&|j| j.p_ab), mean(&|j| j.p_ba));
    let (first_wins, samples) = (first > 0.5, [comparison.first, comparison.second]);
    let [chosen, rejected] = if first_wins { samples } else { [samples[1], samples[0]] };
    // Shown as (A), the second sample stands in the order in which the first is (B).
    let (p_ab, p_ba) = if first_wins { (p_ab, p_ba) } else { (1.0 - p_ba, 1.0 - p_ab) };
    let [low, high] = config.clamp.unwrap_or([0.0, 1.0]);

    let answer = |i: usize| vec![Message::assistant(&record.samples[i].text)];
    let mut pair = PreferencePair::new(record.prompt.clone(), answer(chosen), answer(rejected));
    pair.chosen_probability = Some(first.max(1.0 - first).clamp(low, high));
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
    policy: &'a LanguageModel,
    judge: &'a LanguageModel,
    constitution: &'a Constitution,
    config: &'a FeedbackConfig,
    run: &'a str,
}

impl Stage<'_> {
    /// Questions that one comparison takes: both orders under each principle.
    fn questions(&self) -> usize {
        2 * self.config.principles_per_pair.min(self.constitution.principles.len())
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
        let (mut dialogues, mut seeds) = (Vec::new(), Vec::new());
        for prompt in prompts {
            for sample in 0..self.config.samples {
                dialogues.push(Some(prompt.prompt.clone()));
                seeds.push(self.seed(&prompt.id).derive("sample").index(sample as u64));
            }
        }
        let (sampling, size) = (&self.config.sampling, self.config.batch_size);
        let replies = replies(self.policy, &dialogues, sampling, &seeds, size, progress)?;
        let samples = replies.into_iter().map(|reply| match reply {
            Some(reply) => Sample {
                refused: is_refusal(&reply.text),
                cleaning: clean::answer(&reply),
                text: reply.text,
            },
            None => Sample { text: String::new(), refused: false, cleaning: vec![Rule::NoRoom] },
        });
        let samples: Vec<Sample> = samples.collect();
        let record = |(prompt, samples): (&CritiquePrompt, &[Sample])| FeedbackRecord {
            id: prompt.id.clone(),
            prompt: prompt.prompt.clone(),
            samples: samples.to_vec(),
            comparisons: pairs_of(samples.len()).map(|pair| comparison(samples, pair)).collect(),
            seed: self.config.seed,
            policy: self.policy.fingerprint.clone(),
            judge: self.judge.fingerprint.clone(),
            run: self.run.to_owned(),
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
                    Some(_) => progress.advance(self.questions() as u64),
                    None => to_make.push((i, j, self.draw(seed.index(j as u64)))),
                }
            }
        }
        let mut questions = Vec::new();
        for (i, j, principles) in &to_make {
            let (record, comparison) = (&records[*i], &records[*i].comparisons[*j]);
            questions.extend(principles.iter().map(|principle| Question {
                prompt: &record.prompt,
                principle,
                first: &record.samples[comparison.first].text,
                second: &record.samples[comparison.second].text,
            }));
        }
        let on_done = &mut |done| progress.advance(done as u64);
        let judgements = prefer(self.judge, &questions, self.config.batch_size, on_done)?;

        let mut judgements = judgements.into_iter();
        for (i, j, principles) in &to_make {
            let judged: Option<Vec<_>> = judgements.by_ref().take(principles.len()).collect();
            let comparison = &mut records[*i].comparisons[*j];
            match judged {
                Some(judged) => comparison.judgements = judged,
                None => comparison.dropped = Some("no_room".into()),
            }
        }
        Ok(())
    }

    fn draw(&self, seed: Seed) -> Vec<Principle> {
        draw(self.constitution, self.config.principles_per_pair, seed)
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
    use crate::Judgement;

    fn record(p_ab: f64, p_ba: f64) -> FeedbackRecord {
        let sample = |text: &str| Sample { text: text.into(), refused: false, cleaning: vec![] };
        let judgement = |p_ab, p_ba| Judgement { principle: "danger".into(), p_ab, p_ba };
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
    }
}
