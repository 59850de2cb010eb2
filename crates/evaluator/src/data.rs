//! What an evaluation starts from: prompts, and one reply of every model to each.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use cai_data::cutoff::OnTruncation;
use cai_data::jsonl;
use cai_data::record::{EvalPrompt, Message, Role};
use cai_model::model::LoadOptions;
use cai_model::source::Quantize;
use cai_model::tokenizer::TemplateChoice;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A model to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name in tables and file names: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The base model's folder or GGUF file.
    pub dir: PathBuf,
    /// The adapter's folder, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// A folder whose tokenizer takes the place of the base's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// A chat template in place of the base's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<TemplateChoice>,
}

impl ModelSpec {
    /// A base as it is.
    pub fn base(name: &str, dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            dir: dir.into(),
            adapter: None,
            tokenizer: None,
            chat_template: None,
        }
    }

    /// What its base is loaded with.
    pub fn options(&self, quantize: Option<Quantize>) -> LoadOptions {
        LoadOptions {
            adapter: None,
            quantize,
            tokenizer: self.tokenizer.clone(),
            chat_template: self.chat_template.clone(),
        }
    }

    /// Whether the other stands on the same base, loaded in the same way.
    pub fn shares_base(&self, other: &Self) -> bool {
        self.dir == other.dir
            && self.tokenizer == other.tokenizer
            && self.chat_template == other.chat_template
    }
}

/// Why a reply ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended its turn.
    Stop,
    /// The reply reached the longest length and was cut off.
    Length,
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

impl Reply {
    /// A reply that the model ended itself.
    pub fn complete(text: impl Into<String>) -> Self {
        Reply { text: text.into(), finish: Finish::Stop }
    }

    /// What of it is judged.
    pub fn judged(&self, on_truncation: OnTruncation) -> Reply {
        let cut = self.finish == Finish::Length;
        match cut.then(|| on_truncation.usable(&self.text)).flatten() {
            Some(whole) => Reply::complete(whole),
            None => self.clone(),
        }
    }
}

/// What answers the prompts.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A language model.
    Model,
    /// Something simpler that models have to beat.
    Baseline,
}

/// All replies of one model, in the order of the prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelReplies {
    /// The model's name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Which weights, or which training prompts, gave the replies: a hash.
    pub fingerprint: String,
    /// The replies, one per prompt.
    pub replies: Vec<Reply>,
}

/// Reads evaluation prompts and checks them; see [`check_prompts`].
///
/// # Errors
/// [`Error::Data`] when the file cannot be read, [`Error::Input`] for prompts that cannot be used.
pub fn read_prompts(path: &Path, max_prompts: Option<usize>) -> Result<Vec<EvalPrompt>> {
    let prompts: Vec<EvalPrompt> = jsonl::read(path)?;
    check_prompts(&prompts, &path.display().to_string())?;
    Ok(limit(prompts, max_prompts))
}

/// At most `max_prompts` prompts, in their order, spread evenly over each category: the share of a
/// category stays what it is in the whole set.
pub fn limit(prompts: Vec<EvalPrompt>, max_prompts: Option<usize>) -> Vec<EvalPrompt> {
    let total = prompts.len();
    let wanted = max_prompts.unwrap_or(total).min(total);
    let mut by_category: Vec<usize> = (0..total).collect();
    by_category.sort_by_key(|i| prompts[*i].category);
    let kept: HashSet<usize> = (0..wanted).map(|i| by_category[i * total / wanted]).collect();
    prompts.into_iter().enumerate().filter(|(i, _)| kept.contains(i)).map(|(_, p)| p).collect()
}

/// Each prompt `samples` times in a row, from the second time on with an id of its own. All samples of
/// a prompt share its topic, or have one that no other prompt has: they are not independent.
pub fn repeat(prompts: &[EvalPrompt], samples: usize) -> Vec<EvalPrompt> {
    if samples == 1 {
        return prompts.to_vec();
    }
    let sample = |prompt: &EvalPrompt, i: usize| {
        let mut copy = prompt.clone();
        copy.topic.get_or_insert_with(|| format!("prompt {}", prompt.id));
        if i > 0 {
            copy.id = format!("{} (sample {})", prompt.id, i + 1);
        }
        copy
    };
    prompts.iter().flat_map(|prompt| (0..samples).map(move |i| sample(prompt, i))).collect()
}

/// Checks that there are prompts, each with an id of its own, a last turn of the user to answer,
/// and a reference that says something if there is one.
///
/// # Errors
/// [`Error::Input`], naming `place` and the prompt.
pub fn check_prompts(prompts: &[EvalPrompt], place: &str) -> Result<()> {
    if prompts.is_empty() {
        return Err(Error::input(place, "holds no evaluation prompts; give at least one"));
    }
    let mut seen = HashMap::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let at = || format!("{place}, prompt {} (id \"{}\")", i + 1, prompt.id);
        if let Some(first) = seen.insert(prompt.id.as_str(), i + 1) {
            let reason = format!("prompt {first} has the same id; give each an id of its own");
            return Err(Error::input(at(), reason));
        }
        match prompt.prompt.last() {
            Some(Message { role: Role::User, content }) if !content.trim().is_empty() => {}
            Some(Message { role: Role::User, .. }) => {
                return Err(Error::input(at(), "the last turn is empty; give the user's words"));
            }
            _ => {
                let reason = "the last turn is not the user's; end the prompt with what to answer";
                return Err(Error::input(at(), reason));
            }
        }
        if prompt.reference.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Error::input(at(), "the reference is empty; give a good answer or none"));
        }
    }
    Ok(())
}

/// Checks that names are distinct and fit for file names.
///
/// # Errors
/// [`Error::Input`], naming the model.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        let place = format!("model \"{name}\"");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let reason = "a name has letters, digits, '.', '_' and '-' only; rename the model";
            return Err(Error::input(place, reason));
        }
        if !seen.insert(name) {
            return Err(Error::input(place, "two models have this name; rename one"));
        }
    }
    if seen.is_empty() {
        return Err(Error::input("models", "there is nothing to compare; give at least one"));
    }
    Ok(())
}

/// The user's last turn: what a reply answers.
pub fn request(prompt: &EvalPrompt) -> &str {
    prompt.prompt.last().map_or("", |turn| turn.content.as_str())
}

/// For every prompt the number of its cluster: prompts of one topic share a cluster, a prompt
/// without a topic has its own.
pub fn clusters(prompts: &[EvalPrompt]) -> Vec<usize> {
    numbered(prompts.iter().map(|prompt| prompt.topic.as_deref()))
}

/// For every name its number, from 0 in the order in which names first occur; what has no name has a
/// number of its own.
pub(crate) fn numbered<'a>(names: impl Iterator<Item = Option<&'a str>>) -> Vec<usize> {
    let mut of_name = HashMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    names
        .map(|name| match name {
            Some(name) => *of_name.entry(name).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cai_data::record::PromptCategory::{self, Borderline, Harmful, Harmless};

    fn prompt(id: usize, category: PromptCategory) -> EvalPrompt {
        EvalPrompt::new(id.to_string(), vec![Message::user(format!("Say {id}"))], category)
    }

    #[test]
    fn a_limit_keeps_the_shares_of_the_categories_even_if_they_alternate() {
        let categories = [Harmful, Borderline, Harmless];
        let prompts: Vec<_> = (0..90).map(|i| prompt(i, categories[i % 3])).collect();
        let kept = limit(prompts.clone(), Some(30));
        for category in categories {
            assert_eq!(kept.iter().filter(|p| p.category == category).count(), 10);
        }
        assert_eq!(limit(prompts.clone(), Some(200)), prompts);
        assert_eq!(limit(Vec::new(), None), Vec::new());
    }

    #[test]
    fn a_reply_that_was_cut_off_is_judged_up_to_a_whole_sentence_where_asked_for() {
        let cut = Reply { text: "Boil the water first. Then".into(), finish: Finish::Length };
        assert_eq!(cut.judged(OnTruncation::Drop), cut);
        let trimmed = cut.judged(OnTruncation::TrimToSentence);
        assert_eq!(trimmed, Reply::complete("Boil the water first."));
        let whole = Reply::complete(cut.text);
        assert_eq!(whole.judged(OnTruncation::TrimToSentence), whole);
    }

    #[test]
    fn samples_of_a_prompt_are_one_cluster() {
        let mut prompts = vec![prompt(1, Harmful), prompt(2, Harmless)];
        prompts[1].topic = Some("tea".into());
        assert_eq!(repeat(&prompts, 1), prompts);
        let repeated = repeat(&prompts, 3);
        check_prompts(&repeated, "repeated").unwrap();
        assert_eq!(clusters(&repeated), [0, 0, 0, 1, 1, 1]);
        assert_eq!(repeated[0].id, "1");
    }

    #[test]
    fn unusable_prompts_are_named() {
        let twice = [prompt(1, Harmful), prompt(1, Harmless)];
        let message = check_prompts(&twice, "file").unwrap_err().to_string();
        assert!(message.contains("file, prompt 2") && message.contains("id"), "{message}");
        let mut answered = prompt(1, Harmful);
        answered.prompt.push(Message::assistant("No."));
        assert!(check_prompts(&[answered], "file").is_err());
        let mut blank = prompt(1, Harmless);
        blank.reference = Some(" ".into());
        assert!(check_prompts(&[blank], "file").is_err());
        assert!(check_prompts(&[], "file").is_err());
    }

    #[test]
    fn names_must_be_distinct_and_fit_for_files() {
        check_names(["base", "sl-cai", "dpo_2.1"]).unwrap();
        for names in [&["a", "a"][..], &["../a"], &["a b"], &[""], &[]] {
            assert!(check_names(names.iter().copied()).is_err(), "{names:?}");
        }
    }

    #[test]
    fn prompts_of_a_topic_share_a_cluster() {
        let mut prompts: Vec<_> = (0..4).map(|i| prompt(i, Harmful)).collect();
        prompts[0].topic = Some("tea".into());
        prompts[2].topic = Some("tea".into());
        assert_eq!(clusters(&prompts), [0, 1, 0, 2]);
    }
}
