//! Tokenizers and chat templates of all families: the same ids as transformers, and what the
//! template of each places around turns.

#[path = "common/tokenizers.rs"]
mod tokenizers;

use std::path::{Path, PathBuf};

use cai_data::record::Message;
use cai_model::tokenizer::{ChatTokenizer, TemplateChoice, Turns};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tokenizer(family: &str) -> ChatTokenizer {
    ChatTokenizer::from_dir(&fixture(family)).unwrap()
}

fn chat() -> [Message; 4] {
    let [ask, answer] = [Message::user("Hi"), Message::assistant("A safe language.")];
    [ask.clone(), answer.clone(), ask, answer]
}

fn agrees(folder: &Path) {
    let json = std::fs::read(folder.join("reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&json).unwrap();
    tokenizers::ids_agree(&ChatTokenizer::from_dir(folder).unwrap(), &reference);
}

#[test]
fn ids_are_those_of_transformers() {
    for family in ["gemma1", "gemma3", "gemma4", "llama", "qwen2", "qwen3"] {
        agrees(&fixture(family));
    }
}

#[test]
#[ignore = "needs CAI_PARITY_DIR, a folder of reference folders"]
fn ids_are_those_of_transformers_in_other_folders() {
    for entry in std::fs::read_dir(std::env::var("CAI_PARITY_DIR").unwrap()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.join("reference.json").exists() {
            println!("{}", folder.display());
            agrees(&folder);
        }
    }
}

#[test]
fn special_tokens_are_what_files_and_template_say() {
    for (family, bos, end, text_end, controls) in [
        ("gemma1", Some("<bos>"), "<end_of_turn>", "<eos>", "<start_of_turn> <end_of_turn>"),
        ("gemma4", Some("<bos>"), "<turn|>", "<eos>", "<|turn> <turn|>"),
        (
            "llama",
            Some("<|begin_of_text|>"),
            "<|eot_id|>",
            "<|end_of_text|>",
            "<|start_header_id|> <|end_header_id|> <|eot_id|>",
        ),
        ("qwen2", None, "<|im_end|>", "<|endoftext|>", "<|im_start|> <|im_end|>"),
        ("qwen3", None, "<|im_end|>", "<|endoftext|>", "<|im_start|> <|im_end|>"),
    ] {
        let tokenizer = tokenizer(family);
        let name = |id| tokenizer.name(id).unwrap();
        assert_eq!(tokenizer.bos().map(name).as_deref(), bos, "{family}");
        assert_eq!(tokenizer.end_of_turn().map(name).as_deref(), Some(end), "{family}");
        assert_eq!(name(tokenizer.eos()), text_end, "{family}");
        let mut stops = [end, text_end].map(|token| tokenizer.id(token).unwrap());
        stops.sort();
        assert_eq!(tokenizer.stop_ids(), stops, "{family}");
        let placed: Vec<String> = tokenizer.control_ids().iter().copied().map(name).collect();
        assert_eq!(placed.join(" "), controls, "{family}");
    }
}

#[test]
fn what_is_trained_is_the_turn_as_the_template_writes_it() {
    for (family, turn) in [
        ("gemma4", "[[A safe language.<turn|>\n]]"),
        ("llama", "[[A safe language.<|eot_id|>]]"),
        ("qwen2", "[[A safe language.<|im_end|>\n]]"),
        ("qwen3", "[[<think>\n\n</think>\n\nA safe language.<|im_end|>\n]]"),
    ] {
        let tokenizer = tokenizer(family);
        let example = tokenizer.conversation(&chat(), Turns::Last).unwrap();
        let marked = tokenizer.marked(&example, false).unwrap();
        assert!(marked.ends_with(turn), "{family}: {marked}");
        assert_eq!(marked.matches("[[").count(), 1, "{family}: {marked}");
        let prompt = tokenizer.prompt(&chat()[..3]).unwrap();
        assert_eq!(example.ids[..prompt.len()], prompt, "{family}");
    }
}

#[test]
fn a_beginning_that_stands_at_each_turn_is_none() {
    // As SmolLM2: <|im_start|> is its bos_token, and the tokenizer puts nothing before a text.
    let dir = tempfile::tempdir().unwrap();
    let source = fixture("qwen2");
    for file in ["tokenizer.json", "chat_template.jinja"] {
        std::fs::copy(source.join(file), dir.path().join(file)).unwrap();
    }
    let config =
        r#"{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let smol = ChatTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(smol.bos(), None);
    assert_eq!(
        smol.prompt(&chat()[..3]).unwrap(),
        tokenizer("qwen2").prompt(&chat()[..3]).unwrap()
    );
    assert_eq!(smol.stop_ids(), [smol.pad()]);
    assert_eq!([smol.eos(), smol.end_of_turn().unwrap()], [smol.pad(); 2]);
}

#[test]
fn byte_level_tokens_are_bytes() {
    for family in ["llama", "qwen3", "gemma4"] {
        let tokenizer = tokenizer(family);
        let text = "naïve – 42 ✓\n\t漢字 🦀 x";
        let ids = tokenizer.encode(text).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), text, "{family}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{family}");
        assert!(tokenizer.token_bytes(tokenizer.end_of_turn().unwrap()).is_empty());
        assert!(tokenizer.token_bytes(u32::MAX).is_empty());
    }
}

#[test]
fn templates_by_name_serve_every_family_that_has_their_tokens() {
    let qwen = tokenizer("qwen3").with_choice(&TemplateChoice::Chatml).unwrap();
    let example = qwen.conversation(&chat(), Turns::All).unwrap();
    let turns =
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[[A safe language.<|im_end|>\n]]";
    assert_eq!(qwen.marked(&example, false).unwrap(), turns.repeat(2));

    for (family, begin, end) in [
        ("gemma4", "<bos>", "<eos>"),
        ("llama", "<|begin_of_text|>", "<|end_of_text|>"),
        ("qwen3", "", "<|endoftext|>"),
    ] {
        let plain = tokenizer(family).with_choice(&TemplateChoice::Plain).unwrap();
        let example = plain.conversation(&chat(), Turns::All).unwrap();
        let turns = format!("\n\nHuman: Hi\n\nAssistant:[[ A safe language.{end}]]").repeat(2);
        assert_eq!(plain.marked(&example, false).unwrap(), format!("{begin}{turns}"), "{family}");
    }
    let error = tokenizer("gemma4").with_choice(&TemplateChoice::Gemma).unwrap_err().to_string();
    assert!(error.contains("<start_of_turn> and <end_of_turn>"), "{error}");
}
