//! Answers, critiques and revisions (section 3 of the paper).

use std::path::{Path, PathBuf};

use cai_chat::{Answered, Ask, Reply, Unanswered};
use cai_data::constitution::{Constitution, Principle};
use cai_data::dialogue::{critique_prompt, direct_revision_prompt, revision_prompt};
use cai_data::jsonl;
use cai_data::record::Message;
use cai_data::refusal::is_refusal;
use cai_data::seed::Seed;
use cai_train::Progress;
use safety_classifier::SafetyClassifier;
use serde_json::json;

use crate::Models;
use crate::blocks::{Work, run_name, work_through};
use crate::clean::{self, Mended, Rule};
use crate::prompts::{CritiquePrompt, Prompts, Usable, usable};
use crate::report_files::write_critique_report;
use crate::shards::{Plan, Shard};
use crate::{
    Answer, CRITIQUE_PLAN, CRITIQUES, CritiqueConfig, CritiqueRecord, CritiqueReport, Error,
    Outcome, PrincipleChoice, REVISION_PAIRS, Result, Round, revision_pairs,
};

/// Lets the author of `models` (one model, or [`Models`]) answer `prompts`, and the critic criticise
/// the answers and revise them. Writes the records ([`CRITIQUES`]), the pairs of them
/// ([`REVISION_PAIRS`]), the plan ([`CRITIQUE_PLAN`]), and `report.json`, `report.md` and
/// `report.html` into `dir`. Run again after an interruption, it resumes; with other inputs, it
/// starts again.
///
/// Each round draws one principle of the constitution, from the run's seed, the prompt's id and the
/// round: neither order nor selection of the prompts matters to it. A revision that breaks a rule of
/// [`clean`] is recorded but not used: the answer before it stays.
///
/// # Errors
///
/// Bad settings, no prompt left ([`Error::NothingLeft`]), an id used twice, a request to stop
/// ([`Error::Interrupted`]), and those of models, classifier and files.
pub fn run<'a>(
    models: impl Into<Models<'a>>,
    constitution: &Constitution,
    classifier: Option<&SafetyClassifier>,
    prompts: impl Into<Prompts<'a>>,
    config: &CritiqueConfig,
    dir: &Path,
) -> Result<CritiqueReport> {
    let begun = begin(models.into(), constitution, classifier, &prompts.into(), config, dir)?;
    let records = begun.work(&begun.usable.prompts, dir.join(CRITIQUES))?;
    finish(dir, &begun.plan, &records)
}

/// Does one shard of what [`run`] does; returns its number of records. When all shards are there,
/// [`merge_critiques`] makes of them what [`run`] would have made.
///
/// # Errors
///
/// As [`run`].
pub fn run_shard<'a>(
    models: impl Into<Models<'a>>,
    constitution: &Constitution,
    classifier: Option<&SafetyClassifier>,
    prompts: impl Into<Prompts<'a>>,
    config: &CritiqueConfig,
    shard: Shard,
    dir: &Path,
) -> Result<usize> {
    let begun = begin(models.into(), constitution, classifier, &prompts.into(), config, dir)?;
    let prompts = shard.of_prompts(&begun.usable.prompts, config.batch_size);
    Ok(begun.work(&prompts, shard.path(dir, CRITIQUES))?.len())
}

/// Puts the shards together that are in `dir` and in the run folders `others` (of other machines).
///
/// # Errors
///
/// [`Error::Shards`] that names what is missing or of another run.
pub fn merge_critiques(dir: &Path, others: &[PathBuf]) -> Result<CritiqueReport> {
    let plan: Plan<CritiqueConfig> = Plan::read(&dir.join(CRITIQUE_PLAN))?;
    let records: Vec<CritiqueRecord> =
        plan.merged(CRITIQUES, plan.config.batch_size, dir, others)?;
    jsonl::write(&dir.join(CRITIQUES), &records)?;
    finish(dir, &plan, &records)
}

/// Makes pairs and report of the records in `dir` once more.
///
/// # Errors
///
/// Files that are missing or do not belong together.
pub fn report_critiques(dir: &Path) -> Result<CritiqueReport> {
    let plan: Plan<CritiqueConfig> = Plan::read(&dir.join(CRITIQUE_PLAN))?;
    let records = plan.records(&dir.join(CRITIQUES))?;
    finish(dir, &plan, &records)
}

fn finish(
    dir: &Path,
    plan: &Plan<CritiqueConfig>,
    records: &[CritiqueRecord],
) -> Result<CritiqueReport> {
    jsonl::write(&dir.join(REVISION_PAIRS), revision_pairs(records))?;
    let report = CritiqueReport::new(records, plan);
    write_critique_report(&report, dir)?;
    Ok(report)
}

/// A run under way.
struct Begun<'a> {
    stage: Stage<'a>,
    plan: Plan<CritiqueConfig>,
    usable: Usable,
}

/// Checks what a run is given, names it, and writes its plan.
fn begin<'a>(
    models: Models<'a>,
    constitution: &Constitution,
    classifier: Option<&'a SafetyClassifier>,
    prompts: &Prompts,
    config: &'a CritiqueConfig,
    dir: &Path,
) -> Result<Begun<'a>> {
    let (stage, usable) = Stage::new(models, constitution, classifier, prompts, config)?;
    let plan = Plan::new(&stage.run, &usable, config, &stage.constitution);
    plan.write(&dir.join(CRITIQUE_PLAN))?;
    Ok(Begun { stage, plan, usable })
}

impl Begun<'_> {
    fn work(&self, prompts: &[CritiquePrompt], path: PathBuf) -> Result<Vec<CritiqueRecord>> {
        let config = self.stage.config;
        let work = Work {
            path,
            label: "critique",
            run: self.stage.run.clone(),
            block: config.batch_size,
            units: 1 + 2 * config.rounds as u64,
        };
        work_through(&work, prompts, |block, progress| self.stage.records(block, progress))
    }
}

/// What works on prompts, and by what.
pub(crate) struct Stage<'a> {
    models: Models<'a>,
    constitution: Constitution,
    /// Turns that stand before critiques and revisions.
    examples: Vec<Message>,
    classifier: Option<&'a SafetyClassifier>,
    pub(crate) config: &'a CritiqueConfig,
    run: String,
}

/// What the classifier says of a text: P(harm) and the most probable label.
type Risk = Option<(f64, String)>;

impl<'a> Stage<'a> {
    /// Checks what a run is given, and names it. Gives the prompts that the author can answer, too.
    pub(crate) fn new(
        models: Models<'a>,
        constitution: &Constitution,
        classifier: Option<&'a SafetyClassifier>,
        prompts: &Prompts,
        config: &'a CritiqueConfig,
    ) -> Result<(Self, Usable)> {
        config.check()?;
        let constitution = constitution.only(Principle::criticises);
        if constitution.principles.is_empty() {
            let what = "a critique and a revision request";
            return Err(Error::NoPrinciple { name: constitution.name, what });
        }
        if config.few_shot > constitution.few_shot.len() {
            let reason = format!(
                "is {}, and the constitution {:?} has {} examples; write more or lower few_shot",
                config.few_shot,
                constitution.name,
                constitution.few_shot.len()
            );
            return Err(Error::Setting { key: "few_shot", reason });
        }
        let usable = usable(models.author, prompts, &config.initial)?;
        let run = run_name(&json!({
            "stage": "critique",
            "model": models.author.fingerprint(),
            "critic": models.critic.fingerprint(),
            "constitution": constitution,
            "classifier": classifier.map(SafetyClassifier::fingerprint),
            "prompts": usable.prompts,
            "config": config,
        }));
        let examples = constitution.few_shot[..config.few_shot].concat();
        Ok((Self { models, constitution, examples, classifier, config, run }, usable))
    }

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
    pub(crate) fn initial(
        &self,
        prompts: &[CritiquePrompt],
        progress: &mut Progress,
    ) -> Result<Vec<CritiqueRecord>> {
        let asks: Vec<Ask> = prompts
            .iter()
            .map(|prompt| Ask {
                dialogue: prompt.prompt.clone(),
                seed: self.seed(&prompt.id).derive("initial"),
            })
            .collect();
        let on_done = &mut |done| progress.advance(done as u64);
        let (author, size) = (self.models.author, self.config.batch_size);
        let replies = author.replies(&asks, &self.config.initial, size, on_done)?;
        let trimmed = |reply| Mended::new(reply).trimmed(self.config.on_truncation);
        let replies: Vec<Mended> = replies.into_iter().map(trimmed).collect();
        let risks = self.risks(&replies)?;
        let critic = self.models.critic.fingerprint();
        let records = prompts.iter().zip(replies).zip(risks).map(|((prompt, mended), risk)| {
            let Mended { reply, repairs, unrepaired } = mended;
            let text = text(&reply).to_owned();
            let (harm, risk) = risk.unzip();
            let cleaning = match &reply {
                Ok(reply) => clean::answer(reply, request(&prompt.prompt)),
                Err(why) => vec![(*why).into()],
            };
            CritiqueRecord {
                id: prompt.id.clone(),
                prompt: prompt.prompt.clone(),
                initial: Answer {
                    harm,
                    risk,
                    refused: is_refusal(&text),
                    cleaning,
                    text: text.clone(),
                    unrepaired,
                    repairs,
                },
                rounds: Vec::new(),
                final_revision: text,
                outcome: Outcome::Unchanged,
                seed: self.config.seed,
                model: author.fingerprint().to_owned(),
                critic: (critic != author.fingerprint()).then(|| critic.to_owned()),
                run: self.run.clone(),
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
        let principles: Vec<Principle> =
            open.iter().map(|&i| self.principle(&records[i], round).clone()).collect();
        let critiques = self.critiques(records, open, &principles, round, progress)?;
        self.revise(records, open, &principles, &critiques, round, progress)
    }

    /// Critiques of the answers in use, each by its principle.
    pub(crate) fn critiques(
        &self,
        records: &[CritiqueRecord],
        open: &[usize],
        principles: &[Principle],
        round: u64,
        progress: &mut Progress,
    ) -> Result<Vec<Answered<String>>> {
        if self.config.direct {
            progress.advance(open.len() as u64);
            return Ok(vec![Ok(String::new()); open.len()]);
        }
        let dialogues = open.iter().zip(principles).map(|(&i, principle)| {
            let (prompt, answer) = (&records[i].prompt, &records[i].final_revision);
            let request = &principle.critique_request;
            Ok(self.after_examples(critique_prompt(prompt, answer, request)))
        });
        let seed = |slot: usize| self.seed(&records[open[slot]].id).derive("critique").index(round);
        let replies = self.ask(dialogues.collect(), seed, &self.config.critique, progress)?;
        Ok(replies.into_iter().map(|reply| reply.map(|reply| reply.text)).collect())
    }

    /// Revises the answers in use after their critiques, and records the round.
    pub(crate) fn revise(
        &self,
        records: &mut [CritiqueRecord],
        open: &[usize],
        principles: &[Principle],
        critiques: &[Answered<String>],
        round: u64,
        progress: &mut Progress,
    ) -> Result<()> {
        let dialogues = open.iter().zip(principles).zip(critiques).map(|((&i, p), critique)| {
            let critique = critique.as_ref().map_err(|rule| *rule)?;
            let (prompt, answer) = (&records[i].prompt, &records[i].final_revision);
            let request = &p.revision_request;
            Ok(self.after_examples(if self.config.direct {
                direct_revision_prompt(prompt, answer, request)
            } else {
                revision_prompt(prompt, answer, &p.critique_request, critique, request)
            }))
        });
        let seed = |slot: usize| self.seed(&records[open[slot]].id).derive("revision").index(round);
        let revisions = self.ask(dialogues.collect(), seed, &self.config.revision, progress)?;

        let revisions: Vec<Mended> =
            revisions.into_iter().map(|reply| self.repaired(reply)).collect();
        let risks = self.risks(&revisions)?;
        for (slot, ((&i, risk), mended)) in open.iter().zip(risks).zip(revisions).enumerate() {
            let Mended { reply, repairs, unrepaired } = mended;
            let critique = critiques[slot].as_deref().unwrap_or_default();
            let record = &mut records[i];
            let cleaning = match &reply {
                Ok(reply) => {
                    let request = request(&record.prompt);
                    clean::revision(reply, request, &record.final_revision, critique)
                }
                Err(why) => vec![(*why).into()],
            };
            let revision = text(&reply).to_owned();
            if cleaning.is_empty() {
                record.final_revision = revision.clone();
            }
            let (harm, risk) = risk.unzip();
            record.rounds.push(Round {
                principle: principles[slot].id.clone(),
                category: principles[slot].category,
                critique: critique.to_owned(),
                refused: is_refusal(&revision),
                revision,
                unrepaired,
                repairs,
                harm,
                risk,
                cleaning,
            });
        }
        Ok(())
    }

    /// The critic's replies to the dialogues that there are; the other places keep why there is none.
    fn ask(
        &self,
        dialogues: Vec<Answered<Vec<Message>>>,
        seed: impl Fn(usize) -> Seed,
        sampling: &cai_model::generate::SamplingConfig,
        progress: &mut Progress,
    ) -> Result<Vec<Answered<Reply>>> {
        let mut asks = Vec::with_capacity(dialogues.len());
        let mut missing: Vec<Option<Unanswered>> = Vec::with_capacity(dialogues.len());
        for (i, dialogue) in dialogues.into_iter().enumerate() {
            missing.push(dialogue.as_ref().err().copied());
            asks.extend(dialogue.ok().map(|dialogue| Ask { dialogue, seed: seed(i) }));
        }
        progress.advance((missing.len() - asks.len()) as u64);
        let on_done = &mut |done| progress.advance(done as u64);
        let size = self.config.batch_size;
        let mut replies = self.models.critic.replies(&asks, sampling, size, on_done)?.into_iter();
        let place = |why: Option<Unanswered>| match why {
            Some(why) => Err(why),
            None => replies.next().unwrap_or(Err(Unanswered::NoAnswer)),
        };
        Ok(missing.into_iter().map(place).collect())
    }

    fn after_examples(&self, dialogue: Vec<Message>) -> Vec<Message> {
        [self.examples.clone(), dialogue].concat()
    }

    /// The revision, mended if it has to be.
    fn repaired(&self, reply: Answered<Reply>) -> Mended {
        let trimmed = Mended::new(reply).trimmed(self.config.on_truncation);
        if self.config.repair { trimmed.without_lead_in() } else { trimmed }
    }

    /// The principle of a round.
    pub(crate) fn principle(&self, record: &CritiqueRecord, round: u64) -> &Principle {
        let seed = self.seed(&record.id).index(round);
        let all = &self.constitution;
        let id = match self.config.principles {
            PrincipleChoice::Weighted => return all.sample(seed),
            PrincipleChoice::Uniform => {
                let mut even = all.clone();
                even.principles.iter_mut().for_each(|principle| principle.weight = 1.0);
                even.sample(seed).id.clone()
            }
            PrincipleChoice::Matched => {
                let risk = record.risk_in_use(record.rounds.len());
                let calls =
                    |p: &Principle| risk.is_some_and(|risk| p.risks.iter().any(|r| r == risk));
                let matched = all.only(calls);
                if matched.principles.is_empty() {
                    return all.sample(seed);
                }
                matched.sample(seed).id.clone()
            }
        };
        all.principles.iter().find(|principle| principle.id == id).unwrap_or(&all.principles[0])
    }

    /// Whether another round is to be run.
    pub(crate) fn is_open(&self, record: &CritiqueRecord) -> bool {
        // A dialogue that has no room now has none in the next round.
        let no_room =
            record.rounds.last().is_some_and(|round| round.cleaning.contains(&Rule::NoRoom));
        let passes = self.config.stop_when_safe && self.passes(record);
        !no_room && !passes
    }

    /// Whether the answer in use needs no further round.
    fn passes(&self, record: &CritiqueRecord) -> bool {
        let (_, refused) = record.in_use(record.rounds.len());
        self.is_safe(record) && (refused || !self.config.stop_needs_refusal)
    }

    /// Whether the classifier finds the answer in use safe.
    fn is_safe(&self, record: &CritiqueRecord) -> bool {
        let (harm, _) = record.in_use(record.rounds.len());
        harm.is_some_and(|harm| harm < self.config.safe_threshold)
    }

    pub(crate) fn outcome(&self, record: &CritiqueRecord) -> Outcome {
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
    /// What is no answer is not judged.
    fn risks(&self, replies: &[Mended]) -> Result<Vec<Risk>> {
        let Some(classifier) = self.classifier else {
            return Ok(vec![None; replies.len()]);
        };
        let texts: Vec<&str> = replies.iter().map(|mended| text(&mended.reply)).collect();
        let predictions = classifier.predict(&texts)?;
        let cut = predictions.iter().filter(|prediction| prediction.truncated).count();
        if cut > 0 {
            tracing::warn!(
                "{cut} of {} answers are longer than the classifier reads; their ends were not \
                 judged",
                texts.len()
            );
        }
        let risk = |(prediction, mended): (safety_classifier::Prediction, &Mended)| {
            mended.reply.is_ok().then_some((prediction.harm, prediction.label))
        };
        Ok(predictions.into_iter().zip(replies).map(risk).collect())
    }
}

fn text(reply: &Answered<Reply>) -> &str {
    reply.as_ref().map_or("", |reply| &reply.text)
}

/// What was asked for last.
pub(crate) fn request(prompt: &[Message]) -> &str {
    prompt.last().map_or("", |message| &message.content)
}
