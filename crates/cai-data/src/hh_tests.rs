//! Tests of the transcript reader, on transcripts written for them.

use std::fs;

use proptest::prelude::*;

use super::*;

/// Writes lines to a file, reads it and returns the outcome.
fn read_lines(lines: &[String], max_malformed: usize) -> Result<PairFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    read_pairs(&path, &Policy { max_malformed })
}

fn line(chosen: &str, rejected: &str) -> String {
    serde_json::json!({"chosen": chosen, "rejected": rejected}).to_string()
}

fn good() -> String {
    line("\n\nHuman: Tea?\n\nAssistant: Yes.", "\n\nHuman: Tea?\n\nAssistant: No.")
}

#[test]
fn turns_are_kept_in_order_and_to_the_letter() {
    let text =
        "\n\nHuman:  two spaces \n\n\nAssistant: a\n\nb\nHuman: c\n\nHuman:bare\n\nAssistant: \n";
    assert_eq!(
        turns(text).unwrap(),
        [
            Message::user(" two spaces \n"),
            Message::assistant("a\n\nb\nHuman: c"),
            Message::user("bare"),
            Message::assistant("\n"),
        ]
    );
    assert_eq!(turns("Human: no newlines before"), None);
    assert_eq!(turns("").unwrap(), []);
}

#[test]
fn the_last_reply_is_the_completion() {
    let common = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: ";
    let chosen = format!("{common}good");
    let file = read_lines(&[line(&chosen, &format!("{common}bad "))], 0).unwrap();
    let prompt = vec![Message::user("a"), Message::assistant("b"), Message::user("c")];
    let replies = [vec![Message::assistant("good")], vec![Message::assistant("bad ")]];
    let [chosen, rejected] = replies;
    assert_eq!(file.pairs, [PreferencePair::new(prompt, chosen, rejected)]);
}

#[test]
fn every_reason_is_counted() {
    let cases = [
        ("does_not_start_with_human", "\n\nAssistant: b", "\n\nAssistant: c"),
        ("does_not_start_with_human", "hello\n\nHuman: a\n\nAssistant: b", "x"),
        ("does_not_start_with_human", "", "\n\nHuman: a\n\nAssistant: b"),
        ("roles_do_not_alternate", "\n\nHuman: a\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a"),
        ("no_final_assistant_turn", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a"),
        (
            "empty_turn",
            "\n\nHuman: \n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "\n\nHuman: \n\nAssistant: b\n\nHuman: c\n\nAssistant: e",
        ),
        ("empty_reply", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant:"),
        ("empty_reply", "\n\nHuman: a\n\nAssistant:  \n", "\n\nHuman: a\n\nAssistant: b"),
        ("unequal_prompts", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: A\n\nAssistant: b"),
        ("identical_replies", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b"),
    ];
    for (reason, chosen, rejected) in cases {
        let file = read_lines(&[good(), line(chosen, rejected)], 0).unwrap();
        assert_eq!(file.pairs.len(), 1);
        assert_eq!(file.counts, [(reason.to_owned(), 1)].into(), "{chosen:?} {rejected:?}");
        assert_eq!((file.total, file.left_out()), (2, 1));
    }
}

#[test]
fn malformed_lines_are_refused_unless_allowed() {
    let lines = [good(), "{broken".into(), String::new(), r#"{"chosen": "x"}"#.into()];
    let error = read_lines(&lines, 1).unwrap_err().to_string();
    for part in ["pairs.jsonl:4", "missing field `rejected`", "allows 1", "raise max_malformed"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(read_lines(&lines, 0).unwrap_err().to_string().contains("pairs.jsonl:2"));
    let file = read_lines(&lines, 2).unwrap();
    assert_eq!((file.total, file.pairs.len(), file.counts["malformed_line"]), (3, 1, 2));
}

#[test]
fn a_file_without_pairs_says_what_it_held() {
    let same = line("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b");
    let error = read_lines(&[same], 0).unwrap_err().to_string();
    assert!(error.contains("1 records left out, identical_replies: 1"), "{error}");
    assert!(read_lines(&[], 0).unwrap_err().to_string().contains("no lines"));
}

#[test]
fn a_pair_that_cannot_be_read_back_is_not_written() {
    let pair = |reply: &str| {
        let completion = |text: &str| vec![Message::assistant(text)];
        PreferencePair::new(vec![Message::user("a")], completion(reply), completion("b"))
    };
    assert!(to_transcript(&pair("fine")).is_ok());
    assert!(to_transcript(&pair("x\n\nHuman: y")).is_err());
    assert!(to_transcript(&pair(" ")).is_err());
}

/// Texts with what could be mistaken for a mark, and no mark.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\n".to_owned()),
        Just(" ".to_owned()),
        Just("Human:".to_owned()),
        Just("\nAssistant: ".to_owned()),
        "[a-zé\\PC]{1,5}",
    ];
    prop::collection::vec(part, 1..6)
        .prop_map(|parts| parts.concat())
        .prop_filter("blank or marked", |text| {
            !text.trim().is_empty() && !text.contains(HUMAN) && !text.contains(ASSISTANT)
        })
}

/// Transcripts in any order of marks and texts, mostly not well formed.
fn any_transcript() -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just(HUMAN.to_owned()), Just(ASSISTANT.to_owned()), "[ ab\n]{0,3}"];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        texts in prop::collection::vec(text(), 1..6),
        chosen in text(),
        rejected in text(),
    ) {
        prop_assume!(chosen != rejected);
        let prompt_turns = texts.len() - (texts.len() + 1) % 2;
        let prompt: Vec<Message> = texts[..prompt_turns]
            .iter()
            .enumerate()
            .map(|(i, text)| if i % 2 == 0 { Message::user(text) } else { Message::assistant(text) })
            .collect();
        let pair = PreferencePair::new(
            prompt,
            vec![Message::assistant(chosen)],
            vec![Message::assistant(rejected)],
        );
        let written = serde_json::to_string(&to_transcript(&pair).unwrap()).unwrap();
        prop_assert_eq!(read_lines(&[written], 0).unwrap().pairs, [pair]);
    }

    #[test]
    fn every_record_is_accounted_for(
        records in prop::collection::vec((any_transcript(), any_transcript()), 0..20),
        malformed in 0usize..3,
    ) {
        let mut lines = vec![good()];
        lines.extend(records.iter().map(|(chosen, rejected)| line(chosen, rejected)));
        lines.extend((0..malformed).map(|_| "[]".to_owned()));
        let file = read_lines(&lines, malformed).unwrap();
        prop_assert_eq!(file.total, lines.len());
        prop_assert_eq!(file.total, file.pairs.len() + file.left_out());
    }
}
