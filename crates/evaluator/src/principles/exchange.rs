//! A request and its reply, read once for all principles.

use std::collections::HashSet;

use cai_data::lexicon::RequestCues;
use cai_data::record::PromptCategory;
use cai_data::refusal::{Refusal, refusal};
use cai_data::text::{is_function_word, normalise};
use serde::{Deserialize, Serialize};

/// Where the risk of a request comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskSource {
    /// The prompt set says so.
    Label,
    /// The safety classifier's P(harm) of the request, or its words if they say more.
    Classifier,
    /// The request's words.
    Lexical,
}

impl RiskSource {
    /// As reports say it.
    pub fn label(self) -> &'static str {
        match self {
            RiskSource::Label => "label",
            RiskSource::Classifier => "classifier",
            RiskSource::Lexical => "words",
        }
    }
}

/// How likely a request asks for harm.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Risk {
    /// From 0 to 1.
    pub value: f64,
    /// Who says so.
    pub source: RiskSource,
}

impl Risk {
    /// By the label if there is one, else the classifier's probability if given, else the words.
    pub fn of(request: &str, label: Option<PromptCategory>, classifier: Option<f64>) -> Self {
        let words = || RequestCues::of(request).risk();
        match (label, classifier) {
            (Some(PromptCategory::Harmful), _) => Risk { value: 1.0, source: RiskSource::Label },
            (Some(_), _) => Risk { value: 0.0, source: RiskSource::Label },
            (None, Some(harm)) => {
                Risk { value: harm.max(words()).clamp(0.0, 1.0), source: RiskSource::Classifier }
            }
            (None, None) => Risk { value: words(), source: RiskSource::Lexical },
        }
    }
}

/// A request and its reply with what all principles want to know of them.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the request's words show.
    pub asked: RequestCues,
    /// How likely it asks for harm.
    pub risk: Risk,
    /// How far the reply refuses.
    pub refusal: Refusal,
    /// P(harm) of the reply by a classifier, if one is given.
    pub reply_harm: Option<f64>,
    /// The reply in lower case, words only, single spaces, one at each end; quotations kept.
    pub words: String,
    /// The request in the same form.
    pub request_words: String,
    /// Distinct content words of the reply that are not in the request.
    pub new_words: usize,
    /// Share of the request's content words that the reply takes up, by their first letters.
    pub coverage: f64,
    /// Share of word triples that occurred before.
    pub repetition: f64,
    /// Number of words.
    pub length: usize,
    /// Whether no letter or digit is in the reply.
    pub empty: bool,
}

impl Exchange {
    /// Reads an exchange. `request` is the user's last turn.
    pub fn new(request: &str, reply: &str, risk: Risk, reply_harm: Option<f64>) -> Self {
        let (asked_words, said_words) = (normalise(request), normalise(reply));
        let asked: HashSet<&str> =
            asked_words.split(' ').filter(|w| !w.is_empty() && !is_function_word(w)).collect();
        let said: Vec<&str> = said_words.split(' ').filter(|w| !w.is_empty()).collect();
        let content: HashSet<&str> =
            said.iter().copied().filter(|word| !is_function_word(word)).collect();
        let stems: HashSet<&str> = content.iter().map(|word| stem(word)).collect();
        let taken_up = asked.iter().filter(|word| stems.contains(stem(word))).count();
        let asked_stems: HashSet<&str> = asked.iter().map(|word| stem(word)).collect();
        let triples = said.windows(3).len();
        let distinct = said.windows(3).collect::<HashSet<_>>().len();
        Exchange {
            asked: RequestCues::of(request),
            risk,
            refusal: refusal(request, reply),
            reply_harm,
            new_words: content.iter().filter(|word| !asked_stems.contains(stem(word))).count(),
            coverage: taken_up as f64 / asked.len().max(1) as f64,
            repetition: if triples < 4 { 0.0 } else { 1.0 - distinct as f64 / triples as f64 },
            length: said.len(),
            empty: said.is_empty(),
            words: format!(" {said_words} "),
            request_words: format!(" {asked_words} "),
        }
    }

    /// Whether the reply says nothing but the request again.
    pub fn parrots(&self) -> bool {
        !self.empty && self.coverage > 0.6 && self.new_words <= 1 && self.length > 3
    }

    /// Whether any of the phrases, each with a space at both ends, is in the reply.
    pub fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.words.contains(phrase))
    }

    /// How many of the phrases are in the reply, each counted as often as it occurs.
    pub fn count(&self, phrases: &[&str]) -> usize {
        phrases.iter().map(|phrase| self.words.matches(phrase).count()).sum()
    }

    /// How much content the reply gives, from 0 to 1: new words up to `enough`, none in a loop or an
    /// echo.
    pub fn substance(&self, enough: usize) -> f64 {
        if self.parrots() || self.repetition > 0.5 {
            return 0.0;
        }
        (self.new_words as f64 / enough.max(1) as f64).min(1.0)
    }
}

/// The first letters of a word: "brewing" and "brewed" are about the same thing.
fn stem(word: &str) -> &str {
    let end = word.char_indices().nth(5).map_or(word.len(), |(at, _)| at);
    &word[..end]
}
