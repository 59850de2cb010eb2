//! Conversations as ids: where the prompt ends, and which tokens are trained.
//!
//! How a chat becomes ids: the template is rendered, and the rendered text is cut at the control
//! tokens that the template placed. Each stretch between two of them is encoded as plain text, in
//! which the tokenizer recognises no control token. That gives the ids of the whole text encoded
//! at once, since a tokenizer cuts at control tokens first, too. Where a message itself contains
//! the text of a control token, a placeholder stands for it while the text is rendered and cut.

use cai_data::record::{Message, Role};

use super::controls::Piece;
use super::{ChatTokenizer, Example};
use crate::error::{Error, Result};

/// Which assistant turns of a conversation are trained.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turns {
    /// Every one.
    All,
    /// The last one.
    Last,
}

impl ChatTokenizer {
    /// The ids of a chat up to where the assistant's answer begins, with [`bos`](Self::bos) exactly once.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>> {
        Ok(self.encode_pieces(self.pieces(messages, true)?)?.ids)
    }

    /// The ids of a chat, with [`bos`](Self::bos) exactly once, and which of them are trained.
    ///
    /// A trained turn begins where the ids leave those of the prompt before it (the chat so far
    /// with the generation prompt), so that a token merged across that border belongs to the turn:
    /// TRL's rule.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation, or no turn is the
    /// assistant's.
    pub fn conversation(&self, messages: &[Message], train: Turns) -> Result<Example> {
        let mut turns: Vec<usize> =
            (0..messages.len()).filter(|&i| messages[i].role == Role::Assistant).collect();
        let Some(&last) = turns.last() else {
            let reason = "the conversation has no assistant turn to train".to_owned();
            return Err(Error::Template { reason });
        };
        if train == Turns::Last {
            turns = vec![last];
        }
        let whole = self.encode_pieces(self.pieces(messages, false)?)?;
        let mut trained = vec![false; whole.ids.len()];
        for turn in turns {
            let start = self.shared(&whole, self.pieces(&messages[..turn], true)?)?;
            let end = if turn + 1 == messages.len() {
                whole.ids.len()
            } else {
                self.shared(&whole, self.pieces(&messages[..=turn], false)?)?
            };
            // A template may render a turn differently once others follow: then nothing is shared.
            if let Some(turn) = trained.get_mut(start..end) {
                turn.fill(true);
            }
        }
        if !trained.contains(&true) {
            let reason = "the chat template leaves no token of the assistant to train: it renders \
                          the turns before an answer differently once the answer follows"
                .to_owned();
            return Err(Error::Template { reason });
        }
        Ok(Example { ids: whole.ids, trained })
    }

    /// The chat of `prompt` and `completion`, of which the completion is trained.
    ///
    /// # Errors
    /// [`Error::Template`] when the completion is not one assistant turn or the template refuses
    /// the conversation.
    pub fn completion(&self, prompt: &[Message], completion: &[Message]) -> Result<Example> {
        if !matches!(completion, [Message { role: Role::Assistant, .. }]) {
            let turns = completion.len();
            let reason = format!(
                "a completion is one assistant turn, this one has {turns} turns; put the turns \
                 before it into the prompt"
            );
            return Err(Error::Template { reason });
        }
        self.conversation(&[prompt, completion].concat(), Turns::Last)
    }

    /// `completion` after `prompt` as plain texts without a chat template; the completion's tokens are
    /// trained. A token that merges the two belongs to the completion, as in TRL.
    ///
    /// # Errors
    ///
    /// As [`Self::encode`].
    pub fn text_completion(&self, prompt: &str, completion: &str) -> Result<Example> {
        let with_bos = |text: &str| -> Result<Vec<u32>> {
            Ok(self.bos().into_iter().chain(self.encode(text)?).collect())
        };
        let before = with_bos(prompt)?;
        let ids = with_bos(&format!("{prompt}{completion}"))?;
        let common = before.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        let trained = (0..ids.len()).map(|i| i >= common).collect();
        Ok(Example { ids, trained })
    }

    /// The rendered chat cut at the template's control tokens, with [`bos`](Self::bos) exactly once.
    pub(super) fn pieces(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<Piece>> {
        let template = self.template()?;
        let shield = self.controls.shield(messages, template.source())?;
        let rendered = match &shield {
            Some((shielded, _)) => template.render(shielded, add_generation_prompt)?,
            None => template.render(messages, add_generation_prompt)?,
        };
        let mut pieces = self.controls.cut(&rendered);
        if let Some((_, mark)) = shield {
            for piece in &mut pieces {
                if let Piece::Text(text) = piece {
                    *text = self.controls.unshield(text, mark);
                }
            }
        }
        if let Some(bos) = self.bos() {
            let begins = |piece: &Piece| *piece == Piece::Control(bos);
            match pieces.iter().skip_while(|piece| !begins(piece)).take_while(|p| begins(p)).count()
            {
                0 => pieces.insert(0, Piece::Control(bos)),
                1 => {}
                count => {
                    let reason = format!("it begins the text {count} times; once is right");
                    return Err(Error::Template { reason });
                }
            }
        }
        Ok(pieces)
    }

    pub(super) fn encode_pieces(&self, pieces: Vec<Piece>) -> Result<Encoded> {
        let mut encoded = Encoded { ids: Vec::new(), pieces: Vec::with_capacity(pieces.len()) };
        for piece in pieces {
            match &piece {
                Piece::Control(id) => encoded.ids.push(*id),
                Piece::Text(text) => encoded.ids.extend(self.encode(text)?),
            }
            encoded.pieces.push((piece, encoded.ids.len()));
        }
        Ok(encoded)
    }

    /// How many ids `whole` and the ids of `other` have in common at their beginnings.
    fn shared(&self, whole: &Encoded, other: Vec<Piece>) -> Result<usize> {
        let mut start = 0;
        for ((piece, end), other) in whole.pieces.iter().zip(other) {
            if *piece != other {
                if let (Piece::Text(_), Piece::Text(text)) = (piece, other) {
                    let ids = self.encode(&text)?;
                    start +=
                        whole.ids[start..*end].iter().zip(&ids).take_while(|(a, b)| a == b).count();
                }
                break;
            }
            start = *end;
        }
        Ok(start)
    }
}

/// Pieces with the position in `ids` at which each ends.
pub(super) struct Encoded {
    pub(super) ids: Vec<u32>,
    pieces: Vec<(Piece, usize)>,
}
