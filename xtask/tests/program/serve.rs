//! `serve` on a free port of the loopback: the API as clients use it, and how it behaves when it is
//! pressed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::{MODEL, adapter, copy_of, done, pipeline, refused, root, xtask};

/// A server, killed at the end of the test.
struct Server {
    child: Child,
    address: String,
}

/// A status, the head, and the body.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// The events of a stream that ended as it should.
    fn events(&self) -> Vec<Value> {
        let data: Vec<&str> = self.body.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(data.last(), Some(&"[DONE]"), "{}", self.body);
        data[..data.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

impl Server {
    fn start(args: &[&str]) -> Self {
        Self::spawn(xtask(["serve", "--port", "0"]).args(args))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("an address");
        let server = Self { address: address.to_owned(), child };
        while server.get("/readyz").status != 200 {
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// A connection on which a request has been sent. HTTP/1.0: the answer ends with it.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // The server may refuse a body without reading it.
        let _ = stream.write_all(body);
        stream
    }

    fn get(&self, path: &str) -> Reply {
        read(self.send("GET", path, "", b""))
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        read(self.begin(path, body))
    }

    fn begin(&self, path: &str, body: &Value) -> TcpStream {
        let json = "Content-Type: application/json\r\n";
        self.send("POST", path, json, body.to_string().as_bytes())
    }

    fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    fn signal(&self, name: &str) {
        done(Command::new("kill").args([name, &self.child.id().to_string()]));
    }

    /// What it wrote to standard error, after its end.
    fn log(mut self) -> String {
        self.child.kill().unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

const QUESTION: &str = "How do I bake bread at home?";

/// A request for a chat, with these fields too.
fn ask(fields: Value) -> Value {
    let mut body = json!({
        "model": "base", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24,
    });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn content(choice: &Value) -> &str {
    choice["message"]["content"].as_str().unwrap()
}

/// The text of a streamed chat's choice.
fn streamed(events: &[Value], index: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    let choices = choices.filter(|choice| choice["index"] == index);
    choices.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

#[test]
fn answers_are_those_of_generate_whole_and_streamed() {
    let server = Server::start(&[]);
    let alone = xtask(["generate", "--prompt", QUESTION, "--greedy", "--max-new-tokens", "24"])
        .output()
        .unwrap();
    let alone = String::from_utf8(alone.stdout).unwrap();
    let greedy = server.chat(&ask(json!({"temperature": 0}))).json();
    assert_eq!(content(&greedy["choices"][0]), alone.trim_end_matches('\n'));
    let usage = &greedy["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);

    // Two answers by one seed: the same again, the same as a stream, and the same without the other.
    let settings =
        json!({"temperature": 1.0, "seed": 5, "n": 2, "logprobs": true, "top_logprobs": 2});
    let whole = server.chat(&ask(settings.clone())).json();
    let texts: Vec<&str> = whole["choices"].as_array().unwrap().iter().map(content).collect();
    assert_ne!(texts[0], texts[1]);
    let single = server.chat(&ask(json!({"temperature": 1.0, "seed": 5}))).json();
    assert_eq!(content(&single["choices"][0]), texts[0]);
    let mut settings = settings;
    settings["stream"] = json!(true);
    settings["stream_options"] = json!({"include_usage": true});
    let events = server.chat(&ask(settings)).events();
    assert_eq!([streamed(&events, 0), streamed(&events, 1)], texts[..]);
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);

    // The tokens of the log-probabilities are the text.
    for (choice, text) in whole["choices"].as_array().unwrap().iter().zip(texts) {
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert_eq!(joined, text);
        assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    }

    // A stop string ends the answer before it.
    let words: Vec<&str> = alone.split_whitespace().collect();
    let stop = ask(json!({"temperature": 0, "stop": words[3]}));
    let stopped = server.chat(&stop).json();
    assert_eq!(content(&stopped["choices"][0]), alone.split(words[3]).next().unwrap());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[test]
fn completions_continue_texts_and_tokens() {
    let server = Server::start(&[]);
    let body = json!({"model": "base", "prompt": ["Bread is", "Tea is"], "max_tokens": 5,
                      "temperature": 0, "logprobs": 1});
    let answer = server.post("/v1/completions", &body).json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!((choices.len(), &choices[1]["index"]), (2, &json!(1)));
    assert_eq!(choices[0]["logprobs"]["tokens"].as_array().unwrap().len(), 5);
    let body = json!({"model": "base", "prompt": "Tea is", "max_tokens": 5, "temperature": 0,
                      "stream": true});
    let events = server.post("/v1/completions", &body).events();
    let text: String = events.iter().map(|e| e["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(choices[1]["text"], text);
}

#[test]
fn many_at_once_get_what_each_gets_alone() {
    let server = Server::start(&["--set", "engine.max_batch_size=8"]);
    let body = |i: u64| {
        ask(json!({"seed": i, "temperature": if i.is_multiple_of(2) { 0.0 } else { 0.7 }}))
    };
    let text = |reply: Reply| content(&reply.json()["choices"][0]).to_owned();
    let together: Vec<String> = thread::scope(|scope| {
        let ask = |i| text(server.chat(&body(i)));
        let threads: Vec<_> = (0..24).map(|i| scope.spawn(move || ask(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let differ = (0..24).filter(|&i| text(server.chat(&body(i))) != together[i as usize]).count();
    // Near-ties may fall the other way in a batch of another size.
    assert!(differ <= 1, "{differ} of 24 answers differ");
}

#[test]
fn a_full_queue_refuses_at_once_and_serves_the_rest() {
    let limits = ["engine.max_batch_size=1", "limits.max_queue=1", "limits.max_choices=2"];
    let server = Server::start(&limits.map(|limit| ["--set", limit]).concat());
    let long = ask(json!({"max_tokens": 200, "temperature": 2.0, "stream": true, "seed": 1}));
    let running: Vec<TcpStream> =
        (0..2).map(|_| server.begin("/v1/chat/completions", &long)).collect();
    // They count once their first bytes are there.
    for stream in &running {
        stream.peek(&mut [0]).unwrap();
    }
    let surplus = server.chat(&long);
    assert_eq!(surplus.status, 429, "{}", surplus.body);
    assert!(surplus.head.contains("retry-after: "), "{}", surplus.head);
    assert_eq!(surplus.json()["error"]["code"], "queue_full");
    for stream in running {
        let end = read(stream).events();
        assert!(!end.last().unwrap()["choices"][0]["finish_reason"].is_null());
    }
    // A client that goes frees its places.
    drop([0, 1].map(|_| server.begin("/v1/chat/completions", &long)));
    while server.chat(&ask(json!({}))).status == 429 {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let server = Server::start(&["--set", "limits.max_body_bytes=4096"]);
    let cases = [
        (json!({"model": "other"}), 404, "model"),
        (json!({"messages": []}), 400, "messages"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), 400, "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            400,
            "messages",
        ),
        (
            json!({"messages": [{"role": "user", "content": "word ".repeat(700)}], "max_tokens": 1000}),
            400,
            "messages",
        ),
        (json!({"n": 1_000_000_000}), 400, "n"),
        (json!({"n": -1}), 400, "n"),
        (json!({"max_tokens": 0}), 400, "max_tokens"),
        (json!({"temperature": 3}), 400, "temperature"),
        (json!({"temperature": "hot"}), 400, "temperature"),
        (json!({"stop": ["", "x"]}), 400, "stop"),
        (json!({"top_logprobs": 3}), 400, "top_logprobs"),
        (json!({"stream_options": {}}), 400, "stream_options"),
        (json!({"tools": [{"type": "function"}]}), 400, "tools"),
        (json!({"best_off": 2}), 400, "best_off"),
    ];
    for (fields, status, param) in cases {
        let reply = server.chat(&ask(fields.clone()));
        assert_eq!(reply.status, status, "{fields}: {}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param, "{fields}: {}", reply.body);
    }
    let raw = |kind: &str, body: &[u8]| {
        let header = format!("Content-Type: {kind}\r\n");
        read(server.send("POST", "/v1/chat/completions", &header, body))
    };
    let json = "application/json";
    assert_eq!(raw(json, b"{\"model\": \xff}").status, 400);
    assert_eq!(raw(json, b"{\"model\": ").status, 400);
    assert_eq!(raw("text/plain", b"{}").status, 415);
    assert_eq!(raw(json, &[b' '; 5000]).status, 413);
    for path in ["/v1/chat/completions", "/v1/nothing"] {
        let reply = server.get(path);
        assert!(matches!(reply.status, 404 | 405));
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    // And nothing of it hurt.
    assert_eq!(server.chat(&ask(json!({"user": "me", "n": null}))).status, 200);
    let metrics = server.get("/metrics").body;
    let counted = "cai_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1";
    assert!(metrics.contains(counted) && metrics.contains("cai_time_to_first_token"), "{metrics}");
}

#[test]
fn only_who_has_a_key_is_served_and_no_key_is_logged() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# one a line\nsk-from-the-file\n").unwrap();
    let mut command = xtask(["serve", "--port", "0", "--verbose", "--api-keys"]);
    command.arg(file.path()).env("CAI_API_KEYS", "sk-first,sk-second").env("RUST_LOG", "debug");
    let server = Server::spawn(&mut command);
    let status = |key: &str| {
        let header = format!("Authorization: Bearer {key}\r\n");
        read(server.send("GET", "/v1/models", &header, b"")).status
    };
    for key in ["sk-first", "sk-second", "sk-from-the-file"] {
        assert_eq!(status(key), 200);
    }
    for key in ["", "sk-firs", "sk-first2", "sk-first,sk-second", "# one a line"] {
        assert_eq!(status(key), 401, "{key}");
    }
    let none = server.get("/v1/models");
    assert_eq!((none.status, &none.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(server.get("/healthz").status, 200);
    assert!(!server.log().contains("sk-"));
}

#[test]
fn adapters_answer_under_their_names() {
    let dir = adapter();
    let server = Server::start(&["--adapter", &format!("tuned={}/adapter", dir.path().display())]);
    let names: Vec<Value> = server.get("/v1/models").json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].clone())
        .collect();
    assert_eq!(names, ["base", "tuned"]);
    let first = |model: &str| {
        let body = ask(json!({"model": model, "temperature": 0, "logprobs": true}));
        server.chat(&body).json()["choices"][0]["logprobs"]["content"][0]["logprob"].clone()
    };
    assert_ne!(first("base"), first("tuned"));
}

#[test]
fn the_classifier_scores_texts_and_guards_answers() {
    let runs = tempfile::tempdir().unwrap();
    done(&mut pipeline(runs.path(), ["--to", "classifier"]));
    let dir = runs.path().join("micro/classifier").display().to_string();
    let server = Server::start(&["--classifier", &dir]);
    let texts = json!(["I can't help you pick a lock.", "Boil water.", ""]);
    let scored = server.post("/v1/moderations", &json!({"input": texts})).json();
    let results = scored["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let scores = result["category_scores"].as_object().unwrap();
        let sum: f64 = scores.values().map(|score| score.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && scores.contains_key("safe"), "{result}");
    }
    drop(server);
    for (threshold, reason) in [("0.000000001", "content_filter"), ("1", "length")] {
        let threshold = format!("guard.threshold={threshold}");
        let server = Server::start(&["--classifier", &dir, "--guard", "--set", &threshold]);
        let short = json!({"max_tokens": 3, "temperature": 0});
        let choice = server.chat(&ask(short)).json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], reason, "{choice}");
        let stream = json!({"max_tokens": 3, "temperature": 0, "stream": true});
        let events = server.chat(&ask(stream)).events();
        let last = &events.last().unwrap()["choices"][0];
        assert_eq!(last["finish_reason"], reason);
        assert_eq!(last["guard"], choice["guard"]);
        assert_eq!(streamed(&events, 0), content(&choice));
        assert_eq!(choice["guard"].is_null(), reason == "length");
    }
}

#[test]
fn sigterm_answers_or_tells_everybody() {
    let limits = ["--set", "engine.max_batch_size=4", "--set", "connections.grace_seconds=1.5"];
    let mut server = Server::start(&limits);
    let long = |stream: bool| ask(json!({"max_tokens": 900, "temperature": 2.0, "stream": stream}));
    let running: Vec<(bool, TcpStream)> = (0..24)
        .map(|i| (i % 2 == 0, server.begin("/v1/chat/completions", &long(i % 2 == 0))))
        .collect();
    for (stream, connection) in &running {
        if *stream {
            connection.peek(&mut [0]).unwrap();
        }
    }
    thread::sleep(Duration::from_millis(200));
    server.signal("-TERM");
    for (stream, connection) in running {
        let reply = read(connection);
        let told = reply.body.contains("\"shutting_down\"");
        let answered = match stream {
            true => reply.body.contains("data: [DONE]"),
            false => reply.status == 200,
        };
        assert!(told || answered, "{} {}", reply.head, reply.body);
    }
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_without_its_parts_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().display().to_string();
    let start = |args: &[&str]| refused(xtask(["serve", "--port", "0"]).args(args));
    assert!(start(&["--model", &none]).contains("config.json"));
    let model = copy_of(&root().join(MODEL));
    std::fs::remove_file(model.path().join("model.safetensors")).unwrap();
    let without = start(&["--model", &model.path().display().to_string()]);
    assert!(without.contains("safetensors"), "{without}");
    assert!(start(&["--classifier", &none]).contains(&none));
    assert!(start(&["--adapter", &format!("a={none}")]).contains(&none));
    assert!(start(&["--adapter", &format!("base={none}")]).contains("base"));
    assert!(start(&["--set", "limits.max_tokens=0"]).contains("limits.max_tokens"));
    assert!(start(&["--api-keys", &format!("{none}/keys")]).contains("keys"));
}
