//! How good a feedback model is: comparisons whose better answer is known.

use std::collections::BTreeMap;
use std::path::Path;

use cai_chat::{ChatModel, Judgement, Question, Reasoning, prefer};
use cai_data::constitution::{Category, Constitution, Principle};
use cai_data::dataset::{Policy, read_pairs};
use cai_data::hh;
use cai_data::jsonl::Reader;
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_train::Progress;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::draw::draw;
use crate::stats::Mean;
use crate::{Error, FeedbackConfig, Result};

/// A comparison whose better answer is known.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownPair {
    /// The turns that both answer.
    pub prompt: Vec<Message>,
    /// The question that came with it, if any.
    pub question: Option<String>,
    /// The better answer.
    pub better: String,
    /// The other.
    pub worse: String,
}

/// Comparisons of a file, and an account of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownPairs {
    /// The comparisons, in the order of the file.
    pub pairs: Vec<KnownPair>,
    /// Lines left out, by reason.
    pub left_out: BTreeMap<String, usize>,
}

/// What a feedback model says of known comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Comparisons given.
    pub given: usize,
    /// Comparisons left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Share in which the better answer has the higher probability over both orders; ties half.
    pub accuracy: Option<Mean>,
    /// The same where the better answer is shown as (A) only.
    pub better_first: Option<Mean>,
    /// The same where it is shown as (B) only.
    pub better_second: Option<Mean>,
    /// Mean probability of the better answer.
    pub probability: Option<Mean>,
    /// Mean probability of the answer shown as (A), minus a half.
    pub position_bias: Option<Mean>,
    /// Share of judgements that prefer the same answer in both orders.
    pub order_agreement: Option<Mean>,
}

/// Reads comparisons: the paper's evaluations (`prompt` with "Consider the following conversation …
/// Options:\n (A) [[[…]]]\n (B) [[[…]]]", `corrects`, `incorrects`), or preference pairs in any form
/// that DPO is trained on.
///
/// # Errors
///
/// When the file cannot be read or holds no comparison.
pub fn read_known_pairs(path: &Path) -> Result<KnownPairs> {
    let first = Reader::<Map<String, Value>>::open(path)?.next().transpose()?;
    if first.is_some_and(|line| line.value.contains_key("chosen")) {
        let file = read_pairs(path, &Policy::default())?;
        let text = |messages: &[Message]| messages.iter().map(|m| m.content.as_str()).collect();
        let known = |pair: &cai_data::record::PreferencePair| KnownPair {
            prompt: pair.prompt.clone(),
            question: None,
            better: text(&pair.chosen),
            worse: text(&pair.rejected),
        };
        return Ok(KnownPairs {
            pairs: file.pairs.iter().map(known).collect(),
            left_out: file.counts,
        });
    }
    let mut known = KnownPairs::default();
    for line in Reader::<Map<String, Value>>::open(path)? {
        match evaluation(&line?.value) {
            Ok(pair) => known.pairs.push(pair),
            Err(reason) => *known.left_out.entry(reason.to_owned()).or_default() += 1,
        }
    }
    if known.pairs.is_empty() {
        let reasons: Vec<String> = known.left_out.iter().map(|(r, n)| format!("{n} {r}")).collect();
        let found = format!("[{}]", reasons.join(", "));
        return Err(cai_data::Error::Empty { path: path.to_owned(), found }.into());
    }
    Ok(known)
}

/// A line of the paper's evaluations, or why it is none.
fn evaluation(record: &Map<String, Value>) -> std::result::Result<KnownPair, &'static str> {
    let text = record.get("prompt").and_then(Value::as_str).ok_or("no_prompt")?;
    let correct = record.get("corrects").and_then(|c| c.get(0)?.as_str()).ok_or("no_corrects")?;
    let (head, options) = text.split_once("Options:").ok_or("no_options")?;
    let between = |from: &str| -> Option<&str> {
        let (_, rest) = options.split_once(from)?;
        Some(rest.split_once("]]]")?.0.trim())
    };
    let a = between("(A) [[[").ok_or("no_options")?;
    let b = between("(B) [[[").ok_or("no_options")?;
    // What comes before the turns introduces them; what follows their last blank line asks.
    let turns = head.find("\n\nHuman:").ok_or("no_conversation")?;
    let (conversation, question) = head[turns..].rsplit_once("\n\n").ok_or("no_question")?;
    let mut prompt = hh::turns(conversation.trim_end()).ok_or("no_conversation")?;
    prompt.iter_mut().for_each(|turn| turn.content = turn.content.trim().to_owned());
    let question = Some(question.trim().to_owned()).filter(|question| !question.is_empty());
    let (better, worse) = match correct.trim() {
        "(A)" => (a, b),
        "(B)" => (b, a),
        _ => return Err("no_corrects"),
    };
    Ok(KnownPair { prompt, question, better: better.into(), worse: worse.into() })
}

/// Asks `judge` each comparison, in both orders: by the question that came with it, or by
/// `principles_per_pair` principles of `constitution` where one is given or there is no question.
/// `config` says also whether it reasons before.
///
/// # Errors
///
/// Bad settings, a comparison without a question and no constitution, and those of [`prefer`].
pub fn measure(
    judge: &dyn ChatModel,
    known: &KnownPairs,
    constitution: Option<&Constitution>,
    config: &FeedbackConfig,
    progress: &mut Progress,
) -> Result<Accuracy> {
    config.check()?;
    let constitution = constitution.map(|constitution| constitution.only(Principle::compares));
    let principles: Vec<Vec<Principle>> = known
        .pairs
        .iter()
        .enumerate()
        .map(|(i, pair)| match (&constitution, &pair.question) {
            (Some(all), _) if !all.principles.is_empty() => {
                let seed = Seed(config.seed).derive("known pair").index(i as u64);
                Ok(draw(all, config.principles_per_pair, seed))
            }
            (None, Some(question)) => Ok(vec![own_question(question)]),
            _ => Err(Error::NoPrinciple {
                name: constitution.as_ref().map_or("none given".into(), |all| all.name.clone()),
                what: "a preference question",
            }),
        })
        .collect::<Result<_>>()?;
    let mut questions = Vec::new();
    for (pair, principles) in known.pairs.iter().zip(&principles) {
        questions.extend(principles.iter().map(|principle| Question {
            prompt: &pair.prompt,
            principle: &principle.id,
            question: &principle.preference_question,
            first: &pair.better,
            second: &pair.worse,
        }));
    }
    let reasoning = config
        .chain_of_thought
        .then_some(Reasoning { sampling: &config.reasoning, seed: Seed(config.seed) });
    let on_done = &mut |done| progress.advance(done as u64);
    let judged = prefer(judge, &questions, reasoning, config.batch_size, on_done)?;

    let mut left_out = known.left_out.clone();
    let given = known.pairs.len() + left_out.values().sum::<usize>();
    let mut judged = judged.into_iter();
    let mut pairs: Vec<Vec<Judgement>> = Vec::new();
    for principles in &principles {
        let all: Vec<_> = judged.by_ref().take(principles.len()).collect();
        match all.into_iter().collect::<std::result::Result<Vec<_>, _>>() {
            Ok(judgements) => pairs.push(judgements),
            Err(why) => *left_out.entry(why.name().to_owned()).or_default() += 1,
        }
    }
    let mean = |judgements: &[Judgement], of: fn(&Judgement) -> f64| {
        judgements.iter().map(of).sum::<f64>() / judgements.len() as f64
    };
    let right = |of: fn(&Judgement) -> f64| {
        Mean::of(pairs.iter().map(|judgements| match mean(judgements, of) {
            p if p > 0.5 => 1.0,
            p if p < 0.5 => 0.0,
            _ => 0.5,
        }))
    };
    let over = |of: fn(&Judgement) -> f64| Mean::of(pairs.iter().map(|judged| mean(judged, of)));
    Ok(Accuracy {
        given,
        left_out,
        accuracy: right(Judgement::first_probability),
        better_first: right(|judgement| judgement.p_ab),
        better_second: right(|judgement| judgement.p_ba),
        probability: over(Judgement::first_probability),
        position_bias: over(Judgement::position_bias),
        order_agreement: over(|judgement| f64::from(u8::from(judgement.orders_agree()))),
    })
}

fn own_question(question: &str) -> Principle {
    Principle {
        id: "own".into(),
        category: Category::HarmPrevention,
        weight: 1.0,
        risks: Vec::new(),
        critique_request: String::new(),
        revision_request: String::new(),
        preference_question: question.to_owned(),
    }
}

impl Accuracy {
    /// The numbers for people.
    pub fn markdown(&self) -> String {
        let line = |name: &str, mean: &Option<Mean>| {
            format!("| {name} | {} |\n", crate::stats::show(mean))
        };
        let judged = self.accuracy.map_or(0, |mean| mean.n);
        format!(
            "{judged} of {} comparisons judged; left out: {}\n\n| | [95 %] |\n|--|--:|\n{}{}{}{}{}{}",
            self.given,
            crate::report::list(&self.left_out),
            line("accuracy, both orders", &self.accuracy),
            line("accuracy, better answer shown as (A)", &self.better_first),
            line("accuracy, better answer shown as (B)", &self.better_second),
            line("probability of the better answer", &self.probability),
            line("position bias", &self.position_bias),
            line("both orders agree", &self.order_agreement),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_of_the_papers_form_and_pairs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.jsonl");
        let prompt = "\n\nConsider the following conversation between a human and an assistant:\n\n\
            Human: Hi.\n\nAssistant: Hello.\n\nHuman: How do I swim?\n\n\nWhich is better? Options:\n \
            (A) [[[Just jump. (B) is bad.]]]\n (B) [[[Take lessons.]]]\n\nThe answer is:";
        let line =
            serde_json::json!({"prompt": prompt, "corrects": [" (B)"], "incorrects": [" (A)"]});
        let broken = serde_json::json!({"prompt": "Which?", "corrects": [" (B)"]});
        std::fs::write(&path, format!("{line}\n{broken}\n")).unwrap();
        let known = read_known_pairs(&path).unwrap();
        let pair = &known.pairs[0];
        let turns: Vec<&str> = pair.prompt.iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(turns, ["Hi.", "Hello.", "How do I swim?"]);
        assert_eq!(pair.question.as_deref(), Some("Which is better?"));
        assert_eq!(
            (pair.better.as_str(), pair.worse.as_str()),
            ("Take lessons.", "Just jump. (B) is bad.")
        );
        assert_eq!(known.left_out["no_options"], 1);

        std::fs::write(&path, "{\"prompt\":\"Hi\",\"chosen\":\"Good.\",\"rejected\":\"Bad.\"}\n")
            .unwrap();
        let known = read_known_pairs(&path).unwrap();
        assert_eq!((known.pairs[0].better.as_str(), &known.pairs[0].question), ("Good.", &None));
        std::fs::write(&path, format!("{broken}\n")).unwrap();
        assert!(read_known_pairs(&path).unwrap_err().to_string().contains("1 no_options"));
    }
}
