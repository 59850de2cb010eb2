//! Answers, critiques and revisions (section 3 of the paper).

use std::path::Path;

use cai_data::constitution::Constitution;
use cai_data::dialogue::{critique_prompt, revision_prompt};
use cai_data::record::Message;
use cai_data::refusal::is_refusal;
use cai_data::seed::Seed;
use cai_data::{atomic, jsonl};
use cai_model::model::LanguageModel;
use cai_train::Progress;
use safety_classifier::SafetyClassifier;
use serde_json::json;

use crate::blocks::{Work, run_name, work_through};
use crate::clean::{self, Rule};
use crate::reply::{Reply, replies, usable};
use crate::{
    Answer, CRITIQUES, CritiqueConfig, CritiquePrompt, CritiqueRecord, CritiqueReport, Error,
    Outcome, REVISION_PAIRS, Result, Round, revision_pairs,
};

/// Lets `model` answer `prompts`, criticise its answers and revise them, and writes the records
/// ([`CRITIQUES`]), the pairs of them ([`REVISION_PAIRS`]), `report.json` and `report.md` into
/// `dir`. Run again after an interruption, it resumes; with other inputs, it starts again.
///
/// Each round draws one principle of the constitution by weight, from the run's seed, the prompt's
/// id and the round: neither order nor selection of the prompts matters to it. A revision that
/// breaks a rule of [`clean`] is recorded but not used: the answer before it stays.
///
/// # Errors
///
/// Bad settings, no prompt left ([`Error::NothingLeft`]), an id used twice, a request to stop
/// ([`Error::Interrupted`]), and those of model, classifier and files.
pub fn run(
    model: &LanguageModel,
    constitution: &Constitution,
    classifier: Option<&SafetyClassifier>,
    prompts: &[CritiquePrompt],
    config: &CritiqueConfig,
    dir: &Path,
) -> Result<CritiqueReport> {
    config.check()?;
    if constitution.principles.is_empty() {
        return Err(Error::NoPrinciple { name: constitution.name.clone() });
    }
    let (usable, left_out) = usable(model, prompts, &config.initial)?;
    let inputs = json!({
        "stage": "critique",
        "model": model.fingerprint,
        "constitution": constitution,
        "classifier": classifier.map(SafetyClassifier::fingerprint),
        "prompts": usable,
        "config": config.of_records(),
    });
    let work = Work {
        path: dir.join(CRITIQUES),
        label: "critique",
        run: run_name(&inputs),
        block: config.batch_size,
        units: 1 + 2 * config.rounds as u64,
    };
    let stage = Stage { model, constitution, classifier, config, run: &work.run };
    let records = work_through(&work, &usable, |block, progress| stage.records(block, progress))?;

    jsonl::write(&dir.join(REVISION_PAIRS), revision_pairs(&records))?;
    let report = CritiqueReport::new(&records, constitution, config, prompts.len(), left_out);
    atomic::write_json(&dir.join("report.json"), &report)?;
    atomic::write(&dir.join("report.md"), report.markdown().as_bytes())?;
    Ok(report)
}

struct Stage<'a> {
    model: &'a LanguageModel,
    constitution: &'a Constitution,
    classifier: Option<&'a SafetyClassifier>,
    config: &'a CritiqueConfig,
    run: &'a str,
}

impl Stage<'_> {
    /// The records of one block.
    fn records(
        &self,
        prompts: &[CritiquePrompt],
        progress: &mut Progress,
    ) -> Result<Vec<CritiqueRecord>> {
        let mut records = self.initial(prompts, progress)?;
        for round in 0..self.config.rounds {
            let open: Vec<usize> =
                (0..records.len()).filter(|&i| self.is_open(&records[i])).collect();
            progress.advance(2 * (records.len() - open.len()) as u64);
            if !open.is_empty() {
                self.round(&mut records, &open, round as u64, progress)?;
            }
        }
        for record in &mut records {
            record.outcome = self.outcome(record);
        }
        Ok(records)
    }

    /// Records with an initial answer and no rounds.
    fn initial(
        &self,
        prompts: &[CritiquePrompt],
        progress: &mut Progress,
    ) -> Result<Vec<CritiqueRecord>> {
        let dialogues: Vec<_> = prompts.iter().map(|prompt| Some(prompt.prompt.clone())).collect();
        let seeds: Vec<Seed> = prompts.iter().map(|p| self.seed(&p.id).derive("initial")).collect();
        let size = self.config.batch_size;
        let replies =
            replies(self.model, &dialogues, &self.config.initial, &seeds, size, progress)?;
        let texts: Vec<&str> = replies.iter().map(text).collect();
        let harms = self.harms(&texts)?;
        let records = prompts.iter().zip(&replies).zip(harms).map(|((prompt, reply), harm)| {
            let text = text(reply).to_owned();
            CritiqueRecord {
                id: prompt.id.clone(),
                prompt: prompt.prompt.clone(),
                initial: Answer {
                    harm,
                    refused: is_refusal(&text),
                    cleaning: reply.as_ref().map_or(vec![Rule::NoRoom], clean::answer),
                    text: text.clone(),
                },
                rounds: Vec::new(),
                final_revision: text,
                outcome: Outcome::Unchanged,
                seed: self.config.seed,
                model: self.model.fingerprint.clone(),
                run: self.run.to_owned(),
                extra: prompt.extra.clone(),
            }
        });
        Ok(records.collect())
    }

    /// Criticises and revises the answers of the records at `open`.
    fn round(
        &self,
        records: &mut [CritiqueRecord],
        open: &[usize],
        round: u64,
        progress: &mut Progress,
    ) -> Result<()> {
        let at: Vec<&CritiqueRecord> = open.iter().map(|&i| &records[i]).collect();
        let seeds: Vec<Seed> = at.iter().map(|record| self.seed(&record.id)).collect();
        let seeds_of = |step: &str| -> Vec<Seed> {
            seeds.iter().map(|seed| seed.derive(step).index(round)).collect()
        };
        let principles: Vec<_> =
            seeds.iter().map(|seed| self.constitution.sample(seed.index(round))).collect();

        let dialogues: Vec<Option<Vec<Message>>> = at
            .iter()
            .zip(&principles)
            .map(|(record, principle)| {
                let (prompt, answer) = (&record.prompt, &record.final_revision);
                Some(critique_prompt(prompt, answer, &principle.critique_request))
            })
            .collect();
        let (sampling, size) = (&self.config.critique, self.config.batch_size);
        let critiques =
            replies(self.model, &dialogues, sampling, &seeds_of("critique"), size, progress)?;

        let dialogues: Vec<Option<Vec<Message>>> = at
            .iter()
            .zip(&principles)
            .zip(&critiques)
            .map(|((record, principle), critique)| {
                Some(revision_prompt(
                    &record.prompt,
                    &record.final_revision,
                    &principle.critique_request,
                    &critique.as_ref()?.text,
                    &principle.revision_request,
                ))
            })
            .collect();
        let sampling = &self.config.revision;
        let revisions =
            replies(self.model, &dialogues, sampling, &seeds_of("revision"), size, progress)?;

        let texts: Vec<&str> = revisions.iter().map(text).collect();
        let harms = self.harms(&texts)?;
        for (slot, &i) in open.iter().enumerate() {
            let (critique, revision) = (text(&critiques[slot]), texts[slot]);
            let record = &mut records[i];
            let cleaning = revisions[slot].as_ref().map_or(vec![Rule::NoRoom], |reply| {
                clean::revision(reply, &record.final_revision, critique)
            });
            if cleaning.is_empty() {
                record.final_revision = revision.to_owned();
            }
            record.rounds.push(Round {
                principle: principles[slot].id.clone(),
                category: principles[slot].category,
                critique: critique.to_owned(),
                revision: revision.to_owned(),
                harm: revisions[slot].as_ref().and(harms[slot]),
                refused: is_refusal(revision),
                cleaning,
            });
        }
        Ok(())
    }

    /// Whether another round is to be run.
    fn is_open(&self, record: &CritiqueRecord) -> bool {
        // A dialogue that has no room now has none in the next round.
        let no_room =
            record.rounds.last().is_some_and(|round| round.cleaning.contains(&Rule::NoRoom));
        let passes = self.config.stop_when_safe && self.is_safe(record);
        !no_room && !passes
    }

    /// Whether the classifier finds the answer in use safe.
    fn is_safe(&self, record: &CritiqueRecord) -> bool {
        let (harm, _) = record.in_use(record.rounds.len());
        harm.is_some_and(|harm| harm < self.config.safe_threshold)
    }

    fn outcome(&self, record: &CritiqueRecord) -> Outcome {
        if record.final_revision != record.initial.text {
            Outcome::Revised
        } else if self.is_safe(record) {
            Outcome::Safe
        } else {
            Outcome::Unchanged
        }
    }

    fn seed(&self, id: &str) -> Seed {
        Seed(self.config.seed).derive(id)
    }

    /// The classifier judges answers alone: a refusal must not be blamed for the request's words.
    fn harms(&self, texts: &[&str]) -> Result<Vec<Option<f64>>> {
        let Some(classifier) = self.classifier else {
            return Ok(vec![None; texts.len()]);
        };
        let predictions = classifier.predict(texts)?;
        let cut = predictions.iter().filter(|prediction| prediction.truncated).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} of {} answers are longer than the classifier reads; their ends were not \
                 judged",
                texts.len()
            );
        }
        Ok(predictions.into_iter().map(|prediction| Some(prediction.harm)).collect())
    }
}

fn text(reply: &Option<Reply>) -> &str {
    reply.as_ref().map_or("", |reply| &reply.text)
}
