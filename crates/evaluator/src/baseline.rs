//! The baseline: answer with the reply of the most similar training prompt.
//!
//! A model that has learned no more than to look up its training data does as well as this.
//! Similarity is the cosine of TF-IDF vectors of words (Salton and Buckley, Term-weighting
//! approaches in automatic text retrieval, 1988), with idf(w) = ln((1 + N) / (1 + df(w))) + 1.

use std::collections::BTreeMap;
use std::collections::HashMap;

use cai_data::hash;
use cai_data::record::{Conversation, EvalPrompt, Message, Role};
use cai_data::text::normalise;

use crate::data::{Kind, ModelReplies, Reply};
use crate::error::{Error, Result};

/// Training prompts, each with its reply, indexed by word.
pub struct NearestPrompt {
    replies: Vec<String>,
    /// Word to the prompts that have it, with its share of the prompt's unit vector.
    index: HashMap<String, Vec<(usize, f64)>>,
    idf: HashMap<String, f64>,
    fingerprint: String,
}

impl NearestPrompt {
    /// Indexes conversations: the prompt is what the user said before the last reply.
    ///
    /// # Errors
    /// [`Error::Input`] when there are none, or one does not end with a reply.
    pub fn new(conversations: &[Conversation]) -> Result<Self> {
        let mut replies = Vec::with_capacity(conversations.len());
        let mut prompts = Vec::with_capacity(conversations.len());
        let mut text = String::new();
        for (i, conversation) in conversations.iter().enumerate() {
            let Some((Message { role: Role::Assistant, content }, before)) =
                conversation.messages.split_last()
            else {
                let reason = "does not end with a reply; the baseline needs one to give";
                return Err(Error::input(format!("training conversation {}", i + 1), reason));
            };
            prompts.push(frequencies(before));
            replies.push(content.clone());
            for message in &conversation.messages {
                text.push_str(&message.content);
                text.push('\0');
            }
        }
        if replies.is_empty() {
            let reason = "there are none; give the conversations that the model was trained on";
            return Err(Error::input("training conversations", reason));
        }
        let idf = inverse_document_frequencies(&prompts);
        let mut index: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        for (i, prompt) in prompts.iter().enumerate() {
            for (word, weight) in unit_vector(prompt, &idf) {
                index.entry(word).or_default().push((i, weight));
            }
        }
        Ok(NearestPrompt { replies, index, idf, fingerprint: hash::bytes(text.as_bytes()) })
    }

    /// The reply of the most similar training prompt, and the similarity, 0 to 1. Among equals,
    /// and if no word is shared with any, the first.
    pub fn reply(&self, prompt: &[Message]) -> (&str, f64) {
        let mut similarity = vec![0.0; self.replies.len()];
        for (word, weight) in unit_vector(&frequencies(prompt), &self.idf) {
            for (i, theirs) in self.index.get(&word).into_iter().flatten() {
                similarity[*i] += weight * theirs;
            }
        }
        let mut best = 0;
        for (i, value) in similarity.iter().enumerate() {
            if *value > similarity[best] {
                best = i;
            }
        }
        (&self.replies[best], similarity[best])
    }

    /// The replies to all prompts, to be compared like a model's.
    pub fn replies(&self, name: &str, prompts: &[EvalPrompt]) -> ModelReplies {
        let reply = |prompt: &EvalPrompt| Reply::complete(self.reply(&prompt.prompt).0);
        ModelReplies {
            name: name.to_owned(),
            kind: Kind::Baseline,
            fingerprint: self.fingerprint.clone(),
            replies: prompts.iter().map(reply).collect(),
        }
    }
}

/// How often each word occurs in what the user says. Sorted, so that sums are reproducible.
fn frequencies(prompt: &[Message]) -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    for turn in prompt.iter().filter(|turn| turn.role == Role::User) {
        for word in normalise(&turn.content).split(' ').filter(|word| !word.is_empty()) {
            *times.entry(word.to_owned()).or_default() += 1.0;
        }
    }
    times
}

fn inverse_document_frequencies(prompts: &[BTreeMap<String, f64>]) -> HashMap<String, f64> {
    let mut containing: HashMap<&str, usize> = HashMap::new();
    for word in prompts.iter().flat_map(BTreeMap::keys) {
        *containing.entry(word).or_default() += 1;
    }
    let total = 1.0 + prompts.len() as f64;
    let idf = |containing: usize| (total / (1.0 + containing as f64)).ln() + 1.0;
    containing.into_iter().map(|(word, n)| (word.to_owned(), idf(n))).collect()
}

/// Words weighted by idf, length 1. Words that no training prompt has are left out.
fn unit_vector(
    frequencies: &BTreeMap<String, f64>,
    idf: &HashMap<String, f64>,
) -> Vec<(String, f64)> {
    let mut vector: Vec<(String, f64)> = frequencies
        .iter()
        .filter_map(|(word, times)| Some((word.clone(), times * idf.get(word)?)))
        .collect();
    let length = vector.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|(_, weight)| *weight /= length);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(prompt: &str, reply: &str) -> Conversation {
        Conversation::new(vec![Message::user(prompt), Message::assistant(reply)])
    }

    #[test]
    fn the_most_similar_prompt_answers() {
        let training = [
            conversation("How do I brew tea?", "Boil water."),
            conversation("How do I brew beer?", "Buy hops."),
            conversation("How do I fix the roof?", "Call a roofer."),
        ];
        let nearest = NearestPrompt::new(&training).unwrap();
        let reply = |text: &str| nearest.reply(&[Message::user(text)]);
        assert_eq!(reply("Tell me how to fix a leaky roof!").0, "Call a roofer.");
        assert_eq!(reply("BEER, please").0, "Buy hops.");
        let (text, similarity) = reply("How do I brew tea?");
        assert_eq!(text, "Boil water.");
        assert!((similarity - 1.0).abs() < 1e-12);
        assert_eq!(reply("xyzzy"), ("Boil water.", 0.0));
    }

    #[test]
    fn rare_words_count_more_than_common_ones() {
        let mut training: Vec<_> = (0..20)
            .map(|i| conversation(&format!("please tell me about thing {i}"), "a thing"))
            .collect();
        training.push(conversation("zebra", "an animal"));
        let nearest = NearestPrompt::new(&training).unwrap();
        assert_eq!(nearest.reply(&[Message::user("tell me zebra")]).0, "an animal");
    }

    #[test]
    fn conversations_without_a_reply_are_an_error() {
        let unanswered = Conversation::new(vec![Message::user("Hi")]);
        let error = NearestPrompt::new(&[conversation("a", "b"), unanswered]);
        assert!(error.err().unwrap().to_string().contains("conversation 2"));
        assert!(NearestPrompt::new(&[]).is_err());
    }
}
