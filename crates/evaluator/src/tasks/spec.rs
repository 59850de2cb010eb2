//! A benchmark task as its file says it: where its records come from, and what of them is asked.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One task: a file of `configs/tasks/`.
///
/// Templates (`prompt`) and expressions (everything else that reads a record) are Jinja; a record's
/// columns or keys are their variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Its name in commands and results.
    pub task: String,
    /// What it measures, in a sentence.
    pub description: String,
    /// Where the records are published.
    pub source: String,
    /// Files of records, each a path or `hub:OWNER/NAME/FILE`; empty if the user has to name them.
    #[serde(default)]
    pub data: Vec<String>,
    /// Expression that is true of the records that count; all if absent.
    #[serde(default)]
    pub keep: Option<String>,
    /// Expression for a record's id; its number if absent.
    #[serde(default)]
    pub id: Option<String>,
    /// For tasks that ask for the likeliest of several completions.
    #[serde(default)]
    pub multiple_choice: Option<MultipleChoice>,
    /// For tasks that are prompts to answer, by `evaluate` or `redteam`.
    #[serde(default)]
    pub prompt_set: Option<PromptSet>,
}

/// The likeliest of several completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultipleChoice {
    /// How prompt and choices become tokens.
    #[serde(default)]
    pub form: Form,
    /// Template of what stands before the choices; not with the form `transcript`.
    #[serde(default)]
    pub prompt: String,
    /// Expression for the list of choices.
    pub choices: String,
    /// Stands between prompt and choice.
    #[serde(default)]
    pub separator: String,
    /// Expression for the right choice: its number from 0, or a list with 1 for each right one.
    pub target: String,
    /// What `acc_norm` divides log-probabilities by.
    #[serde(default)]
    pub normalise: Normalise,
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// Expression for a part of the task that is reported by itself.
    #[serde(default)]
    pub group: Option<String>,
    /// Expression that is the same for records that are not independent of each other.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Whom a stereotype is about; needed by the metrics of bias.
    #[serde(default)]
    pub bias: Option<Bias>,
}

/// How prompt and choices become tokens.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As they are, after the token that begins a text.
    #[default]
    Text,
    /// The prompt as a user's turn, the choice as the reply, by the model's chat template.
    Chat,
    /// Each choice is a whole conversation, "\n\nHuman: … \n\nAssistant: …", whose last turn is
    /// scored, by the model's chat template.
    Transcript,
}

/// What log-probabilities of choices of different length are divided by.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Nothing.
    None,
    /// The tokens of the choice.
    Token,
    /// The bytes of the choice, which no tokenizer changes.
    #[default]
    Byte,
}

/// The groups of BBQ (Parrish et al. 2022), from which its bias scores follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bias {
    /// Expression: whether the context leaves the answer open.
    pub ambiguous: String,
    /// Expression: whether the question asks for the target of the stereotype, not for the others.
    pub negative: String,
    /// Expression for the list of groups that the stereotype is about.
    pub groups: String,
    /// Expression for the list of names of the group that each choice is about; one of them is
    /// `unknown` for the choice that leaves the answer open.
    pub answers: String,
}

/// What is measured. All are means over records.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Whether the likeliest choice is right.
    Acc,
    /// The same by normalised log-probability.
    AccNorm,
    /// TruthfulQA's MC1: `acc` where one choice is right.
    Mc1,
    /// TruthfulQA's MC2: the share of the right choices in the probability of all.
    Mc2,
    /// BBQ: `acc` where the context leaves the answer open.
    AccAmbiguous,
    /// BBQ: `acc` where the context gives the answer.
    AccDisambiguated,
    /// BBQ's s_AMB, from −1 to 1: 0 if open answers are left open, or wrong both ways equally often.
    BiasAmbiguous,
    /// BBQ's s_DIS, from −1 to 1: 0 if answers that name a group follow and defy the stereotype equally
    /// often.
    BiasDisambiguated,
}

impl Metric {
    /// The name in files.
    pub fn key(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::Mc1 => "mc1",
            Metric::Mc2 => "mc2",
            Metric::AccAmbiguous => "acc_ambiguous",
            Metric::AccDisambiguated => "acc_disambiguated",
            Metric::BiasAmbiguous => "bias_ambiguous",
            Metric::BiasDisambiguated => "bias_disambiguated",
        }
    }

    fn needs_bias(self) -> bool {
        use Metric::{AccAmbiguous, AccDisambiguated, BiasAmbiguous, BiasDisambiguated};
        matches!(self, AccAmbiguous | AccDisambiguated | BiasAmbiguous | BiasDisambiguated)
    }
}

/// Prompts to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSet {
    /// Template of the user's turn.
    pub prompt: String,
    /// Expression for `harmful`, `borderline` or `harmless`.
    pub category: String,
    /// Expression for what the prompt is about.
    #[serde(default)]
    pub topic: Option<String>,
    /// Template of a good answer.
    #[serde(default)]
    pub reference: Option<String>,
}

impl TaskSpec {
    /// Reads and checks a task's file.
    ///
    /// # Errors
    /// [`Error::Data`] when it cannot be read, [`Error::Input`] with the key that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(cai_data::Error::read(path))?;
        let place = path.display().to_string();
        let spec: TaskSpec = serde_yaml::from_str(&text)
            .map_err(|error| Error::input(place.clone(), error.to_string()))?;
        spec.check().map_err(|reason| Error::input(place, reason))?;
        Ok(spec)
    }

    fn check(&self) -> std::result::Result<(), String> {
        crate::data::check_names([self.task.as_str()])
            .map_err(|_| format!("task: \"{}\" is no name for a folder", self.task))?;
        let choice = match (&self.multiple_choice, &self.prompt_set) {
            (Some(choice), None) => choice,
            (None, Some(_)) => return Ok(()),
            _ => return Err("give one of multiple_choice and prompt_set".into()),
        };
        if choice.metrics.is_empty() {
            return Err("multiple_choice.metrics: name at least one".into());
        }
        let needy = choice.metrics.iter().find(|metric| metric.needs_bias());
        if let (Some(metric), None) = (needy, &choice.bias) {
            return Err(format!("multiple_choice.metrics: {} needs bias", metric.key()));
        }
        if choice.form == Form::Transcript && !choice.prompt.is_empty() {
            return Err("multiple_choice.prompt: a transcript holds its own prompt".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<TaskSpec> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.yaml");
        std::fs::write(&path, format!("task: t\ndescription: d\nsource: s\n{rest}")).unwrap();
        TaskSpec::read(&path)
    }

    #[test]
    fn mistakes_in_a_task_name_their_key() {
        let choice =
            |rest: &str| read(&format!("multiple_choice:\n  choices: c\n  target: t\n{rest}"));
        assert!(choice("  metrics: [acc, mc2]\n").is_ok());
        for (result, word) in [
            (read(""), "prompt_set"),
            (choice("  metrics: []\n"), "metrics"),
            (choice("  metrics: [bias_ambiguous]\n"), "bias"),
            (choice("  metrics: [f1]\n"), "f1"),
            (choice("  metrics: [acc]\n  form: transcript\n  prompt: x\n"), "transcript"),
            (choice("  metrics: [acc]\n  choises: x\n"), "choises"),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(word) && message.contains("t.yaml"), "{message}");
        }
    }
}
