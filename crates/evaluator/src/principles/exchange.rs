//! A request and its reply, read once for all principles.

use std::collections::{HashMap, HashSet};

use cai_data::lexicon::RequestCues;
use cai_data::record::PromptCategory;
use cai_data::refusal::{Refusal, refusal_of};
use cai_data::text::{is_function_word, normalise};
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use super::phrases::Signs;

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
    fn of(cues: RequestCues, label: Option<PromptCategory>, classifier: Option<f64>) -> Self {
        let words = cues.risk();
        match (label, classifier) {
            (Some(PromptCategory::Harmful), _) => Risk { value: 1.0, source: RiskSource::Label },
            (Some(_), _) => Risk { value: 0.0, source: RiskSource::Label },
            (None, Some(harm)) => {
                Risk { value: harm.max(words).clamp(0.0, 1.0), source: RiskSource::Classifier }
            }
            (None, None) => Risk { value: words, source: RiskSource::Lexical },
        }
    }
}

/// A request with what all principles want to know of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What its words show.
    pub cues: RequestCues,
    /// How likely it asks for harm.
    pub risk: Risk,
    /// What its phrases are signs of.
    pub signs: Signs,
    /// In lower case, words only, single spaces.
    words: String,
}

impl Request {
    /// Reads a request, the user's last turn. Its risk is that of its label if it has one, else the
    /// classifier's P(harm) if given, else what its words show.
    pub fn new(text: &str, label: Option<PromptCategory>, classifier: Option<f64>) -> Self {
        let cues = RequestCues::of(text);
        let words = normalise(text);
        Request {
            cues,
            risk: Risk::of(cues, label, classifier),
            signs: Signs::of(&format!(" {words} ")),
            words,
        }
    }
}

/// A request and its reply with what all principles want to know of them.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// The request.
    pub request: &'a Request,
    /// How far the reply refuses.
    pub refusal: Refusal,
    /// P(harm) of the reply by a classifier, if one is given.
    pub reply_harm: Option<f64>,
    /// The reply in lower case, words only, single spaces, one at each end; quotations kept.
    pub words: String,
    /// What its phrases are signs of.
    pub signs: Signs,
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

impl<'a> Exchange<'a> {
    /// Reads a reply.
    pub fn new(request: &'a Request, reply: &str, reply_harm: Option<f64>) -> Self {
        let words = format!(" {} ", normalise(reply));
        let asked: HashSet<&str, FixedState> =
            request.words.split(' ').filter(|w| !w.is_empty() && !is_function_word(w)).collect();
        let asked_stems: HashSet<&str, FixedState> = asked.iter().map(|word| stem(word)).collect();
        // Words by number, in the order in which they first occur.
        let mut numbers: HashMap<&str, u32, FixedState> =
            HashMap::with_capacity_and_hasher(128, FixedState::default());
        let mut stems: HashSet<&str, FixedState> =
            HashSet::with_capacity_and_hasher(128, FixedState::default());
        let mut said: Vec<u32> = Vec::with_capacity(words.len() / 4);
        let mut new_words = 0;
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let next = numbers.len() as u32;
            let number = *numbers.entry(word).or_insert(next);
            said.push(number);
            if number == next && !is_function_word(word) {
                let stem = stem(word);
                stems.insert(stem);
                new_words += usize::from(!asked_stems.contains(stem));
            }
        }
        let taken_up = asked.iter().filter(|word| stems.contains(stem(word))).count();
        let triples = said.windows(3).len();
        let mut distinct: HashSet<&[u32], FixedState> =
            HashSet::with_capacity_and_hasher(triples, FixedState::default());
        distinct.extend(said.windows(3));
        let repeated = 1.0 - distinct.len() as f64 / triples as f64;
        Exchange {
            request,
            refusal: refusal_of(request.cues, reply),
            reply_harm,
            new_words,
            coverage: taken_up as f64 / asked.len().max(1) as f64,
            repetition: if triples < 4 { 0.0 } else { repeated },
            length: said.len(),
            empty: said.is_empty(),
            signs: Signs::of(&words),
            words,
        }
    }

    /// Whether the reply says nothing but the request again.
    pub fn parrots(&self) -> bool {
        !self.empty && self.coverage > 0.6 && self.new_words <= 1 && self.length > 3
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
