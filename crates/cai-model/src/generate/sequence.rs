use std::sync::Arc;

use super::{
    Event, Finish, Generation, Request, RequestId,
    choose::{Choice, choose},
    stream::TextStream,
};
use crate::{Result, model::LanguageModel};

/// One sample of a request, under way.
pub(super) struct Sequence {
    pub(super) request: RequestId,
    sample: usize,
    settings: Arc<Request>,
    ids: Vec<u32>,
    logprob: f64,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Vec<(u32, f32)>>,
    text: TextStream,
}

impl Sequence {
    pub(super) fn new(
        request: RequestId,
        sample: usize,
        settings: Arc<Request>,
        model: &LanguageModel,
    ) -> Self {
        Self {
            request,
            sample,
            settings,
            ids: Vec::new(),
            logprob: 0.0,
            token_logprobs: Vec::new(),
            top_logprobs: Vec::new(),
            text: TextStream::new(model.tokenizer.clone()),
        }
    }

    /// The token that the model reads next.
    pub(super) fn last(&self) -> Option<u32> {
        self.ids.last().or(self.settings.prompt.last()).copied()
    }

    /// The next token, from the logits after the last one.
    pub(super) fn choose(&self, logits: &[f32]) -> Result<Choice> {
        let Request { prompt, sampling, seeds } = &*self.settings;
        let seed = seeds[self.sample].index(self.ids.len() as u64);
        choose(logits, [prompt, &self.ids], sampling, seed)
    }

    /// Adds a token and tells it; gives the sequence back unless it has ended.
    pub(super) fn add(
        mut self,
        choice: Choice,
        model_stops: &[u32],
        events: &mut Vec<Event>,
    ) -> Result<Option<Self>> {
        let settings = self.settings.clone();
        let sampling = &settings.sampling;
        let Choice { token, logprob, top } = choice;
        self.logprob += logprob;
        self.token_logprobs.push(logprob as f32);
        if sampling.logprobs.is_some() {
            self.top_logprobs.push(top.clone());
        }
        if model_stops.contains(&token) || sampling.stop_token_ids.contains(&token) {
            self.end(Finish::Stop, events)?;
            return Ok(None);
        }
        self.ids.push(token);
        let piece = self.text.push(token, &sampling.stop)?;
        let (request, sample, logprob) = (self.request, self.sample, logprob as f32);
        events.push(Event::Token { request, sample, token, text: piece.text, logprob, top });
        if piece.stopped {
            self.end(Finish::StopString, events)?;
            return Ok(None);
        }
        if self.ids.len() >= sampling.max_new_tokens {
            self.end(Finish::Length, events)?;
            return Ok(None);
        }
        Ok(Some(self))
    }

    fn end(mut self, finish: Finish, events: &mut Vec<Event>) -> Result<()> {
        let (text, finish) = match finish {
            Finish::StopString => (String::new(), finish),
            Finish::Stop | Finish::Length => {
                let rest = self.text.finish(&self.settings.sampling.stop)?;
                (rest.text, if rest.stopped { Finish::StopString } else { finish })
            }
        };
        let generation = Generation {
            text: self.text.into_text(),
            ids: self.ids,
            logprob: self.logprob,
            token_logprobs: self.token_logprobs,
            top_logprobs: self.top_logprobs,
            finish,
        };
        let (request, sample) = (self.request, self.sample);
        events.push(Event::Finished { request, sample, text, generation });
        Ok(())
    }
}
