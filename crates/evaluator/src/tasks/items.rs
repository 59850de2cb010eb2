//! From records to items: what a task's file says of each.

use std::path::{Path, PathBuf};

use cai_data::hash;
use cai_data::record::{EvalPrompt, Message, PromptCategory};
use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use serde::Deserialize;

use super::spec::{Bias, MultipleChoice, PromptSet, TaskSpec};
use crate::error::{Error, Result};
use crate::rows::{Row, read_rows};

/// One question with its choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Unique in its task.
    pub id: String,
    /// What stands before the choices.
    pub prompt: String,
    /// The choices.
    pub choices: Vec<String>,
    /// Which of them are right; at least one.
    pub right: Vec<bool>,
    /// The part of the task that it belongs to.
    pub group: Option<String>,
    /// What it shares with records that are not independent of it.
    pub cluster: Option<String>,
    /// For metrics of bias.
    pub bias: Option<BiasItem>,
}

/// What a question has to do with a stereotype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BiasItem {
    /// Whether the context leaves the answer open.
    pub ambiguous: bool,
    /// What each choice says of the stereotype; `None` leaves the answer open.
    pub follows: Vec<Option<bool>>,
}

/// The records of a task.
#[derive(Clone, Debug, Default)]
pub struct Records {
    rows: Vec<(String, Row)>,
    /// Names the contents of all files.
    pub sha256: String,
}

impl Records {
    /// Reads all files of a task; records are named by file and number in errors.
    ///
    /// # Errors
    /// As [`read_rows`].
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut records = Records::default();
        let mut hashes = Vec::new();
        for file in files {
            hashes.push(hash::file(file)?);
            let place = |i: usize| format!("{}, record {}", file.display(), i + 1);
            let rows = read_rows(file)?;
            records.rows.extend(rows.into_iter().enumerate().map(|(i, row)| (place(i), row)));
        }
        records.sha256 = hash::bytes(hashes.join(" ").as_bytes());
        Ok(records)
    }
}

/// A task's expressions over one record.
struct Reading<'a> {
    environment: &'a Environment<'a>,
    place: &'a str,
    row: &'a Row,
}

impl Reading<'_> {
    fn error(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        Error::input(self.place, format!("{key}: {reason}"))
    }

    fn template(&self, key: &str, template: &str) -> Result<String> {
        self.environment.render_str(template, self.row).map_err(|error| self.error(key, error))
    }

    fn value(&self, key: &str, expression: &str) -> Result<Value> {
        let value = self
            .environment
            .compile_expression_owned(expression.to_owned())
            .and_then(|expression| expression.eval(self.row))
            .map_err(|error| self.error(key, format!("`{expression}`: {error}")))?;
        if value.is_undefined() || value.is_none() {
            return Err(self.error(key, format!("`{expression}` is nothing in this record")));
        }
        Ok(value)
    }

    fn text(&self, key: &str, expression: &str) -> Result<String> {
        Ok(self.value(key, expression)?.to_string())
    }

    fn optional(&self, key: &str, expression: &Option<String>) -> Result<Option<String>> {
        expression.as_ref().map(|expression| self.text(key, expression)).transpose()
    }

    fn list<T: for<'de> Deserialize<'de>>(&self, key: &str, expression: &str) -> Result<Vec<T>> {
        let value = self.value(key, expression)?;
        Vec::<T>::deserialize(value)
            .map_err(|error| self.error(key, format!("`{expression}` is no such list: {error}")))
    }

    fn is_true(&self, key: &str, expression: &str) -> Result<bool> {
        Ok(self.value(key, expression)?.is_true())
    }

    /// The right ones of `choices`: by number, or by a list of labels.
    fn right(&self, expression: &str, choices: usize) -> Result<Vec<bool>> {
        let value = self.value("target", expression)?;
        let labels: Vec<bool> = match Vec::<f64>::deserialize(value.clone()) {
            Ok(labels) => labels.into_iter().map(|label| label > 0.5).collect(),
            Err(_) => {
                let number: Option<usize> = value.to_string().trim().parse().ok();
                let number = number.ok_or_else(|| {
                    self.error(
                        "target",
                        format!("`{value}` is neither a number nor a list of labels"),
                    )
                })?;
                (0..choices.max(number + 1)).map(|i| i == number).collect()
            }
        };
        match labels.iter().filter(|right| **right).count() {
            _ if labels.len() != choices => {
                Err(self.error("target", format!("`{value}` does not fit {choices} choices")))
            }
            0 => Err(self.error("target", "no choice is right")),
            _ => Ok(labels),
        }
    }

    fn bias(&self, bias: &Bias) -> Result<BiasItem> {
        let negative = self.is_true("bias.negative", &bias.negative)?;
        let lower = |names: Vec<String>| -> Vec<String> {
            names.iter().map(|name| name.to_lowercase()).collect()
        };
        let groups = lower(self.list("bias.groups", &bias.groups)?);
        let answers: Vec<Vec<String>> = self.list("bias.answers", &bias.answers)?;
        let follows = |names: Vec<String>| {
            let names = lower(names);
            let open = names.iter().any(|name| name == "unknown");
            // The stereotype names its groups when asked for them, and the others when asked for others.
            (!open).then(|| names.iter().any(|name| groups.contains(name)) == negative)
        };
        let ambiguous = self.is_true("bias.ambiguous", &bias.ambiguous)?;
        Ok(BiasItem { ambiguous, follows: answers.into_iter().map(follows).collect() })
    }
}

impl TaskSpec {
    /// Does `make` for each record that counts.
    fn each<T>(
        &self,
        records: &Records,
        make: impl Fn(&Reading, String) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_keep_trailing_newline(true);
        let mut made = Vec::with_capacity(records.rows.len());
        for (i, (place, row)) in records.rows.iter().enumerate() {
            let reading = Reading { environment: &environment, place, row };
            let kept = self.keep.as_ref().map(|keep| reading.is_true("keep", keep)).transpose()?;
            if kept.unwrap_or(true) {
                let id = reading.optional("id", &self.id)?.unwrap_or_else(|| (i + 1).to_string());
                made.push(make(&reading, id)?);
            }
        }
        if made.is_empty() {
            let reason = "no record counts; check the file and `keep`";
            return Err(Error::input(format!("task {}", self.task), reason));
        }
        Ok(made)
    }

    /// The questions of a multiple-choice task.
    ///
    /// # Errors
    /// [`Error::Input`], naming the record and the key that does not fit it.
    pub fn items(&self, choice: &MultipleChoice, records: &Records) -> Result<Vec<Item>> {
        let items = self.each(records, |reading, id| {
            let choices: Vec<String> = reading.list("choices", &choice.choices)?;
            if choices.len() < 2 || choices.iter().any(|choice| choice.trim().is_empty()) {
                return Err(reading.error("choices", "give two or more, none of them empty"));
            }
            let bias = choice.bias.as_ref().map(|bias| reading.bias(bias)).transpose()?;
            if bias.as_ref().is_some_and(|bias| bias.follows.len() != choices.len()) {
                return Err(reading.error("bias.answers", "give one list of names for each choice"));
            }
            Ok(Item {
                id,
                prompt: reading.template("prompt", &choice.prompt)?,
                right: reading.right(&choice.target, choices.len())?,
                choices,
                group: reading.optional("group", &choice.group)?,
                cluster: reading.optional("cluster", &choice.cluster)?,
                bias,
            })
        })?;
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = items.iter().find(|item| !seen.insert(&item.id)) {
            let reason =
                format!("two records have the id \"{}\"; give each its own by `id`", twice.id);
            return Err(Error::input(format!("task {}", self.task), reason));
        }
        Ok(items)
    }

    /// The prompts of a prompt set.
    ///
    /// # Errors
    /// [`Error::Input`], naming the record and the key that does not fit it.
    pub fn prompts(&self, set: &PromptSet, records: &Records) -> Result<Vec<EvalPrompt>> {
        let prompts = self.each(records, |reading, id| {
            let turn = reading.template("prompt", &set.prompt)?;
            let category = reading.text("category", &set.category)?;
            let category = PromptCategory::deserialize(serde_json::Value::from(category))
                .map_err(|error| reading.error("category", error))?;
            let mut prompt = EvalPrompt::new(id, vec![Message::user(turn.trim())], category);
            prompt.topic = reading.optional("topic", &set.topic)?;
            let reference = set.reference.as_ref();
            prompt.reference = reference.map(|r| reading.template("reference", r)).transpose()?;
            Ok(prompt)
        })?;
        crate::data::check_prompts(&prompts, &format!("task {}", self.task))?;
        Ok(prompts)
    }
}

/// Where a task's file is: the file itself if `name` is one, else `folder/NAME.yaml`.
pub fn find(name: &str, folder: &Path) -> Result<PathBuf> {
    let given = PathBuf::from(name);
    if given.extension().is_some() && given.is_file() {
        return Ok(given);
    }
    let path = folder.join(format!("{name}.yaml"));
    if path.is_file() {
        return Ok(path);
    }
    let reason = format!("is neither a task of {} nor a file", folder.display());
    Err(Error::input(format!("task {name}"), reason))
}
