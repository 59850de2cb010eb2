use std::sync::Arc;

use super::{
    Event, Finish, Generation, Request, RequestId,
    choose::{Choice, choose},
    stream::TextStream,
};
use crate::{Result, tokenizer::ChatTokenizer};

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
    /// As many as the tokenizer has.
    tokens: usize,
    /// The texts that end it: the request's and the chat template's.
    stops: Vec<String>,
}

impl Sequence {
    pub(super) fn new(
        request: RequestId,
        sample: usize,
        settings: Arc<Request>,
        tokenizer: &ChatTokenizer,
    ) -> Self {
        let stops = [&settings.sampling.stop, tokenizer.stop_texts()].concat();
        Self {
            request,
            sample,
            settings,
            ids: Vec::new(),
            logprob: 0.0,
            token_logprobs: Vec::new(),
            top_logprobs: Vec::new(),
            text: TextStream::new(tokenizer.clone()),
            tokens: tokenizer.vocab_size(),
            stops,
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
        choose(logits, self.tokens, [prompt, &self.ids], sampling, seed)
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
        let piece = self.text.push(token, &self.stops)?;
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
                let rest = self.text.finish(&self.stops)?;
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

#[cfg(test)]
mod tests {
    use cai_data::{record::Message, seed::Seed};

    use super::*;
    use crate::generate::SamplingConfig;
    use crate::tokenizer::{GEMMA_CHAT_TEMPLATE, TemplateChoice, train_bpe};

    #[test]
    fn the_next_turn_of_a_plain_chat_ends_a_reply() {
        let dir = tempfile::tempdir().unwrap();
        let texts = ["Bread, please.".to_owned()].into_iter();
        train_bpe(texts, 400, GEMMA_CHAT_TEMPLATE, dir.path()).unwrap();
        let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
        let plain = tokenizer.with_choice(&TemplateChoice::Plain).unwrap();
        let request = Arc::new(Request {
            prompt: plain.prompt(&[Message::user("What?")]).unwrap(),
            sampling: SamplingConfig { stop: vec!["never".into()], ..SamplingConfig::greedy(99) },
            seeds: vec![Seed(0)],
        });
        let mut events = Vec::new();
        let mut sequence = Some(Sequence::new(RequestId(0), 0, request, &plain));
        for token in plain.encode(" Bread, please.\n\nHuman: And butter").unwrap() {
            let Some(going) = sequence else { break };
            let choice = Choice { token, logprob: 0.0, top: Vec::new() };
            sequence = going.add(choice, &plain.stop_ids(), &mut events).unwrap();
        }
        assert!(sequence.is_none());
        let Some(Event::Finished { generation, .. }) = events.pop() else { panic!("{events:?}") };
        assert_eq!(generation.text, " Bread, please.");
        assert_eq!(generation.finish, Finish::StopString);
    }
}
