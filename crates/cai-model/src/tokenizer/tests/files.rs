//! What a tokenizer's files may say, leave out and get wrong, and templates in place of theirs.

use super::*;
use crate::error::Error;

#[test]
fn missing_and_malformed_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = || ChatTokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(message().contains("tokenizer_config.json"), "{}", message());
    train(dir.path(), 400);
    let config = dir.path().join("tokenizer_config.json");
    let token = r#"{"bos_token": "<s>", "eos_token": "<eos>", "pad_token": "<pad>"}"#;
    fs::write(&config, token).unwrap();
    assert!(message().contains("<s>, is not in it"), "{}", message());
    fs::write(&config, r#"{"bos_token": {"content": "<bos>"}, "unk_token": "<unk>"}"#).unwrap();
    fs::write(dir.path().join("chat_template.jinja"), "no control tokens").unwrap();
    assert!(message().contains("nothing says which token ends a text"), "{}", message());
    fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    assert!(matches!(ChatTokenizer::from_dir(dir.path()), Err(Error::Tokenizer { .. })));
}

#[test]
fn tokens_that_only_the_config_calls_special_are_control_tokens() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), 400);
    let path = dir.path().join("tokenizer.json");
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, json.replace(r#""special": true"#, r#""special": false"#)).unwrap();
    let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.encode_with_special("<end_of_turn>").unwrap(), [6]);
    assert!(!tokenizer.encode("<end_of_turn>").unwrap().contains(&6));
}

/// The trained tokenizer's files with these in place of its own; `None` takes one away.
fn changed(files: [(&str, Option<&str>); 2]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        fs::copy(TRAINED.0.path().join(file), dir.path().join(file)).unwrap();
    }
    for (file, text) in files {
        match text {
            Some(text) => fs::write(dir.path().join(file), text).unwrap(),
            None => fs::remove_file(dir.path().join(file)).unwrap(),
        }
    }
    dir
}

#[test]
fn padding_is_what_is_there() {
    let pad = |config: &str| {
        let config = format!(r#"{{"eos_token": "<eos>"{config}}}"#);
        let dir = changed([("tokenizer_config.json", Some(&config)), ("unused", Some(""))]);
        ChatTokenizer::from_dir(dir.path()).unwrap().pad()
    };
    assert_eq!(pad(r#", "pad_token": "<mask>", "unk_token": "<unk>""#), 4);
    assert_eq!(pad(r#", "unk_token": "<unk>""#), 3);
    assert_eq!(pad(""), 1);
}

#[test]
fn every_end_that_the_files_name_stops() {
    let stops = |file: &str, text: &str| {
        let dir = changed([(file, Some(text)), ("unused", Some(""))]);
        ChatTokenizer::from_dir(dir.path()).map(|tokenizer| tokenizer.stop_ids())
    };
    assert_eq!(stops("generation_config.json", r#"{"eos_token_id": 3}"#).unwrap(), [1, 3, 6]);
    assert_eq!(stops("generation_config.json", r#"{"eos_token_id": [6, 4]}"#).unwrap(), [1, 4, 6]);
    assert_eq!(stops("config.json", r#"{"eos_token_id": [0, 1]}"#).unwrap(), [0, 1, 6]);
    let error = stops("generation_config.json", r#"{"eos_token_id": "<eos>"}"#).unwrap_err();
    assert!(error.to_string().contains("`eos_token_id` is"), "{error}");
}

#[test]
fn a_missing_or_broken_template_is_an_error_where_it_is_used() {
    let user = [Message::user("Hi")];
    let file = "chat_template.jinja";
    for (source, says) in [(None, "`plain`"), (Some("{% if %}"), "syntax error")] {
        let dir = changed([(file, source), ("unused", Some(""))]);
        let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
        assert_eq!(tokenizer.end_of_turn(), None);
        let error = tokenizer.prompt(&user).unwrap_err().to_string();
        assert!(error.contains(says) && error.matches("chat template:").count() == 1, "{error}");
        let gemma = tokenizer.with_choice(&TemplateChoice::Gemma).unwrap();
        assert_eq!(gemma.prompt(&user).unwrap(), trained().prompt(&user).unwrap());
        assert_eq!(gemma.end_of_turn(), Some(6));
    }
}

#[test]
fn a_template_is_found_in_a_list() {
    let config = r#"{"eos_token": "<eos>", "chat_template": [
        {"name": "tool_use", "template": "x"},
        {"name": "default", "template": "{{ messages[0].content }}"}]}"#;
    let dir = changed([("tokenizer_config.json", Some(config)), ("chat_template.jinja", None)]);
    let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.render(&[Message::user("Hi")], false).unwrap(), "Hi");
}

#[test]
fn templates_by_name_need_their_control_tokens() {
    let error = trained().clone().with_choice(&TemplateChoice::Chatml).unwrap_err().to_string();
    assert!(error.contains("<|im_start|> and <|im_end|>"), "{error}");
    let missing = TemplateChoice::File("none.jinja".into());
    let error = trained().clone().with_choice(&missing).unwrap_err().to_string();
    assert!(error.contains("none.jinja") && error.contains("`plain`"), "{error}");
    let dir =
        changed([("my.jinja", Some("{{ messages[0].content }}<mask>")), ("unused", Some(""))]);
    let mine = TemplateChoice::File(dir.path().join("my.jinja"));
    let tokenizer = trained().clone().with_choice(&mine).unwrap();
    assert_eq!(tokenizer.prompt(&[Message::user("")]).unwrap(), [2, 4]);
}

#[test]
fn plain_turns_are_text_that_ends_with_the_end_of_text() {
    let plain = trained().clone().with_choice(&TemplateChoice::Plain).unwrap();
    let text =
        "<bos>\n\nHuman: What is Rust?\n\nAssistant: A language.<eos>\n\nHuman: Why?\n\nAssistant:";
    let prompt = plain.prompt(&chat()[..3]).unwrap();
    assert_eq!(plain.decode_with_special(&prompt).unwrap(), text);
    let example = plain.conversation(&chat(), Turns::All).unwrap();
    assert_eq!(trained_text(&example), " A language.<eos> Blue.<eos>");
    assert_eq!(example.ids[..prompt.len()], prompt);
    assert_eq!((plain.end_of_turn(), plain.control_ids()), (Some(1), [1].as_slice()));
    assert_eq!(plain.stop_texts(), ["\n\nHuman:"]);
    assert!(trained().stop_texts().is_empty());
    // Saved and read again, it is the same.
    let source = plain.template().unwrap().source().to_owned();
    let saved = changed([("chat_template.jinja", Some(&source)), ("unused", Some(""))]);
    let read = ChatTokenizer::from_dir(saved.path()).unwrap();
    assert_eq!(read.conversation(&chat(), Turns::All).unwrap(), example);
    assert_eq!((read.eos(), read.stop_texts()), (plain.eos(), plain.stop_texts()));
    let again = plain.with_choice(&TemplateChoice::Gemma).unwrap();
    assert_eq!(again.control_ids(), [5, 6]);
    assert!(again.stop_texts().is_empty());
}

#[test]
fn tokens_without_a_row_are_named() {
    let tokenizer = trained();
    let rows = tokenizer.vocab_size() - 1;
    assert!(tokenizer.ids_beyond(rows + 1).is_empty());
    let beyond = tokenizer.ids_beyond(rows);
    let last = rows as u32;
    assert_eq!(beyond, [(last, tokenizer.name(last).unwrap())]);
    assert_eq!(tokenizer.id(&beyond[0].1), Some(last));
    assert!(tokenizer.has(last) && !tokenizer.has(last + 1));
    tokenizer.check_ids(&[0, last - 1], rows).unwrap();
    let error = tokenizer.check_ids(&[0, last], rows).unwrap_err().to_string();
    assert!(error.contains(&format!("token {last} ({})", beyond[0].1)), "{error}");
}

#[test]
fn control_tokens_take_the_white_space_that_they_are_made_to() {
    let json = fs::read_to_string(TRAINED.0.path().join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (id, strip) in [(5, "lstrip"), (6, "rstrip")] {
        json["added_tokens"][id][strip] = true.into();
    }
    let dir = changed([("tokenizer.json", Some(&json.to_string())), ("unused", Some(""))]);
    let tokenizer = ChatTokenizer::from_dir(dir.path()).unwrap();
    let text = "a \n<start_of_turn> b <end_of_turn>\n <start_of_turn>";
    let whole = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    let theirs = whole.encode(text, false).unwrap();
    let ours = tokenizer.encode_with_special(text).unwrap();
    assert_eq!(ours, theirs.get_ids());
    assert_eq!(
        tokenizer.decode_with_special(&ours).unwrap(),
        "a<start_of_turn> b <end_of_turn><start_of_turn>"
    );

    json["added_tokens"][4]["single_word"] = true.into();
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let error = ChatTokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("<mask>") && error.contains("single_word"), "{error}");
}
