//! The MLflow tracker against a server on the loopback that answers as MLflow does.
//! `tests/external/check_mlflow.py` at the top has the check against MLflow itself.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cai_train::{Tracking, TrainArgs, progress, train};
use common::{Regression, args, model, run, weights};
use serde_json::{Value, json};

/// Requests so far: method of the API and body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Starts a server that answers for as long as the test runs, and gives its address.
fn server(listener: TcpListener) -> Seen {
    let seen: Seen = Arc::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            if stream.read_line(&mut first).unwrap_or_default() == 0 {
                continue;
            }
            let mut length = 0;
            loop {
                let mut header = String::new();
                stream.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                let (name, value) = header.split_once(':').unwrap();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let path = first.split(' ').nth(1).unwrap().to_owned();
            let method = path.strip_prefix("/api/2.0/mlflow/").unwrap().to_owned();
            let answer = match method.as_str() {
                "experiments/search" => json!({}),
                "experiments/create" => json!({"experiment_id": "7"}),
                "runs/create" => json!({"run": {"info": {"run_id": "abc"}}}),
                _ => json!({}),
            };
            log.lock().unwrap().push((method, serde_json::from_slice(&body).unwrap()));
            let text = answer.to_string();
            write!(
                stream.get_mut(),
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            )
            .unwrap();
        }
    });
    seen
}

fn tracked(uri: &str) -> TrainArgs {
    progress::set_quiet(true);
    let tracking = Tracking { mlflow: Some(uri.into()), experiment: None };
    TrainArgs { tracking, ..args() }
}

/// The metrics that arrived, `(key, step, value)`.
fn metrics(seen: &Seen) -> Vec<(String, u64, f64)> {
    let seen = seen.lock().unwrap();
    let batches = seen.iter().filter(|(method, _)| method == "runs/log-batch");
    batches
        .flat_map(|(_, body)| body["metrics"].as_array().cloned().unwrap_or_default())
        .map(|m| {
            let key = m["key"].as_str().unwrap().to_owned();
            (key, m["step"].as_u64().unwrap(), m["value"].as_f64().unwrap())
        })
        .collect()
}

/// What `metrics.jsonl` holds, in the same form and order.
fn logged(folder: &Path) -> Vec<(String, u64, f64)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries
        .flat_map(|entry| {
            let step = entry["step"].as_u64().unwrap();
            let values = entry.as_object().unwrap().clone().into_iter();
            values
                .filter(|(key, _)| key != "step" && key != "epoch")
                .map(move |(key, value)| (key, step, value.as_f64().unwrap()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_run_arrives_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let seen = server(listener);
    let folder = tempfile::tempdir().unwrap();
    train(model(), &Regression::new(20), &tracked(&uri), &run(folder.path())).unwrap();
    assert_eq!(metrics(&seen), logged(folder.path()));
    let requests = seen.lock().unwrap().clone();
    let methods: Vec<&str> = requests.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(
        methods[..4],
        ["experiments/search", "experiments/create", "runs/create", "runs/log-batch"]
    );
    let tags = requests[2].1["tags"].to_string();
    assert!(tags.contains("\"cai.fingerprint\",\"value\":\"fingerprint\""), "{tags}");
    let params = requests[3].1["params"].to_string();
    assert!(params.contains("\"learning_rate\",\"value\":\"0.01\""), "{params}");
    let (method, last) = requests.last().unwrap();
    assert_eq!((method.as_str(), &last["status"]), ("runs/update", &json!("FINISHED")));
    assert!(!folder.path().join("mlflow-spool.jsonl").exists());
}

#[test]
fn without_a_server_the_run_goes_on_and_its_log_is_sent_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let uri = format!("http://{address}");
    let folder = tempfile::tempdir().unwrap();
    let (alone, _) =
        train(model(), &Regression::new(20), &tracked(&uri), &run(folder.path())).unwrap();
    let untracked = tempfile::tempdir().unwrap();
    let (expected, _) =
        train(model(), &Regression::new(20), &args(), &run(untracked.path())).unwrap();
    assert_eq!(weights(&alone), weights(&expected));
    assert!(folder.path().join("mlflow-spool.jsonl").exists());

    // The same command again, now with a server: the run is complete, its log arrives.
    let seen = server(TcpListener::bind(address).unwrap());
    train(model(), &Regression::new(20), &tracked(&uri), &run(folder.path())).unwrap();
    assert_eq!(metrics(&seen), logged(folder.path()));
    assert!(!folder.path().join("mlflow-spool.jsonl").exists());
}

#[test]
fn a_resumed_run_sends_nothing_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let seen = server(listener);
    let folder = tempfile::tempdir().unwrap();
    train(model(), &Regression::new(20), &tracked(&uri), &run(folder.path())).unwrap();
    // As if killed after step 9: what came after the checkpoint of step 5 is done again.
    std::fs::remove_dir_all(folder.path().join("checkpoint-10")).unwrap();
    train(model(), &Regression::new(20), &tracked(&uri), &run(folder.path())).unwrap();
    assert_eq!(metrics(&seen), logged(folder.path()));
    let created = seen.lock().unwrap().iter().filter(|(m, _)| m == "runs/create").count();
    assert_eq!(created, 1);
}
