//! The tokenizer of a chat model, whatever its family.
//!
//! No token is wired in. What begins a text, what ends it and what fills up batches is what the
//! tokenizer's files say; what ends a turn is what the chat template puts there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cai_data::record::Message;
use minijinja::Value;
use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::TokenizerParts;
use super::choice::{CHATML, GEMMA_CHAT_TEMPLATE, PLAIN, TemplateChoice};
use super::controls::{Controls, Piece, declare_specials};
use super::specials::Specials;
use super::template::{ChatTemplate, default_template, token_names};
use crate::error::{Error, Result};

/// A tokenizer with the chat template and the special tokens of its model. Cheap to clone.
#[derive(Clone)]
pub struct ChatTokenizer {
    /// In a mode in which the text of a control token is only text.
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) controls: Arc<Controls>,
    pub(super) vocab_size: usize,
    pub(super) path: PathBuf,
    /// What a template can name: `bos_token` and so on.
    token_names: Value,
    specials: Specials,
    eos: u32,
    /// The template, or why there is none.
    template: std::result::Result<Arc<ChatTemplate>, String>,
    turn: Turn,
    stop_texts: Vec<String>,
}

/// What the chat template places around a turn.
#[derive(Clone, Default)]
struct Turn {
    /// The first control token after the assistant's words.
    end: Option<u32>,
    /// All control tokens, but for the one that begins the text.
    controls: Vec<u32>,
}

impl ChatTokenizer {
    /// The tokenizer of a model's folder.
    ///
    /// # Errors
    /// As [`TokenizerParts::read`] and [`ChatTokenizer::new`].
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Self::new(TokenizerParts::read(dir)?)
    }

    /// The tokenizer made of these parts. A chat template that is missing or cannot be rendered is
    /// an error where it is first used, so that [`with_choice`](Self::with_choice) can put another
    /// in its place.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when a special token that the config names is not in the tokenizer, or
    /// nothing says what ends a text.
    pub fn new(parts: TokenizerParts) -> Result<Self> {
        let TokenizerParts { mut tokenizer, config, generation, template, path } = parts;
        let fail = |reason: String| Error::Tokenizer { path: path.clone(), reason };
        // Lengths are the caller's business: a limit saved in the file must not cut text here.
        tokenizer.with_truncation(None).map_err(|error| fail(error.to_string()))?;
        tokenizer.with_padding(None);
        declare_specials(&mut tokenizer, &config).map_err(|error| fail(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);

        let bare = ChatTokenizer {
            controls: Arc::new(Controls::of(&tokenizer).map_err(fail)?),
            specials: Specials::of(&tokenizer, &config, &generation).map_err(fail)?,
            token_names: token_names(&config),
            vocab_size: highest_id(&tokenizer).map_or(0, |id| id as usize + 1),
            tokenizer: Arc::new(tokenizer),
            path: path.clone(),
            eos: 0,
            template: Err(NO_TEMPLATE.into()),
            turn: Turn::default(),
            stop_texts: Vec::new(),
        };
        let chat = match template.or_else(|| default_template(&config["chat_template"])) {
            None => bare,
            Some(source) => match bare.clone().with_template(source) {
                Ok(chat) => chat,
                Err(Error::Template { reason }) => Self { template: Err(reason), ..bare },
                Err(error) => return Err(error),
            },
        };
        match chat.text_end() {
            Some(eos) => Ok(Self { eos, ..chat }),
            None => Err(fail(
                "nothing says which token ends a text; name it as `eos_token` in \
                 tokenizer_config.json, or its id as `eos_token_id` in generation_config.json"
                    .into(),
            )),
        }
    }

    /// The tokenizer with another chat template, and what a conversation that is rendered with it
    /// shows about it.
    ///
    /// # Errors
    /// [`Error::Template`] when `source` is not valid Jinja or refuses a conversation.
    pub fn with_template(self, source: String) -> Result<Self> {
        let plain = source.trim_end().ends_with(PLAIN.trim_end());
        let template = ChatTemplate::new(source, self.token_names.clone())?;
        let with = Self {
            template: Ok(Arc::new(template)),
            // A model that was not fine-tuned on such turns goes on with the next one.
            stop_texts: if plain { vec!["\n\nHuman:".to_owned()] } else { Vec::new() },
            ..self
        };
        Ok(Self { turn: with.turn()?, ..with })
    }

    /// The tokenizer with a chat template by name, or the one in a file.
    ///
    /// # Errors
    /// As [`with_template`](Self::with_template); [`Error::Template`] when the tokenizer lacks a
    /// control token that the template places or the file cannot be read.
    pub fn with_choice(self, choice: &TemplateChoice) -> Result<Self> {
        let (source, placed) = match choice {
            TemplateChoice::Gemma => (GEMMA_CHAT_TEMPLATE, ["<start_of_turn>", "<end_of_turn>"]),
            TemplateChoice::Chatml => (CHATML, ["<|im_start|>", "<|im_end|>"]),
            TemplateChoice::Plain => return self.plain(),
            TemplateChoice::File(path) => return self.with_template(template_file(path)?),
        };
        let lacking: Vec<&str> =
            placed.into_iter().filter(|token| self.controls.lacks(token)).collect();
        if !lacking.is_empty() {
            let reason = format!(
                "`{choice}` needs the control tokens {}, which {} does not have; choose another, \
                 such as `plain`, which needs none",
                lacking.join(" and "),
                self.path.display()
            );
            return Err(Error::Template { reason });
        }
        self.with_template(source.to_owned())
    }

    /// Turns as text alone. The template says itself what ends a text, so that it means the same
    /// wherever it is saved.
    fn plain(self) -> Result<Self> {
        let end = Json::from(self.name(self.eos));
        self.with_template(format!("{{%- set end_of_text = {end} -%}}\n{PLAIN}"))
    }

    /// What the chat template places around turns, seen by rendering some.
    fn turn(&self) -> Result<Turn> {
        let (question, answer) = ("Which way?", "Straight on.");
        let chat = [Message::user(question), Message::assistant(answer), Message::user(question)];
        let control = |piece: &Piece| match piece {
            Piece::Control(id) => Some(*id),
            Piece::Text(_) => None,
        };
        let answered = self.pieces(&chat[..2], false)?;
        let holds_answer = |p: &Piece| matches!(p, Piece::Text(text) if text.contains(answer));
        let at = answered.iter().rposition(holds_answer);
        let end = at.and_then(|at| answered[at..].iter().find_map(control));

        let mut controls: Vec<u32> = Vec::new();
        for id in self.pieces(&chat, true)?.iter().filter_map(control) {
            if Some(id) != self.bos() && !controls.contains(&id) {
                controls.push(id);
            }
        }
        Ok(Turn { end, controls })
    }

    /// What ends a text rather than a turn: of the ids that the files name, the first that is a
    /// control token and not the chat template's. A model that has one alone ends both with it, and
    /// so does plain text.
    fn text_end(&self) -> Option<u32> {
        if !self.stop_texts.is_empty() {
            return self.turn.end;
        }
        let ends = &self.specials.ends;
        let other = |id: &&u32| self.turn.end != Some(**id) && self.controls.has(**id);
        ends.iter().find(other).or(ends.first()).copied().or(self.turn.end)
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`Error::Template`] that says why the model has none, and what to do.
    pub fn template(&self) -> Result<&ChatTemplate> {
        match &self.template {
            Ok(template) => Ok(template),
            Err(reason) => Err(Error::Template { reason: reason.clone() }),
        }
    }

    /// The chat as the template renders it; with `add_generation_prompt` up to where the
    /// assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] when the template refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.template()?.render(messages, add_generation_prompt)
    }

    /// The ids of `text` as it is: nothing is added, and control tokens in it are only text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer has no token for a character, which one with byte
    /// fallback always has.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.tokenizer.encode_fast(text, false).map_err(|error| self.failed(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text in which `<bos>`, `<end_of_turn>` and so on stand for control tokens. For
    /// texts that no user wrote, such as a rendered template.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_pieces(self.controls.cut(text))?.ids)
    }

    /// The text of `ids`, without control tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| self.failed(error))
    }

    /// The text of `ids`, control tokens included.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, false).map_err(|error| self.failed(error))
    }

    /// The token that the tokenizer puts before every text and chat, if it does.
    pub fn bos(&self) -> Option<u32> {
        self.specials.bos
    }

    /// The token that ends a text; in a model that has no other, the one that ends a turn.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that fills up batches: `pad_token`, or else the one for what is unknown, or the end
    /// of a text. What it is decides nothing, since masks go by lengths.
    pub fn pad(&self) -> u32 {
        self.specials.pad.unwrap_or(self.eos)
    }

    /// The token that ends a turn of a chat, if the template ends it with one.
    pub fn end_of_turn(&self) -> Option<u32> {
        self.turn.end
    }

    /// The control tokens that the template places in and around turns, in order of appearance.
    pub fn control_ids(&self) -> &[u32] {
        &self.turn.controls
    }

    /// The tokens at which generation stops, ascending: the end of a turn, and every end that the
    /// tokenizer and the generation config name.
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.turn.end.into_iter().chain(self.specials.ends.clone()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The texts at which generation stops, with templates that end turns by text.
    pub fn stop_texts(&self) -> &[String] {
        &self.stop_texts
    }

    fn failed(&self, error: tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

const NO_TEMPLATE: &str = "the model has none: neither chat_template.jinja nor `chat_template` in \
                           tokenizer_config.json (in a list, the one named `default`). Set \
                           `chat_template` to `plain`, which a pre-trained model understands, to \
                           `gemma` or `chatml`, or to a Jinja file";

fn highest_id(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.get_vocab(true).into_values().max()
}

fn template_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::Template {
        reason: format!(
            "{}: {error}; give `gemma`, `chatml`, `plain` or the path of a Jinja file",
            path.display()
        ),
    })
}

impl fmt::Debug for ChatTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTokenizer")
            .field("path", &self.path)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}
