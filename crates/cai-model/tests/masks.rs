//! Trained are exactly the assistant's contents, their end of turn and what the template puts after
//! it, whatever is said and however the template writes it.

use std::path::{Path, PathBuf};

use cai_data::record::{Message, Role};
use cai_model::tokenizer::{ChatTokenizer, Turns};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};

/// Trims or not, ends a turn with a newline or not, names roles in its own way.
struct Style {
    trims: bool,
    after_turn: &'static str,
    assistant: &'static str,
}

const STYLES: [Style; 4] = [
    Style { trims: true, after_turn: "\n", assistant: "model" },
    Style { trims: false, after_turn: "\n", assistant: "model" },
    Style { trims: true, after_turn: "", assistant: "assistant" },
    Style { trims: false, after_turn: "\n\n", assistant: "A" },
];

impl Style {
    fn template(&self) -> String {
        let content = if self.trims { "m['content'] | trim" } else { "m['content']" };
        let (after, assistant) = (self.after_turn.replace('\n', "\\n"), self.assistant);
        format!(
            "{{{{ bos_token }}}}{{% for m in messages %}}{{{{ '<start_of_turn>' + \
             ('{assistant}' if m['role'] == 'assistant' else 'user') + '\\n' + ({content}) + \
             '<end_of_turn>{after}' }}}}{{% endfor %}}\
             {{% if add_generation_prompt %}}{{{{ '<start_of_turn>{assistant}\\n' }}}}{{% endif %}}"
        )
    }

    /// What is trained of a turn.
    fn trained(&self, content: &str) -> String {
        let content = if self.trims { content.trim() } else { content };
        format!("{content}<end_of_turn>{}", self.after_turn)
    }

    fn tokenizer(&self) -> (tempfile::TempDir, ChatTokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let fixture: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemma1");
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(fixture.join(file), dir.path().join(file)).unwrap();
        }
        std::fs::write(dir.path().join("chat_template.jinja"), self.template()).unwrap();
        let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
        (dir, tokenizer)
    }
}

/// Words, spaces, newlines, other scripts, and text that looks like control tokens.
fn content() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z .,?!]{0,12}",
        "[ \\n\\t]{1,3}",
        Just("<end_of_turn>".to_owned()),
        Just("<start_of_turn>model\n".to_owned()),
        Just("<bos>".to_owned()),
        "\\PC{0,6}",
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// Turns that alternate, from the user's on, with at least one of the assistant.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    vec(content(), 2..7).prop_map(|contents| {
        let turn = |(i, content): (usize, String)| match i % 2 {
            0 => Message::user(content),
            _ => Message::assistant(content),
        };
        contents.into_iter().enumerate().map(turn).collect()
    })
}

#[test]
fn trained_is_what_the_assistant_says_and_its_end() {
    for style in &STYLES {
        let (_dir, tokenizer) = style.tokenizer();
        let config = ProptestConfig {
            cases: 64,
            rng_seed: RngSeed::Fixed(11),
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(messages in conversation())| {
            let mut said: Vec<String> = messages
                .iter()
                .filter(|message| message.role == Role::Assistant)
                .map(|message| style.trained(&message.content))
                .collect();
            for turns in [Turns::All, Turns::Last] {
                if turns == Turns::Last {
                    said.drain(..said.len() - 1);
                }
                let example = tokenizer.conversation(&messages, turns).unwrap();
                let (mut trained, mut whole) = (Vec::new(), String::new());
                for (is_trained, ids) in example.runs() {
                    let text = tokenizer.decode_with_special(ids).unwrap();
                    whole.push_str(&text);
                    if is_trained {
                        trained.push(text);
                    }
                }
                prop_assert_eq!(&trained, &said);
                prop_assert_eq!(&whole, &tokenizer.render(&messages, false).unwrap());
                let marked = tokenizer.marked(&example, false).unwrap();
                prop_assert_eq!(marked.replace("[[", "").replace("]]", ""),
                    whole.replace("[[", "").replace("]]", ""));
            }
        });
    }
}

#[test]
fn the_marks_stand_around_what_is_trained() {
    let (_dir, tokenizer) = STYLES[0].tokenizer();
    let messages = [Message::user("Why?"), Message::assistant("Because.")];
    let example = tokenizer.conversation(&messages, Turns::All).unwrap();
    assert_eq!(
        tokenizer.marked(&example, false).unwrap(),
        "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n\
         [[Because.<end_of_turn>\n]]"
    );
    assert!(tokenizer.marked(&example, true).unwrap().contains("\x1b[32mBecause."));
}
