//! Critique and revision of one prompt, each step told as it happens.

use cai_data::constitution::{Constitution, Principle};
use cai_train::{Progress, Verbosity};
use safety_classifier::SafetyClassifier;
use serde::Serialize;

use crate::critique::Stage;
use crate::{
    Answer, CritiqueConfig, CritiquePrompt, CritiqueRecord, Error, Models, Prompts, Result, Round,
};

/// What happens in [`run_live`], in order: the answer, then for each round a critique and a revision,
/// each when it begins and when it is there.
#[derive(Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step<'a> {
    /// The author begins to answer.
    Answering,
    /// The initial answer.
    Answered {
        /// With what is found about it.
        answer: &'a Answer,
    },
    /// A principle is drawn; the critic begins (or goes on to the revision at once, where
    /// [`CritiqueConfig::direct`] says so).
    Criticising {
        /// From 1.
        round: usize,
        /// The one of this round.
        principle: &'a Principle,
    },
    /// The critique.
    Criticised {
        /// Empty if there is none.
        critique: &'a str,
    },
    /// The critic begins to revise.
    Revising,
    /// The revision.
    Revised {
        /// With what is found about it.
        revised: &'a Round,
    },
    /// No round is left, or the answer is safe.
    Finished {
        /// What [`crate::run`] writes of such a prompt.
        record: &'a CritiqueRecord,
    },
}

/// Does for one prompt what [`crate::run`] does for many, without files: the same principles, seeds
/// and rules, and the same record (where `config.batch_size` is 1, to the last digit).
///
/// # Errors
///
/// Those of [`crate::run`].
pub fn run_live<'a>(
    models: impl Into<Models<'a>>,
    constitution: &Constitution,
    classifier: Option<&SafetyClassifier>,
    prompt: &CritiquePrompt,
    config: &CritiqueConfig,
    tell: &mut dyn FnMut(Step),
) -> Result<CritiqueRecord> {
    let prompts = Prompts::from(std::slice::from_ref(prompt));
    let (stage, usable) = Stage::new(models.into(), constitution, classifier, &prompts, config)?;
    let silent = &mut Progress::new("critique", 0, Verbosity::Quiet);

    tell(Step::Answering);
    let mut records = stage.initial(&usable.prompts, silent)?;
    tell(Step::Answered { answer: &records[0].initial });
    for round in 0..config.rounds {
        if !stage.is_open(&records[0]) {
            break;
        }
        let principles = [stage.principle(&records[0], round as u64).clone()];
        tell(Step::Criticising { round: round + 1, principle: &principles[0] });
        let critiques = stage.critiques(&records, &[0], &principles, round as u64, silent)?;
        tell(Step::Criticised { critique: critiques[0].as_deref().unwrap_or_default() });
        tell(Step::Revising);
        stage.revise(&mut records, &[0], &principles, &critiques, round as u64, silent)?;
        tell(Step::Revised { revised: &records[0].rounds[round] });
    }
    let mut record = records.pop().ok_or_else(|| Error::NoRevision { why: "no records".into() })?;
    record.outcome = stage.outcome(&record);
    tell(Step::Finished { record: &record });
    Ok(record)
}
