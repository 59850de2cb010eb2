//! What a request hears of its answers.

use std::collections::VecDeque;
use std::time::Instant;

use cai_model::generate::{Event, Finish};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::api::ApiError;

/// What one step brought a request.
pub(super) type Batch = Result<Vec<Piece>, ApiError>;

/// Some more of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Which answer.
    pub choice: usize,
    /// Text that is certain: whole characters, nothing that may begin a stop string.
    pub text: String,
    /// The token that brought it.
    pub token: Option<Token>,
    /// Whether the answer has ended.
    pub finished: Option<Finished>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// `log p` under the model itself.
    pub logprob: f32,
    /// The most likely tokens, as many as asked for.
    pub top: Vec<(u32, f32)>,
}

/// How an answer ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Why.
    pub finish: Finish,
    /// Tokens of the answer.
    pub tokens: usize,
}

pub(super) fn piece(event: Event) -> Piece {
    match event {
        Event::Token { sample, token, text, logprob, top, .. } => {
            let token = Some(Token { id: token, logprob, top });
            Piece { choice: sample, text, token, finished: None }
        }
        Event::Finished { sample, text, generation, .. } => {
            let finished = Finished { finish: generation.finish, tokens: generation.ids.len() };
            Piece { choice: sample, text, token: None, finished: Some(finished) }
        }
    }
}

/// Answers under way. Dropping it ends them and frees their places.
pub struct Generating {
    pieces: UnboundedReceiver<Batch>,
    ready: VecDeque<Piece>,
    prompt_tokens: usize,
    /// Answers that have not ended.
    left: usize,
    deadline: Instant,
    stopped: watch::Receiver<bool>,
    /// One for each answer.
    places: OwnedSemaphorePermit,
}

impl Generating {
    pub(super) fn new(
        pieces: UnboundedReceiver<Batch>,
        prompt_tokens: usize,
        places: OwnedSemaphorePermit,
        deadline: Instant,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (ready, left) = (VecDeque::new(), places.num_permits());
        Self { pieces, ready, prompt_tokens, left, deadline, stopped, places }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Number of answers.
    pub fn choices(&self) -> usize {
        self.places.num_permits()
    }

    /// The next piece of any of the answers; `None` when all have ended.
    ///
    /// # Errors
    ///
    /// 400 when the model cannot serve the request, 500 when it failed, 503 when the server ends,
    /// 504 when the time is over. There is nothing after an error.
    pub async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        if self.ready.is_empty() && self.left > 0 {
            let deadline = self.deadline.into();
            let batch = tokio::select! {
                biased;
                batch = self.pieces.recv() => batch,
                _ = self.stopped.wait_for(|stopped| *stopped) => return Err(ApiError::stopping()),
                () = tokio::time::sleep_until(deadline) => return Err(ApiError::timeout()),
            };
            let gone = || ApiError::internal("the thread that generates has ended");
            self.ready.extend(batch.ok_or_else(gone)??);
        }
        let piece = self.ready.pop_front();
        if piece.as_ref().is_some_and(|piece| piece.finished.is_some()) {
            self.left -= 1;
        }
        Ok(piece)
    }
}
