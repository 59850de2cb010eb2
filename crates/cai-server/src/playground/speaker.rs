//! A served model as critique and revision know models: what it writes is told as it grows.

use std::cell::RefCell;

use cai_chat::{Answered, Ask, ChatModel, Error, Reply, Result, Unanswered};
use cai_data::record::Message;
use cai_model::generate::{Finish, SamplingConfig};
use serde_json::json;
use tokio::runtime::Handle;

use crate::api::sse::{Sender, Stop};
use crate::models::{Model, Models};

/// A model that answers through the server's queue, in the batch with everybody's requests.
pub(super) struct Speaker<'a> {
    models: &'a Models,
    model: &'a Model,
    runtime: &'a Handle,
    sender: &'a Sender,
    /// Why it was interrupted: the crate that asks has no error for that.
    stopped: RefCell<Option<Stop>>,
}

impl<'a> Speaker<'a> {
    /// `sender` hears every piece of text. Only for threads that may wait.
    pub(super) fn new(
        models: &'a Models,
        model: &'a Model,
        runtime: &'a Handle,
        sender: &'a Sender,
    ) -> Self {
        Self { models, model, runtime, sender, stopped: RefCell::new(None) }
    }

    /// Why the work ended early, if the server or the client ended it.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped.take()
    }

    fn reply(
        &self,
        ask: &Ask,
        sampling: &SamplingConfig,
    ) -> std::result::Result<Answered<Reply>, Stop> {
        let prompt = self.model.prompt(&ask.dialogue)?;
        if prompt.len() + sampling.max_new_tokens > self.model.room() {
            return Ok(Err(Unanswered::NoRoom));
        }
        let seeds = vec![ask.seed];
        let mut answer = self.models.continue_ids(self.model, prompt, sampling.clone(), seeds)?;
        let (mut text, mut ids, mut finish) = (String::new(), Vec::new(), Finish::Stop);
        while let Some(piece) = self.runtime.block_on(answer.next())? {
            if !piece.text.is_empty() {
                let event = json!({"step": "text", "text": piece.text});
                self.runtime.block_on(self.sender.send(&event))?;
            }
            text.push_str(&piece.text);
            ids.extend(piece.token.map(|token| token.id));
            finish = piece.finished.map_or(finish, |finished| finished.finish);
        }
        Ok(Ok(Reply::generated(self.model.tokenizer(), &text, &ids, finish)))
    }
}

impl ChatModel for Speaker<'_> {
    fn fingerprint(&self) -> &str {
        &self.model.fingerprint
    }

    fn obstacle(
        &self,
        dialogue: &[Message],
        sampling: &SamplingConfig,
    ) -> Result<Option<&'static str>> {
        Ok(match self.model.prompt(dialogue) {
            Err(_) => Some("template_refused"),
            Ok(ids) if ids.len() + sampling.max_new_tokens > self.model.room() => {
                Some("prompt_too_long")
            }
            Ok(_) => None,
        })
    }

    fn replies(
        &self,
        asks: &[Ask],
        sampling: &SamplingConfig,
        _: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<Reply>>> {
        let mut replies = Vec::with_capacity(asks.len());
        for ask in asks {
            let reply = self.reply(ask, sampling).map_err(|stop| {
                *self.stopped.borrow_mut() = Some(stop);
                Error::Setting { key: "playground", reason: "interrupted".into() }
            })?;
            replies.push(reply);
            on_done(1);
        }
        Ok(replies)
    }

    /// The page asks for no comparisons: there is never an answer.
    fn choices(
        &self,
        asks: &[Ask],
        _: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<f64>>> {
        on_done(asks.len());
        Ok(vec![Err(Unanswered::NoAnswer); asks.len()])
    }
}
