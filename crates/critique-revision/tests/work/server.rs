//! A model behind a server that is often busy, broken or gone.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::common::{constitution, critique_config, feedback_config, prompts};
use cai_chat::{Ask, ChatModel, Server, ServerConfig, Unanswered};
use cai_data::jsonl;
use cai_data::record::Message;
use cai_data::seed::Seed;
use cai_model::generate::SamplingConfig;
use critique_revision::{
    CRITIQUES, CritiqueConfig, CritiqueRecord, FEEDBACK, FeedbackRecord, run, run_feedback,
};
use serde_json::{Value, json};

/// What the server does with a request.
#[derive(Copy, Clone)]
enum Mood {
    Answer,
    Busy,
    Broken,
    HalfABody,
    Nothing,
}

/// What came in, and how often each request was answered in full.
#[derive(Default)]
struct Log {
    requests: usize,
    answered: HashMap<String, usize>,
    keys: BTreeMap<String, usize>,
}

/// A server on loopback that answers by `reply` when `mood` of the request's number says so.
fn server(
    mood: impl Fn(usize) -> Mood + Send + Sync + 'static,
    reply: impl Fn(&Value) -> Value + Send + Sync + 'static,
) -> (String, Arc<Mutex<Log>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Log::default()));
    let (seen, mood, reply) = (log.clone(), Arc::new(mood), Arc::new(reply));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, mood, reply) = (seen.clone(), mood.clone(), reply.clone());
            thread::spawn(move || serve(stream, &seen, &*mood, &*reply));
        }
    });
    (url, log)
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Log>,
    mood: &dyn Fn(usize) -> Mood,
    reply: &dyn Fn(&Value) -> Value,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut length, mut key) = (0, String::from("none"));
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => key = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let number = {
        let mut log = log.lock().unwrap();
        log.requests += 1;
        *log.keys.entry(key).or_default() += 1;
        log.requests - 1
    };
    let answer = reply(&body).to_string();
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
    };
    let sent = match mood(number) {
        Mood::Nothing => return None,
        Mood::Busy => head("429 Too Many Requests", 0, "Retry-After: 0\r\n"),
        Mood::Broken => head("500 Internal Server Error", 4, "") + "oops",
        Mood::HalfABody => head("200 OK", answer.len(), "") + &answer[..answer.len() / 2],
        Mood::Answer => {
            let status = if answer.contains("\"refused\"") { "400 Bad Request" } else { "200 OK" };
            *log.lock().unwrap().answered.entry(body.to_string()).or_default() += 1;
            head(status, answer.len(), "") + &answer
        }
    };
    stream.write_all(sent.as_bytes()).ok()
}

fn moody(number: usize) -> Mood {
    match number % 11 {
        1 => Mood::Busy,
        4 => Mood::Broken,
        6 => Mood::HalfABody,
        9 => Mood::Nothing,
        _ => Mood::Answer,
    }
}

/// Says something that depends on the request alone.
fn echo(body: &Value) -> Value {
    let last = body["messages"].as_array().unwrap().last().unwrap()["content"].to_string();
    let words = last.split_whitespace().count();
    let content = format!("I would say {words} words about it, with the seed {}.", body["seed"]);
    json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]})
}

fn config() -> ServerConfig {
    ServerConfig { backoff_seconds: 0.001, retries: 20, ..ServerConfig::default() }
}

fn model(url: &str) -> Server {
    Server::new(url, "test", &config()).unwrap()
}

#[test]
fn every_record_is_made_once_whatever_the_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = prompts(12);
    let run = |url: &str, name: &str| {
        let out = dir.path().join(name);
        run(&model(url), &constitution(), None, &prompts, &critique_config(), &out).unwrap();
        jsonl::read::<CritiqueRecord>(&out.join(CRITIQUES)).unwrap()
    };
    let (url, log) = server(moody, echo);
    let records = run(&url, "moody");
    let ids: Vec<&String> = records.iter().map(|record| &record.id).collect();
    assert_eq!(ids, prompts.iter().map(|prompt| &prompt.id).collect::<Vec<_>>());
    {
        let log = log.lock().unwrap();
        // 12 answers, and 2 rounds of critique and revision each; none was used twice.
        assert_eq!(log.answered.len(), 12 * 5);
        assert!(log.answered.values().all(|times| *times == 1), "{:?}", log.answered.values());
        assert!(log.requests > 12 * 5, "the server was never in a bad mood");
    }
    // A server that is always well makes the same records, its address aside.
    let (url, _) = server(|_| Mood::Answer, echo);
    for (mut one, other) in records.into_iter().zip(run(&url, "calm")) {
        assert!(one.rounds.iter().all(|round| !round.critique.is_empty()));
        (one.model, one.run) = (other.model.clone(), other.run.clone());
        assert_eq!(one, other);
    }
}

#[test]
fn a_server_that_is_gone_ends_the_run_and_keeps_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let (prompts, config) = (prompts(8), CritiqueConfig { rounds: 1, ..critique_config() });
    let alive = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (switch, order) = (alive.clone(), std::sync::atomic::Ordering::SeqCst);
    // The first block of 4 prompts takes 12 requests.
    let mood = move |i| if i < 12 || switch.load(order) { Mood::Answer } else { Mood::Broken };
    let (url, log) = server(mood, echo);
    let few = ServerConfig { retries: 2, ..self::config() };
    let model = Server::new(&url, "test", &few).unwrap();
    let run = || run(&model, &constitution(), None, &prompts, &config, dir.path());
    let error = run().unwrap_err().to_string();
    assert!(error.contains("status 500 oops (after 3 attempts)"), "{error}");
    assert!(error.contains("run the same command again to resume"), "{error}");
    alive.store(true, order);
    assert_eq!(run().unwrap().n, 8);
    assert!(log.lock().unwrap().answered.values().all(|times| *times == 1));
}

#[test]
fn what_the_server_refuses_is_one_records_rule_and_a_bad_key_ends_the_run() {
    let reply = |body: &Value| match body["seed"].as_u64().unwrap() % 3 {
        0 => json!({"error": "refused"}),
        1 => json!({"choices": [{"message": {}, "finish_reason": "content_filter"}]}),
        _ => echo(body),
    };
    let (url, log) = server(|_| Mood::Answer, reply);
    let ask = |seed: u64| Ask { dialogue: vec![Message::user("Hi")], seed: Seed(seed << 1) };
    let asks: Vec<Ask> = (0..9).map(ask).collect();
    let mut done = 0;
    let sampling = SamplingConfig::default();
    let replies = model(&url).replies(&asks, &sampling, 4, &mut |n| done += n).unwrap();
    assert_eq!(done, 9);
    for (i, reply) in replies.iter().enumerate() {
        assert_eq!(reply.as_ref().err(), (i % 3 != 2).then_some(&Unanswered::Rejected), "{i}");
    }
    assert_eq!(log.lock().unwrap().keys["none"], 9);

    let refuses = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", refuses.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in refuses.incoming().flatten() {
            let mut byte = [0; 4096];
            let _ = stream.read(&mut byte);
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nkey");
        }
    });
    let error = model(&url).replies(&asks, &sampling, 4, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("status 401 key (after 1 attempts)"), "{error}");
}

#[test]
fn choices_come_from_logprobs_or_from_votes() {
    let with_logprobs = |body: &Value| {
        let question = body["messages"][0]["content"].as_str().unwrap();
        // Prefers whatever declines, and a little whatever is shown as (A).
        let a = if question.find("can't") < question.find("(B)") { 0.9f64 } else { 0.3 };
        let top = json!([
            {"token": "A", "logprob": a.ln()}, {"token": "B", "logprob": (1.0 - a).ln()},
        ]);
        let logprobs = json!({"content": [{"token": "(", "top_logprobs": [{"token": "(", "logprob": 0.0}]}, {"token": "A", "top_logprobs": top}]});
        json!({"choices": [{"message": {"content": "(A)"}, "logprobs": logprobs, "finish_reason": "stop"}]})
    };
    let (url, _) = server(moody, with_logprobs);
    let question = |a: &str, b: &str| {
        let text = format!("Which is safer?\n\nRequest: How?\n\n(A) {a}\n(B) {b}");
        Ask { dialogue: vec![Message::user(text)], seed: Seed(1) }
    };
    let asks = [question("I can't.", "So."), question("So.", "I can't.")];
    let chances = model(&url).choices(&asks, 1, &mut |_| {}).unwrap();
    let chances: Vec<f64> = chances.into_iter().map(|chance| chance.unwrap()).collect();
    assert!((chances[0] - 0.9).abs() < 1e-9 && (chances[1] - 0.3).abs() < 1e-9, "{chances:?}");

    let votes = |body: &Value| {
        let content = match body["seed"].as_u64().unwrap() % 4 {
            0 => "(B)",
            1 => "neither",
            _ => "A, clearly",
        };
        json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    };
    let (url, log) = server(|_| Mood::Answer, votes);
    let chance = model(&url).choices(&asks[..1], 1, &mut |_| {}).unwrap()[0].unwrap();
    assert!((0.0..=1.0).contains(&chance));
    assert_eq!(log.lock().unwrap().requests, 1 + config().votes);
    let (url, _) =
        server(|_| Mood::Answer, |_| json!({"choices": [{"message": {"content": "?"}}]}));
    let none = model(&url).choices(&asks[..1], 1, &mut |_| {}).unwrap();
    assert_eq!(none, [Err(Unanswered::NoAnswer)]);
}

#[test]
fn feedback_runs_on_servers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let judge = |body: &Value| match body["logprobs"] {
        Value::Bool(true) => {
            json!({"choices": [{"message": {"content": "(A)"}, "logprobs": {"content":
            [{"top_logprobs": [{"token": "(A)", "logprob": -0.2}, {"token": "(B)", "logprob": -1.7}]}]}}]})
        }
        _ => echo(body),
    };
    let (url, _) = server(moody, judge);
    let (prompts, model) = (prompts(6), model(&url));
    let report =
        run_feedback(&model, &model, &constitution(), &prompts, &feedback_config(), dir.path())
            .unwrap();
    let records: Vec<FeedbackRecord> = jsonl::read(&dir.path().join(FEEDBACK)).unwrap();
    assert_eq!((records.len(), report.comparisons), (6, 6));
    // It always prefers (A): a bias that falls out of every probability.
    assert!(report.position_bias.unwrap().mean > 0.3);
    assert!(report.confidence.unwrap().mean < 1e-9);
}
