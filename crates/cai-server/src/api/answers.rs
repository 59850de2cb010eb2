//! Answers as they are told: with log-probabilities, and without what the guard withholds.

use std::collections::VecDeque;

use cai_model::generate::Finish;
use cai_model::tokenizer::ChatTokenizer;
use serde_json::{Value, json};

use super::ApiError;
use super::logprobs::Scored;
use crate::app::App;
use crate::guard::Withheld;
use crate::models::{Generating, Piece};

/// Bytes of text that the guard judges at a time at least, unless a sentence ends before.
const JUDGED_AT_ONCE: usize = 200;

/// Some more of an answer, to be told.
pub(super) struct Part {
    pub(super) choice: usize,
    pub(super) text: String,
    /// The tokens that begin in what was told so far and were not told yet, if they are told.
    pub(super) tokens: Vec<Scored>,
    pub(super) end: Option<End>,
}

/// How an answer ended.
#[derive(Clone)]
pub(super) enum End {
    /// By itself.
    Finished(Finish),
    /// By the guard.
    Withheld(Withheld),
}

impl End {
    /// OpenAI's name of it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Finished(Finish::Stop | Finish::StopString) => "stop",
            Self::Finished(Finish::Length) => "length",
            Self::Withheld(_) => "content_filter",
        }
    }
}

/// The answers to one request, prompt after prompt.
pub(super) struct Answers {
    app: App,
    /// The tokenizer, if log-probabilities are told.
    logprobs: Option<ChatTokenizer>,
    /// Whether answers are judged only when they are whole.
    whole: bool,
    /// Parts that can be told at once.
    parts: VecDeque<Part>,
    prompts: VecDeque<Generating>,
    /// Answers to the prompts before.
    before: usize,
    answers: Vec<Answer>,
    prompt_tokens: usize,
    completion_tokens: usize,
}

#[derive(Default)]
struct Answer {
    /// All text, of which `told` bytes were told.
    text: String,
    told: usize,
    tokens: VecDeque<Scored>,
    /// Where the last token ends.
    end: usize,
    over: bool,
}

impl Answers {
    /// The answers that are under way; with `whole`, the guard judges each at its end only.
    pub(super) fn new(
        app: App,
        logprobs: Option<ChatTokenizer>,
        whole: bool,
        prompts: Vec<Generating>,
    ) -> Self {
        let count = prompts.iter().map(Generating::choices).sum();
        let prompt_tokens = prompts.iter().map(Generating::prompt_tokens).sum();
        Self { logprobs, whole, prompts: prompts.into(), ..Self::none(app, prompt_tokens, count) }
    }

    /// `count` answers of which nothing is told, since the prompt was withheld.
    pub(super) fn withheld(
        app: App,
        withheld: Withheld,
        prompt_tokens: usize,
        count: usize,
    ) -> Self {
        let end = Some(End::Withheld(withheld));
        let part = |choice| Part { end: end.clone(), ..Part::empty(choice) };
        Self { parts: (0..count).map(part).collect(), ..Self::none(app, prompt_tokens, count) }
    }

    fn none(app: App, prompt_tokens: usize, count: usize) -> Self {
        Self {
            app,
            logprobs: None,
            whole: false,
            parts: VecDeque::new(),
            prompts: VecDeque::new(),
            before: 0,
            answers: (0..count).map(|_| Answer::default()).collect(),
            prompt_tokens,
            completion_tokens: 0,
        }
    }

    /// Number of answers.
    pub(super) fn count(&self) -> usize {
        self.answers.len()
    }

    /// OpenAI's `usage`, so far.
    pub(super) fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens, self.completion_tokens);
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion,
        })
    }

    /// The next part of any answer; `None` when all have ended.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Ok(Some(part));
            }
            let Some(prompt) = self.prompts.front_mut() else { return Ok(None) };
            match prompt.next().await? {
                Some(piece) => self.add(piece).await?,
                None => {
                    self.before += prompt.choices();
                    self.prompts.pop_front();
                }
            }
        }
    }

    /// Adds a piece to its answer, and what may be told of it to the parts.
    async fn add(&mut self, piece: Piece) -> Result<(), ApiError> {
        let Piece { choice, text, token, finished } = piece;
        let choice = self.before + choice;
        let answer = &mut self.answers[choice];
        self.completion_tokens += finished.map_or(0, |finished| finished.tokens);
        if answer.over {
            return Ok(());
        }
        answer.text.push_str(&text);
        if let (Some(token), Some(tokenizer)) = (token, &self.logprobs) {
            answer.tokens.push_back(Scored::new(token, tokenizer, &mut answer.end));
        }
        let mut end = finished.map(|finished| End::Finished(finished.finish));
        if self.app.guard {
            if end.is_none() && (self.whole || !answer.judge_now()) {
                return Ok(());
            }
            let texts = vec![answer.text.clone()];
            if let Some(withheld) = self.app.judge("answer", texts).await? {
                answer.text.truncate(answer.told);
                end = Some(End::Withheld(withheld));
            }
        }
        answer.over = end.is_some();
        let part = answer.tell(choice, end);
        if !(part.text.is_empty() && part.tokens.is_empty() && part.end.is_none()) {
            self.parts.push_back(part);
        }
        Ok(())
    }
}

impl Part {
    /// Nothing of an answer.
    pub(super) fn empty(choice: usize) -> Self {
        Self { choice, text: String::new(), tokens: Vec::new(), end: None }
    }
}

impl Answer {
    /// Whether what was not told is worth a judgement: a sentence, a line, or much text.
    fn judge_now(&self) -> bool {
        let new = &self.text[self.told..];
        new.len() >= JUDGED_AT_ONCE || new.trim_end_matches(' ').ends_with(['.', '!', '?', '\n'])
    }

    /// Everything that was not told.
    fn tell(&mut self, choice: usize, end: Option<End>) -> Part {
        let text = self.text[self.told..].to_owned();
        self.told = self.text.len();
        let begun = self.tokens.partition_point(|token| token.start < self.told);
        Part { choice, text, tokens: self.tokens.drain(..begun).collect(), end }
    }
}
