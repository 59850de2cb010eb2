//! The hub's client against a hub on this machine, and against a cache without one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_test";

/// A hub with one repository that needs [`TOKEN`], as a model and as a dataset.
struct FakeHub {
    endpoint: String,
    /// `METHOD PATH` of every request.
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    fn start(files: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files: HashMap<String, String> =
            files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let log = requests.clone();
        // The thread ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &files, &log);
            }
        });
        FakeHub { endpoint, requests }
    }

    fn client(&self, cache: &TempDir) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            cache: cache.path().to_owned(),
            token: Some(TOKEN.to_owned()),
            offline: false,
            progress: false,
        }
    }

    fn downloads(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|path| path.contains("/resolve/")).count()
    }
}

fn answer(mut stream: TcpStream, files: &HashMap<String, String>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.unwrap());
    let Some(request) = lines.next() else { return };
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())))
        .collect();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    log.lock().unwrap().push(path.clone());

    let allowed = headers.get("authorization").is_some_and(|h| *h == format!("Bearer {TOKEN}"));
    let (status, extra, body) = if !allowed {
        ("401 Unauthorized", String::new(), String::new())
    } else if path.starts_with("/api/") && path.ends_with("/team/tiny/revision/main") {
        let siblings: Vec<Json> =
            files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let info = serde_json::json!({"sha": COMMIT, "siblings": siblings});
        ("200 OK", String::new(), info.to_string())
    } else if let Some((_, name)) = path.split_once(&format!("/team/tiny/resolve/{COMMIT}/"))
        && let Some(text) = files.get(name)
    {
        let range = headers["range"].strip_prefix("bytes=").unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().unwrap_or(text.len() - 1);
        let extra = format!(
            "content-range: bytes {start}-{end}/{}\r\netag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\n",
            text.len(),
            cai_data::hash::bytes(text.as_bytes()),
        );
        ("206 Partial Content", extra, text[start..=end].to_owned())
    } else {
        ("404 Not Found", String::new(), String::new())
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{extra}\r\n{body}"
    )
    .unwrap();
}

const SHARDED: [(&str, &str); 7] = [
    ("config.json", "{\"a\": 1}"),
    ("tokenizer.json", "{\"b\": 1}"),
    ("tokenizer_config.json", "{\"c\": 1}"),
    ("chat_template.jinja", "template"),
    (INDEX, r#"{"weight_map": {"x": "part-1.safetensors", "y": "part-2.safetensors"}}"#),
    ("part-1.safetensors", "first"),
    ("part-2.safetensors", "second"),
];

fn tiny() -> HubModel {
    HubModel { repo: "team/tiny".to_owned(), revision: None }
}

fn hub_error(result: Result<Snapshot>) -> (String, String) {
    match result {
        Err(Error::Hub { repo, reason, remedy }) => {
            assert_eq!(repo, "team/tiny");
            (reason, remedy)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sharded_model_comes_once_and_is_there_offline() {
    let (hub, cache) = (FakeHub::start(&SHARDED), tempfile::tempdir().unwrap());
    let mut client = hub.client(&cache);
    let snapshot = client.model(&tiny()).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    for (name, text) in SHARDED {
        assert_eq!(fs::read_to_string(snapshot.folder.join(name)).unwrap(), text);
    }

    let downloads = hub.downloads();
    assert_eq!(client.model(&tiny()).unwrap(), snapshot);
    assert_eq!(hub.downloads(), downloads);

    client.offline = true;
    client.endpoint = "http://127.0.0.1:1".to_owned();
    assert_eq!(client.model(&tiny()).unwrap(), snapshot);
    let by_commit = HubModel { revision: Some(COMMIT.to_owned()), ..tiny() };
    assert_eq!(client.model(&by_commit).unwrap(), snapshot);

    fs::remove_file(snapshot.folder.join("part-2.safetensors")).unwrap();
    let (reason, remedy) = hub_error(client.model(&tiny()));
    assert!(reason.contains("lacks part-2.safetensors"), "{reason}");
    assert!(remedy.contains("HF_HUB_OFFLINE"), "{remedy}");
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let (hub, cache) = (FakeHub::start(&SHARDED), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--team--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.part", cai_data::hash::bytes(b"second"))), "sec").unwrap();
    let snapshot = hub.client(&cache).model(&tiny()).unwrap();
    assert_eq!(fs::read_to_string(snapshot.folder.join("part-2.safetensors")).unwrap(), "second");
}

#[test]
fn a_dataset_file_in_a_folder() {
    let hub = FakeHub::start(&[("harmless-base/test.jsonl.gz", "records")]);
    let cache = tempfile::tempdir().unwrap();
    let files = ["harmless-base/test.jsonl.gz"];
    let client = hub.client(&cache);
    let snapshot = client.files(RepoType::Dataset, "team/tiny", None, &files).unwrap();
    assert_eq!(fs::read_to_string(snapshot.folder.join(files[0])).unwrap(), "records");
    assert!(snapshot.folder.starts_with(cache.path().join("datasets--team--tiny")));
}

#[test]
fn refusals_say_what_to_do() {
    let (hub, cache) = (FakeHub::start(&SHARDED[..3]), tempfile::tempdir().unwrap());
    let mut client = hub.client(&cache);
    let (reason, _) = hub_error(client.model(&tiny()));
    assert!(reason.contains("has no model.safetensors"), "{reason}");

    let absent = HubModel { revision: Some("v9".to_owned()), ..tiny() };
    let (reason, remedy) = hub_error(client.model(&absent));
    assert!(reason.contains("'v9'") && remedy.contains("/team/tiny"), "{reason}; {remedy}");

    client.token = None;
    let (reason, remedy) = hub_error(client.model(&tiny()));
    assert!(reason.contains("401, no token was sent"), "{reason}");
    assert!(remedy.contains("accept its licence") && remedy.contains("HF_TOKEN"), "{remedy}");

    client.endpoint = "http://127.0.0.1:1".to_owned();
    let (_, remedy) = hub_error(client.model(&tiny()));
    assert!(remedy.contains("check the connection"), "{remedy}");
}

#[test]
fn an_empty_cache_offline_names_every_required_file() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub {
        endpoint: DEFAULT_ENDPOINT.to_owned(),
        cache: cache.path().to_owned(),
        token: None,
        offline: true,
        progress: false,
    };
    let (reason, _) = hub_error(hub.model(&tiny()));
    assert!(reason.contains("config.json, tokenizer.json, tokenizer_config.json"), "{reason}");
}

#[test]
fn names_that_leave_the_cache_are_refused() {
    let index = r#"{"weight_map": {"x": "../../outside"}}"#;
    let files = [SHARDED[0], SHARDED[1], SHARDED[2], (INDEX, index)];
    let (hub, cache) = (FakeHub::start(&files), tempfile::tempdir().unwrap());
    let client = hub.client(&cache);
    let (reason, _) = hub_error(client.model(&tiny()));
    assert!(reason.contains("../../outside"), "{reason}");
    let revision = Some("../main".to_owned());
    let (reason, _) = hub_error(client.model(&HubModel { revision, ..tiny() }));
    assert!(reason.contains("not a valid name"), "{reason}");
}
