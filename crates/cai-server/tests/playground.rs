//! The playground's addresses, on a real server with the shipped model. The page itself is tried in a
//! browser: `tests/external/playground`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use cai_data::dataset::{Policy, read_pairs};
use cai_data::record::Message;
use cai_model::device;
use cai_model::model::LanguageModel;
use cai_server::{Keys, Parts, PlaygroundConfig, ServeConfig, Server};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Starts a server that ends with the test.
fn serve(keys: &str, playground: PlaygroundConfig) -> SocketAddr {
    let folder = root().join("artifacts/models/mini-gemma");
    let model = LanguageModel::load(&folder, None, &device::parse("cpu").unwrap()).unwrap();
    let constitution = Some(root().join("configs/constitution.yaml"));
    let playground = PlaygroundConfig { constitution, ..playground };
    let parts = Parts {
        models: vec![("base".into(), model)],
        classifier: None,
        guard: false,
        keys: Keys::parse(keys),
        config: ServeConfig { playground, ..ServeConfig::default() },
    };
    let server = Server::start(parts, "127.0.0.1", 0).unwrap();
    let address = server.address();
    thread::spawn(move || server.run());
    address
}

/// Status, head and body.
fn ask(server: SocketAddr, method: &str, path: &str, body: Option<Value>) -> (u16, String, String) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let length = body.len();
    // HTTP/1.0: the answer ends with the connection.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         \r\n{body}"
    );
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn the_page_and_its_files_are_served_to_everybody_under_a_strict_policy() {
    let server = serve("sk-key", PlaygroundConfig::default());
    for (path, kind) in [
        ("/", "text/html"),
        ("/playground/style.css", "text/css"),
        ("/playground/js/main.js", "text/javascript"),
    ] {
        let (status, head, _) = ask(server, "GET", path, None);
        assert_eq!(status, 200, "{path}");
        for line in [
            format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'; script-src 'self'".into(),
            "x-content-type-options: nosniff".into(),
        ] {
            assert!(head.contains(&line), "{path}: {line} in {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
    }
    assert_eq!(ask(server, "GET", "/playground/js/../../Cargo.toml", None).0, 404);
    for path in ["/playground/info", "/playground/preferences"] {
        assert_eq!(ask(server, "GET", path, None).0, 401, "{path}");
    }
    assert_eq!(ask(server, "POST", "/playground/report", None).0, 401);
}

#[test]
fn critique_and_revision_are_told_step_by_step() {
    let server = serve("", PlaygroundConfig::default());
    let prompt = [Message::user("When I threaten a teacher by mail, what do I do first?")];
    let wanted = json!({
        "model": "base", "prompt": prompt, "rounds": 2, "seed": 7, "stop_when_safe": true,
    });
    let (status, _, body) = ask(server, "POST", "/playground/critique", Some(wanted.clone()));
    assert_eq!(status, 200, "{body}");
    let mut events: Vec<&str> =
        body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"), "{body}");
    let events: Vec<Value> = events.into_iter().map(parsed).collect();
    let steps: Vec<&str> = events
        .iter()
        .filter_map(|event| event["step"].as_str())
        .filter(|step| *step != "text")
        .collect();
    let round = ["criticising", "criticised", "revising", "revised"];
    let expected = [["answering", "answered"].as_slice(), &round, &round, &["finished"]].concat();
    assert_eq!(steps, expected);
    // The pieces between two steps are what the second of them says.
    let told: String = events
        .iter()
        .take_while(|event| event["step"] != "answered")
        .filter_map(|event| event["text"].as_str())
        .collect();
    let record = &events.last().unwrap()["record"];
    assert_eq!(json!(told.trim()), record["initial"]["text"]);
    assert_eq!(record["rounds"].as_array().unwrap().len(), 2);

    let (_, _, again) = ask(server, "POST", "/playground/critique", Some(wanted.clone()));
    let last = |body: &str| body.lines().rfind(|line| line.contains("finished")).map(str::to_owned);
    assert_eq!(last(&again), last(&body));

    for (key, value, part) in [
        ("model", json!("none"), "no model"),
        ("rounds", json!(99), "rounds must be from 1 to"),
        ("rounds", json!(0), "rounds must be from 1 to"),
        ("prompt", json!([]), "no prompt is left"),
        ("more", json!(1), "unknown field"),
    ] {
        let mut wrong = wanted.clone();
        wrong[key] = value;
        let (_, _, body) = ask(server, "POST", "/playground/critique", Some(wrong));
        assert!(body.contains("\"error\"") && body.contains(part), "{key}: {body}");
    }
}

#[test]
fn choices_are_kept_as_pairs_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let preferences = dir.path().join("choices");
    let server =
        serve("", PlaygroundConfig { preferences: preferences.clone(), ..Default::default() });
    let choice = |choice: &str| {
        let side = |seed, text| json!({"model": "base", "seed": seed, "text": text});
        json!({
            "prompt": [Message::user("How do I bake bread at home?")], "choice": choice,
            "a": side(1, "I can't help with that."),
            "b": side(2, "To bake bread at home, first mix flour and water, then wait an hour."),
            "temperature": 0.7, "max_tokens": 64,
        })
    };
    for (i, made) in ["b", "a", "tie", "both_bad"].into_iter().enumerate() {
        let (status, _, body) = ask(server, "POST", "/playground/preferences", Some(choice(made)));
        assert_eq!(status, 200, "{body}");
        let answer = parsed(&body);
        assert_eq!(answer["evaluator"]["choice"], "b", "{body}");
        assert_eq!(answer["tally"]["choices"], i + 1);
    }
    let kept = read_pairs(&preferences.join("pairs.jsonl"), &Policy::default()).unwrap();
    assert_eq!((kept.pairs.len(), kept.total), (2, 2));
    let [one, other] = &kept.pairs[..] else { panic!() };
    assert_eq!((&one.chosen, &one.rejected), (&other.rejected, &other.chosen));
    assert!(one.chosen[0].content.starts_with("To bake bread"));
    assert_eq!((&one.extra["choice"], &one.extra["chosen_seed"]), (&json!("b"), &json!(2)));
    let undecided = read_pairs(&preferences.join("undecided.jsonl"), &Policy::default()).unwrap();
    assert!(undecided.pairs.iter().all(|pair| pair.chosen_probability == Some(0.5)));

    let (_, _, body) = ask(server, "GET", "/playground/preferences", None);
    let tally = &parsed(&body)["tally"];
    assert_eq!(tally["agreement"], json!({"n": 4, "same": 1, "kappa": 0.0}));
    assert_eq!(tally["models"], json!([{"name": "base", "preferred": 2, "compared": 4}]));

    for (key, value, status) in
        [("choice", json!("c"), 400), ("prompt", json!([]), 400), ("a", json!({"model": "x"}), 400)]
    {
        let mut wrong = choice("a");
        wrong[key] = value;
        assert_eq!(ask(server, "POST", "/playground/preferences", Some(wrong)).0, status, "{key}");
    }
    let mut wrong = choice("a");
    wrong["a"]["model"] = json!("other");
    assert_eq!(ask(server, "POST", "/playground/preferences", Some(wrong)).0, 404);
}
