//! GGUF files: what is in them, what is wrong with them, and the models and tokenizers they hold.

#[path = "common/gguf.rs"]
mod file;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::Tensor;
use cai_data::seed::Seed;
use cai_model::{
    batch::TokenBatch,
    decoder::Pass,
    device,
    model::LanguageModel,
    quantize::GgmlType,
    source::{
        gguf::{Array, Gguf, Value},
        load_tokenizer,
    },
    tokenizer::ChatTokenizer,
};
use file::{GgufFile, Key, of_folder};
use rand::{Rng, RngExt};
use tempfile::TempDir;
use tokenizers::Tokenizer;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn written(file: &GgufFile) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, file.bytes()).unwrap();
    (dir, path)
}

fn open(file: &GgufFile) -> cai_model::Result<Gguf> {
    let (_dir, path) = written(file);
    Gguf::open(&path)
}

fn error_of(file: &GgufFile) -> String {
    open(file).unwrap_err().to_string()
}

/// One key of each kind and two tensors.
fn small() -> GgufFile {
    let mut file = GgufFile::default();
    file.set("general.architecture", Key::Text("llama".into()));
    file.set("number", Key::U32(7));
    file.set("float", Key::F32(0.5));
    file.set("bool", Key::Bool(true));
    file.set("texts", Key::Texts(vec!["a".into(), "ü".into()]));
    file.set("ints", Key::Ints(vec![1, -1]));
    file.add("matrix", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    file.add("vector", &[2], &[6.0, 7.0]);
    file
}

#[test]
fn keys_and_tensors_come_back() {
    let gguf = open(&small()).unwrap();
    assert_eq!(gguf.architecture().unwrap(), "llama");
    assert_eq!(gguf.size("number").unwrap(), 7);
    assert_eq!(gguf.float("float").unwrap(), 0.5);
    assert_eq!(gguf.get("bool").unwrap(), Some(true));
    assert_eq!(gguf.require::<&[String]>("texts").unwrap(), ["a", "ü"]);
    assert_eq!(gguf.metadata("ints"), Some(&Value::Array(Array::Signed(vec![1, -1]))));
    assert_eq!(gguf.get::<usize>("nothing").unwrap(), None);

    let missing = gguf.size("nothing").unwrap_err().to_string();
    assert!(missing.contains("'nothing' is missing"), "{missing}");
    let other = gguf.size("float").unwrap_err().to_string();
    assert!(other.contains("'float' is a float, not a whole number"), "{other}");
    assert!(gguf.require::<Vec<usize>>("ints").is_err(), "-1 is no size");

    assert_eq!(gguf.names(), ["matrix", "vector"]);
    let matrix = gguf.tensor("matrix").unwrap().unwrap();
    assert_eq!((matrix.kind, matrix.shape.as_slice()), (GgmlType::F32, &[2, 3][..]));
    let mut values = [0.0; 6];
    matrix.kind.dequantize(matrix.bytes, &mut values);
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    matrix.release();
    assert!(gguf.tensor("scalar").unwrap().is_none());
}

#[test]
fn damage_is_named() {
    let named = |words: &str, change: &dyn Fn(&mut GgufFile)| {
        let mut file = small();
        change(&mut file);
        let error = error_of(&file);
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    };
    named("a power of two", &|file| file.set("general.alignment", Key::U32(24)));
    named("tensor 'vector' is there twice", &|file| file.tensors[0].name = "vector".into());
    named("key 'number' is there twice", &|file| file.keys.push(("number".into(), Key::U32(1))));
    named("tensor 'vector': dimensions [0]", &|file| file.tensors[1].shape = vec![0]);
    named("tensor 'vector': dimensions", &|file| file.tensors[1].shape = vec![1 << 40, 1 << 40]);
    named("5 dimensions", &|file| file.tensors[1].shape = vec![1; 5]);
    named("beyond the file's end", &|file| file.tensors[1].shape = vec![3]);
    named("rows of 3 Q8_0 weights", &|file| file.tensors[0].kind = 8);
}

#[test]
fn what_is_no_gguf_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let whole = small().bytes();
    let version = |version: u32| [b"GGUF", version.to_le_bytes().as_slice(), &whole[8..]].concat();
    for (bytes, words) in [
        (b"PK\x03\x04".to_vec(), "not a GGUF file"),
        (b"GG".to_vec(), "not a GGUF file"),
        (version(1), "version 1 is not supported"),
        (version(9), "version 9 is not supported"),
        (version(3u32.swap_bytes()), "big-endian"),
        (whole[..100].to_vec(), "cut off"),
        (whole[..whole.len() - 1].to_vec(), "cut off"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("model.gguf"), "{error:?}: {words:?}");
    }
    fs::write(&path, version(2)).unwrap();
    assert!(Gguf::open(&path).is_ok());
}

#[test]
fn a_type_that_is_not_supported_is_an_error_where_it_is_asked_for() {
    let mut file = small();
    file.tensors[0].kind = 10;
    let gguf = open(&file).unwrap();
    assert!(gguf.tensor("vector").unwrap().is_some());
    let error = gguf.tensor("matrix").unwrap_err().to_string();
    assert!(error.contains("'matrix'") && error.contains("type 10"), "{error}");
}

#[test]
fn shards_are_one_model() {
    let shard = |number: u32, count: u32, name: &str| {
        let mut file = GgufFile::default();
        if number == 0 {
            file.set("general.architecture", Key::Text("llama".into()));
        }
        file.set("split.no", Key::U32(number));
        file.set("split.count", Key::U32(count));
        file.set("split.tensors.count", Key::U32(2));
        file.add(name, &[1], &[number as f32]);
        file.bytes()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |number: u32| dir.path().join(format!("m-0000{number}-of-00002.gguf"));
    let error = |path: &Path| Gguf::open(path).unwrap_err().to_string();

    fs::write(path(2), shard(1, 2, "b")).unwrap();
    let missing = error(&path(2));
    assert!(missing.contains("m-00001-of-00002.gguf: shard 1 of 2 is missing"), "{missing}");

    fs::write(path(1), shard(0, 2, "a")).unwrap();
    for opened in [1, 2] {
        let gguf = Gguf::open(&path(opened)).unwrap();
        assert_eq!((gguf.names(), gguf.architecture().unwrap()), (vec!["a", "b"], "llama"));
        assert_eq!(gguf.tensor("b").unwrap().unwrap().bytes, 1f32.to_le_bytes());
    }

    fs::write(path(2), shard(0, 2, "b")).unwrap();
    assert!(error(&path(1)).contains("do not say that it is shard 2 of 2"));
    fs::write(path(2), shard(1, 2, "a")).unwrap();
    assert!(error(&path(1)).contains("'a' is in another shard, too"));
    let other_name = dir.path().join("model.gguf");
    fs::write(&other_name, shard(0, 2, "a")).unwrap();
    assert!(error(&other_name).contains("give the shards their names back"));
}

/// A tokenizer of SentencePiece's kind.
fn pieces() -> GgufFile {
    let mut file = GgufFile::default();
    // 3 control, 4 user-defined, 6 byte, 1 piece, 5 unused.
    let tokens = [
        ("<pad>", 3, 0.0),
        ("<eos>", 3, 0.0),
        ("<bos>", 3, 0.0),
        ("<unk>", 3, 0.0),
        ("<unused0>", 3, 0.0),
        ("  ", 4, 0.0),
        ("<h1>", 4, 0.0),
        ("<0xC3>", 6, 0.0),
        ("<0xA4>", 6, 0.0),
        ("▁a", 1, -1.0),
        ("ab", 1, 0.0),
        ("▁", 1, -9.0),
        ("a", 1, -9.0),
        ("b", 1, -9.0),
        ("[PAD14]", 5, 0.0),
    ];
    let column = |f: fn(&(&str, i32, f32)) -> i32| Key::Ints(tokens.iter().map(f).collect());
    file.set("tokenizer.ggml.model", Key::Text("llama".into()));
    file.set("tokenizer.ggml.tokens", Key::Texts(tokens.map(|t| t.0.into()).into()));
    file.set("tokenizer.ggml.token_type", column(|t| t.1));
    file.set("tokenizer.ggml.scores", Key::Floats(tokens.map(|t| t.2).into()));
    for (name, id) in [("bos", 2), ("eos", 1), ("padding", 0), ("unknown", 3), ("eot", 6)] {
        file.set(&format!("tokenizer.ggml.{name}_token_id"), Key::U32(id));
    }
    file.set("tokenizer.ggml.add_space_prefix", Key::Bool(false));
    file
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).unwrap().get_ids().to_vec()
}

#[test]
fn pieces_are_joined_by_score() {
    let parts = open(&pieces()).unwrap().tokenizer().unwrap();
    let tokenizer = &parts.tokenizer;
    // "ab" scores better than "▁a", wherever it stands.
    assert_eq!(ids(tokenizer, " ab"), [11, 10]);
    assert_eq!(ids(tokenizer, " a"), [9]);
    assert_eq!(ids(tokenizer, "  a"), [5, 12], "runs of spaces are pieces");
    assert_eq!(ids(tokenizer, "ä"), [7, 8], "bytes stand for what has no piece");
    assert_eq!(ids(tokenizer, "a€"), [12, 3], "a text without bytes is unknown");
    assert_eq!(ids(tokenizer, "<h1><unused0><eos>"), [6, 4, 1]);
    assert_eq!(tokenizer.decode(&[9, 10, 7, 8], false).unwrap(), " aabä");
    assert_eq!(tokenizer.encode("a", true).unwrap().get_ids(), [2, 12], "<bos>, by default");
    assert_eq!(tokenizer.token_to_id("[PAD14]"), None);
    let special = |id| tokenizer.get_added_tokens_decoder()[&id].special;
    assert_eq!([2, 4, 6].map(special), [true, false, false]);
    assert_eq!(parts.config["unk_token"], "<unk>");
    assert_eq!(parts.generation["eos_token_id"], serde_json::json!([1, 6]));

    let mut prefixed = pieces();
    prefixed.set("tokenizer.ggml.add_space_prefix", Key::Bool(true));
    prefixed.set("tokenizer.ggml.add_bos_token", Key::Bool(false));
    prefixed.set("tokenizer.ggml.add_eos_token", Key::Bool(true));
    let tokenizer = open(&prefixed).unwrap().tokenizer().unwrap().tokenizer;
    assert_eq!(tokenizer.encode("a", true).unwrap().get_ids(), [9, 1]);
    assert_eq!(tokenizer.decode(&[9, 10], false).unwrap(), "aab");
}

#[test]
fn what_is_wrong_with_a_tokenizer_is_named() {
    let named = |words: &str, key: &str, value: Key| {
        let mut file = pieces();
        file.set(&format!("tokenizer.ggml.{key}"), value);
        let error = open(&file).unwrap().tokenizer().map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    };
    named("'bert' is not supported", "model", Key::Text("bert".into()));
    named("15 tokens with 1 scores", "scores", Key::Floats(vec![0.0]));
    named("15 tokens with 1 types", "token_type", Key::Ints(vec![1]));
    named("of type 7, not of 1 to 6", "token_type", Key::Ints(vec![7; 15]));
    named("has two ids, 0 and 1", "tokens", Key::Texts(vec!["x".into(); 15]));
    let long: Vec<String> = (1..16).map(|n| "a".repeat(100 * n)).collect();
    named("token 10 is a text of 1100 bytes", "tokens", Key::Texts(long));
    named("eos_token_id is 15, but there are 15", "eos_token_id", Key::U32(15));
    named("is a text, not a whole number", "eot_token_id", Key::Text("1".into()));

    let bytes = |pre: &str, merge: &str| {
        let mut file = pieces();
        file.set("tokenizer.ggml.model", Key::Text("gpt2".into()));
        file.set("tokenizer.ggml.pre", Key::Text(pre.into()));
        file.set("tokenizer.ggml.merges", Key::Texts(vec![merge.into()]));
        open(&file).unwrap().tokenizer().map(drop)
    };
    bytes("gpt-2", "a b").unwrap();
    for (pre, merge, words) in [
        ("falcon", "a b", "'falcon' (tokenizer.ggml.pre)"),
        ("gpt-2", "ab", "\"ab\" is not of two tokens"),
        ("gpt-2", "ab ab", "abab"),
        ("gpt-2", "<unused0> <unused0>", "makes no token"),
        ("gpt-2", "b a", "ba"),
    ] {
        let error = bytes(pre, merge).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
}

/// A fixture's folder with only what GGUF can say of it.
fn plain_folder(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap().flatten().filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    match name {
        "llama" => config["rope_parameters"] = serde_json::json!({"rope_theta": 100.0}),
        "gemma3" => {
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
            config["layer_types"] = serde_json::json!(vec!["sliding_attention"; 3]);
            let full = &mut config["rope_parameters"]["full_attention"];
            *full = serde_json::json!({"rope_theta": 1e6, "rope_type": "default"});
        }
        _ => {}
    }
    fs::write(&path, config.to_string()).unwrap();
    dir
}

fn hidden(model: &LanguageModel) -> Tensor<3> {
    let rows: [&[u32]; 2] = [&[2, 5, 7, 11, 20, 21, 22, 23, 24, 300], &[3, 9, 9, 1]];
    model.decoder.hidden(&TokenBatch::right(&rows, 0, &model.device), &Pass::default())
}

#[test]
fn a_file_is_the_model_of_the_folder_that_it_was_made_of() {
    let device = device::parse("cpu").unwrap();
    for family in ["gemma3", "llama", "qwen2"] {
        let dir = plain_folder(family);
        let (_file, path) = written(&of_folder(dir.path()));
        let ours = LanguageModel::load(&path, None, &device).unwrap();
        let theirs = LanguageModel::load(dir.path(), None, &device).unwrap();
        let apart = (hidden(&ours) - hidden(&theirs)).abs().max().into_scalar::<f32>();
        assert!(apart < 1e-5, "{family}: {apart}");
    }
}

#[test]
fn a_tokenizer_of_bytes_is_that_of_the_folder_that_it_was_made_of() {
    for family in ["llama", "qwen2"] {
        let dir = fixture(family);
        let ours = open(&of_folder(&dir)).unwrap().tokenizer().unwrap();
        let mut theirs = load_tokenizer(&dir.join("tokenizer.json")).unwrap();
        if family == "qwen2" {
            // Qwen composes characters first, which the small tokenizer of the fixture does not.
            theirs.with_normalizer(Some(tokenizers::normalizers::NFC)).unwrap();
        }
        for text in texts(20_000) {
            assert_eq!(ids(&ours.tokenizer, &text), ids(&theirs, &text), "{family}: {text:?}");
        }
        let [ours, theirs] = [ChatTokenizer::new(ours), ChatTokenizer::from_dir(&dir)];
        let ends = |t: &ChatTokenizer| (t.bos(), t.eos(), t.pad(), t.stop_ids());
        assert_eq!(ends(&ours.unwrap()), ends(&theirs.unwrap()), "{family}");
    }
}

/// `CAI_GGUF=gemma-3-270m.gguf CAI_TOKENIZER=DIR cargo nextest run -p cai-model --test gguf
/// --run-ignored all --no-capture real`
#[test]
#[ignore = "needs CAI_GGUF, a file, and CAI_TOKENIZER, the folder of its own tokenizer"]
fn a_real_tokenizer_is_that_of_its_folder() {
    let timed = |what: &str, load: &dyn Fn() -> Tokenizer| {
        let start = Instant::now();
        let tokenizer = load();
        println!("{what}: {:?}", start.elapsed());
        tokenizer
    };
    let path = |name: &str| PathBuf::from(std::env::var(name).unwrap());
    let ours =
        timed("GGUF", &|| Gguf::open(&path("CAI_GGUF")).unwrap().tokenizer().unwrap().tokenizer);
    let theirs = timed("tokenizer.json", &|| {
        load_tokenizer(&path("CAI_TOKENIZER").join("tokenizer.json")).unwrap()
    });
    for text in texts(2 << 20) {
        for special in [false, true] {
            let [ours, theirs] =
                [&ours, &theirs].map(|t| t.encode(text.as_str(), special).unwrap());
            assert_eq!(ours.get_ids(), theirs.get_ids(), "{text:?}");
        }
    }
}

/// Texts of all kinds, of about so many bytes together.
fn texts(bytes: usize) -> Vec<String> {
    let mut rng = Seed(1).derive("texts").rng();
    let mut texts = Vec::new();
    let mut len = 0;
    while len < bytes {
        let parts = rng.random_range(1..40);
        let text: String = (0..parts).map(|_| part(&mut rng)).collect();
        len += text.len();
        texts.push(text);
    }
    texts
}

fn part(rng: &mut impl Rng) -> String {
    const WORDS: &[&str] = &[
        " the",
        " I'm",
        "Don't",
        " WE'LL",
        "naïve",
        " café",
        " 3.14",
        "1234567890",
        " x_1 = f(y);",
        "\n    return",
        " https://example.com/?a=b&c=%20",
        " „Zitat“",
        " …",
        "--",
        " ½",
        "Ⅷ",
        "ﬁ",
        "e\u{301}",
        "a\u{308}\u{323}",
        "İstanbul",
        "привет",
        " שלום",
        "مرحبا",
        "नमस्ते",
        "สวัสดี",
        "안녕하세요",
        "你好，世界",
        "日本語のテキスト",
        "😀",
        "👩‍💻",
        "🏳️‍🌈",
        "🇩🇪",
        "👍🏽",
        "1️⃣",
        "\u{200d}",
        "\u{feff}",
        "\u{fffd}",
        "Ã©",
        "\0",
        "\x1b[0m",
        "\u{10ffff}",
        "▁",
        "▁▁",
    ];
    const CONTROLS: &[&str] = &[
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "[multimodal]",
        "<unused5>",
        "<unused99>",
        "<h1>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<end_of_image>",
        "<end_of_turn",
        "</table>",
        "<0x0A>",
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "[PAD151936]",
        "<tool_call>",
        "<s>",
        "</s>",
    ];
    const SPACES: &[&str] = &[" ", "\n", "\t", "\r\n", "\r", "\u{a0}", "\u{3000}", "\u{b}"];
    match rng.random_range(0..10) {
        0 => one(CONTROLS, rng),
        1 | 2 => one(SPACES, rng).repeat([1, 1, 2, 3, 16, 31, 40][rng.random_range(0..7)]),
        3 => (0..4).filter_map(|_| char::from_u32(rng.random_range(0..0x2_0000))).collect(),
        _ => one(WORDS, rng),
    }
}

fn one(list: &[&str], rng: &mut impl Rng) -> String {
    list[rng.random_range(0..list.len())].into()
}
