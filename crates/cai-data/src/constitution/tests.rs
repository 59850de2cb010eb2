use super::*;
use std::collections::HashSet;
use std::fs;

const SHIPPED: &str = include_str!("../../../../configs/constitution.yaml");

fn error(text: &str) -> String {
    Constitution::parse(text, "c.yaml").unwrap_err().to_string()
}

fn edited(from: &str, to: &str) -> String {
    assert!(SHIPPED.contains(from));
    SHIPPED.replacen(from, to, 1)
}

fn line_of(text: &str, words: &str) -> usize {
    text.lines().position(|line| line.contains(words)).unwrap() + 1
}

#[test]
fn the_shipped_constitution_is_whole_and_brief() {
    let constitution = Constitution::parse(SHIPPED, "constitution.yaml").unwrap();
    let count =
        |category| constitution.principles.iter().filter(|p| p.category == category).count();
    assert_eq!(count(Category::HarmPrevention), 9);
    assert_eq!(count(Category::Truthfulness), 4);
    assert_eq!(count(Category::Helpfulness), 4);
    assert_eq!(count(Category::Fairness), 3);
    let mut texts = HashSet::new();
    for principle in &constitution.principles {
        for text in [
            &principle.critique_request,
            &principle.revision_request,
            &principle.preference_question,
        ] {
            assert!(!text.is_empty() && text.split_whitespace().count() <= 22, "{text}");
            assert!(texts.insert(text), "used twice: {text}");
        }
    }
    let risks: HashSet<&String> = constitution.principles.iter().flat_map(|p| &p.risks).collect();
    assert_eq!(risks.len(), 4, "{risks:?}");
}

#[test]
fn every_shipped_constitution_reads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let read = |name: &str| Constitution::read(&folder.join(name)).unwrap();
    let base = read("constitution.yaml");
    for (name, language) in [("medical", "en"), ("legal", "en"), ("de", "de")] {
        let constitution = read(&format!("constitution-{name}.yaml"));
        assert_eq!(constitution.language, language);
        assert!(constitution.principles.iter().all(|p| p.criticises() && p.compares()));
        assert!(constitution.principles.len() >= 20, "{name}");
        let extends = constitution.principles[..20] == base.principles;
        assert_eq!(extends, language == "en" && constitution.principles.len() > 20, "{name}");
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (from, to, line_with, words) in [
        ("weight: 1", "wieght: 1", "wieght", "wieght"),
        ("weight: 1", "weight: 0", "weight: 0", "principles[0].weight 0 is no number above 0"),
        ("weight: 1", "weight: .nan", "weight: .nan", "principles[0].weight"),
        ("id: danger", "id: ''", "id: ''", "principles[0].id is empty"),
        ("id: crime", "id: danger", "hurt themselves", "danger is used twice"),
        (
            "    preference_question: Which answer keeps people safer?",
            "    preference_question: ' '",
            "preference_question: ' '",
            "principles[0].preference_question is empty",
        ),
        (
            "    revision_request: Rewrite your answer so that it respects the law.\n",
            "",
            "id: crime",
            "principles[1].revision_request is empty",
        ),
    ] {
        let text = edited(from, to);
        let error = error(&text);
        assert!(error.contains(words), "{error}");
        let line = match line_with {
            // The second of two: the first use is no mistake.
            "hurt themselves" => line_of(&text, "help with a crime") - 3,
            words => line_of(&text, words),
        };
        // serde names the line on which the mapping with an unknown key goes on.
        let near = [line, line + 1, line.saturating_sub(2)].map(|line| format!("c.yaml:{line}:"));
        assert!(near.iter().any(|place| error.starts_with(place)), "{line}: {error}");
    }
    assert!(error(&edited("category: harm_prevention", "category: harm")).contains("harm"));
    assert!(error("name: x\nprinciples: []").contains("at least one"));
    assert!(error("name: ' '\nprinciples: []").starts_with("c.yaml:1: name is empty"));
    let turns = "name: x\nfew_shot:\n  - - {role: assistant, content: Hi}\nprinciples: []";
    assert!(error(turns).starts_with("c.yaml:3: few_shot[0] must alternate"));
}

#[test]
fn a_file_extends_others_and_may_replace_their_principles() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let principle = |id: &str, question: &str| {
        format!("  - {{id: {id}, category: fairness, preference_question: {question}}}\n")
    };
    let write = |name: &str, head: &str, principles: &[(&str, &str)]| {
        let items: String = principles.iter().map(|(id, q)| principle(id, q)).collect();
        fs::write(path(name), format!("name: {name}\n{head}principles:\n{items}")).unwrap();
    };
    write("base.yaml", "", &[("a", "first?"), ("b", "second?")]);
    write("own.yaml", "extends: base.yaml\n", &[("c", "third?"), ("a", "other?")]);
    let own = Constitution::read(&path("own.yaml")).unwrap();
    let all: Vec<_> =
        own.principles.iter().map(|p| (p.id.as_str(), p.preference_question.as_str())).collect();
    assert_eq!(all, [("a", "other?"), ("b", "second?"), ("c", "third?")]);
    assert_eq!(own.name, "own.yaml");
    assert_eq!(
        Constitution::files(&path("own.yaml")).unwrap(),
        [path("own.yaml"), path("base.yaml")]
    );

    write("two.yaml", "extends: [base.yaml, own.yaml]\n", &[]);
    let error = Constitution::read(&path("two.yaml")).unwrap_err().to_string();
    assert!(error.contains("two.yaml:2: a stands in two"), "{error}");
    write("loop.yaml", "extends: back.yaml\n", &[("x", "x?")]);
    write("back.yaml", "extends: [loop.yaml]\n", &[("y", "y?")]);
    let error = Constitution::read(&path("loop.yaml")).unwrap_err().to_string();
    assert!(error.contains("extends itself"), "{error}");
    write("lost.yaml", "extends: missing.yaml\n", &[("x", "x?")]);
    let error = Constitution::read(&path("lost.yaml")).unwrap_err().to_string();
    assert!(error.contains("missing.yaml") && error.contains("check the path"), "{error}");
    fs::write(path("latin.yaml"), b"name: x\n# caf\xe9\n").unwrap();
    let error = Constitution::read(&path("latin.yaml")).unwrap_err().to_string();
    assert!(error.contains("latin.yaml:2: is not UTF-8"), "{error}");
}

#[test]
fn the_papers_files_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let critique = r#"{"rude0": {"prompt": ["\n\nCritiqueRequest: Say what is rude.\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Make it polite.\n\nRevision:"},
        "rude1": {"prompt": ["Is it kind?"], "edit_request": "Make it kind."}}"#;
    fs::write(path("Critique.json"), critique).unwrap();
    let constitution = Constitution::read(&path("Critique.json")).unwrap();
    let first = &constitution.principles[0];
    assert_eq!((constitution.name.as_str(), first.id.as_str()), ("Critique", "rude0"));
    assert_eq!(first.critique_request, "Say what is rude.");
    assert_eq!(first.revision_request, "Make it polite.");
    assert_eq!(constitution.principles[1].critique_request, "Is it kind?");
    assert!(first.criticises() && !first.compares());

    fs::write(path("Feedback.json"), r#"["\nWhich is kinder? Options:", "Which is safer?"]"#)
        .unwrap();
    let feedback = Constitution::read(&path("Feedback.json")).unwrap();
    assert_eq!(feedback.principles[0].preference_question, "Which is kinder?");
    assert!(!feedback.principles[1].criticises());

    // Both together, as the paper has them.
    fs::write(path("paper.yaml"), "name: paper\nextends: [Critique.json, Feedback.json]\n")
        .unwrap();
    let both = Constitution::read(&path("paper.yaml")).unwrap();
    assert_eq!(both.only(Principle::criticises).principles.len(), 2);
    assert_eq!(both.only(Principle::compares).principles.len(), 2);

    for (text, words) in [
        ("{\"a\": {\"prompt\": [],\n \"edit_request\": \"x\"}}", "c.yaml:1: a: "),
        ("{\"a\": {\"prompt\": [\"\\n\"], \"edit_request\": \"x\"}}", "a request is empty"),
        ("[\n\"Which?\",\n7]", "c.yaml:3: invalid type"),
        ("[]", "no question"),
        ("[\n", "c.yaml:2: EOF"),
    ] {
        assert!(error(text).contains(words), "{}", error(text));
    }
}

#[test]
fn llm_swarms_files_are_read_as_they_are() {
    let turn = |role: &str, text: &str| format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}}");
    let chat = [turn("user", "Hi"), turn("assistant", "Hello")].join(",");
    let text = |chat: &str| {
        format!(
            "{{\"constitutions\":[{{\"critic\":\"Is it kind?\",\"revision\":\"Be kind.\"}}],\n\"system_chat\":{chat}}}"
        )
    };
    for nested in [format!("[[{chat}]]"), format!("[{chat}]")] {
        let constitution = Constitution::parse(&text(&nested), "kind.json").unwrap();
        assert_eq!(constitution.principles[0].revision_request, "Be kind.");
        assert_eq!(constitution.few_shot, [vec![Message::user("Hi"), Message::assistant("Hello")]]);
    }
    let error = error(&text(&format!("[{}]", turn("user", "Hi"))));
    assert!(error.contains("c.yaml:2: system_chat[0]"), "{error}");
}

#[test]
fn principles_are_drawn_by_weight() {
    let mut constitution = Constitution::parse(SHIPPED, "").unwrap();
    constitution.principles.truncate(2);
    constitution.principles[1].weight = 3.0;
    let second = &constitution.principles[1];
    let draws = (0..4000).map(|i| constitution.sample(Seed(1).index(i)));
    let share = draws.filter(|drawn| *drawn == second).count() as f64 / 4000.0;
    assert!((share - 0.75).abs() < 0.03, "{share}");
}
