//! Damaged and hostile model folders, adapters and GGUF files: an error or a working model, never a
//! panic.

#[path = "common/gguf.rs"]
mod file;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use cai_data::seed::Seed;
use cai_model::{
    batch::TokenBatch,
    decoder::{Decoder, Pass},
    device,
    model::{LanguageModel, LoadOptions, check},
    quantize::Bits,
    source::{Quantize, gguf::Gguf},
};
use file::{GgufFile, Key, of_folder};
use rand::{Rng, RngExt};
use serde_json::{Map, Value, json};

const FIXTURES: [&str; 4] = ["gemma1", "gemma2", "gemma3", "untied"];
const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter/adapter_model.safetensors";
const JSON: [&str; 4] = [
    "config.json",
    "adapter/adapter_config.json",
    "generation_config.json",
    "tokenizer_config.json",
];

/// A model folder in memory: file name to bytes.
type Folder = BTreeMap<String, Vec<u8>>;

fn folder(fixture: &str) -> Folder {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let names = [JSON.as_slice(), &[MODEL, ADAPTER, "tokenizer.json", "chat_template.jinja"]];
    let read = |name: &&str| Some((name.to_string(), fs::read(dir.join(name)).ok()?));
    names.concat().iter().filter_map(read).collect()
}

/// Loads the folder with its adapter and, if that works, runs the model.
fn load(files: &Folder, bits: Option<Bits>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("adapter")).unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let work = || -> cai_model::Result<()> {
        check(dir.path())?;
        let device = device::parse("cpu")?;
        let adapter = dir.path().join("adapter");
        let quantize = bits.map(Quantize::To);
        let options = LoadOptions { adapter: Some(adapter), quantize, ..LoadOptions::default() };
        let model = LanguageModel::load_with(dir.path(), &options, &device)?;
        run(&model.decoder, &device);
        Ok(())
    };
    outcome(work)
}

fn outcome(work: impl Fn() -> cai_model::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => panic!("a panic where an error was due"),
    }
}

fn run(decoder: &Decoder, device: &burn::tensor::Device) {
    let batch = TokenBatch::right(&[&[2, 5, 7]], 0, device);
    let hidden = decoder.hidden(&batch, &Pass::default());
    assert_eq!(hidden.dims()[1], 3);
}

/// One of the ways to spoil a folder, in words.
fn spoil(files: &mut Folder, rng: &mut impl Rng) -> String {
    match rng.random_range(0..6) {
        0 => {
            let names: Vec<String> =
                files.keys().filter(|name| *name != "tokenizer.json").cloned().collect();
            let name = &names[rng.random_range(0..names.len())];
            let how = spoil_bytes(files.get_mut(name).unwrap(), rng);
            format!("{name}: {how}")
        }
        1 | 2 => {
            let name = if rng.random() { MODEL } else { ADAPTER };
            format!("{name}: {}", spoil_header(files.get_mut(name).unwrap(), rng))
        }
        3 | 4 => {
            let name = JSON[rng.random_range(0..2)];
            format!("{name}: {}", spoil_json(files.get_mut(name).unwrap(), rng))
        }
        _ => spoil_index(files, rng),
    }
}

fn spoil_bytes(bytes: &mut Vec<u8>, rng: &mut impl Rng) -> String {
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..5) {
        0 => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
        1 => {
            for _ in 0..rng.random_range(1..20) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            "random bytes".into()
        }
        2 => {
            // The header and the text of a file are small: hit them more often than the weights.
            let at = rng.random_range(0..bytes.len().min(200));
            bytes[at] ^= 1 << rng.random_range(0..8);
            format!("one bit at {at}")
        }
        3 => {
            let end = (at + rng.random_range(1..64)).min(bytes.len());
            // Infinities and NaNs as f32 and bf16.
            bytes[at..end].fill(0xff);
            format!("ones from {at} to {end}")
        }
        _ => {
            let more: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
            bytes.splice(at..at, more);
            format!("more bytes at {at}")
        }
    }
}

/// Values that no file should hold where a number, a name or a list belongs.
fn hostile(rng: &mut impl Rng) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(u64::MAX),
        json!(1u64 << 62),
        json!(1u64 << 28),
        json!(1e308),
        json!(-0.0),
        json!(0.5),
        json!("x"),
        json!(""),
        json!("../../../etc/passwd"),
        json!([]),
        json!([0]),
        json!([1, -1]),
        json!([u64::MAX, u64::MAX]),
        json!({}),
        json!({"a": {"b": 1}}),
    ];
    all[rng.random_range(0..all.len())].clone()
}

fn spoil_json(bytes: &mut Vec<u8>, rng: &mut impl Rng) -> String {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    let how = spoil_map(value.as_object_mut().unwrap(), rng);
    *bytes = serde_json::to_vec(&value).unwrap();
    how
}

fn spoil_map(map: &mut Map<String, Value>, rng: &mut impl Rng) -> String {
    let keys: Vec<String> = map.keys().cloned().collect();
    let key = &keys[rng.random_range(0..keys.len())];
    if rng.random_range(0..5) == 0 {
        map.shift_remove(key);
        return format!("{key} removed");
    }
    let inner = map.get_mut(key).and_then(Value::as_object_mut).filter(|map| !map.is_empty());
    if let Some(inner) = inner {
        return format!("{key}.{}", spoil_map(inner, rng));
    }
    let value = hostile(rng);
    let how = format!("{key} = {value}");
    map.insert(key.clone(), value);
    how
}

/// Changes the JSON header of a safetensors file, or its length.
fn spoil_header(file: &mut Vec<u8>, rng: &mut impl Rng) -> String {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    if rng.random_range(0..4) == 0 {
        let wrong =
            [0, 1, length as u64 - 1, length as u64 + 1, file.len() as u64, u64::MAX, 1 << 40];
        let wrong = wrong[rng.random_range(0..wrong.len())];
        file[..8].copy_from_slice(&wrong.to_le_bytes());
        return format!("header length {wrong}");
    }
    let mut header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let map = header.as_object_mut().unwrap();
    let names: Vec<String> = map.keys().filter(|name| *name != "__metadata__").cloned().collect();
    let name = &names[rng.random_range(0..names.len())];
    let other = map[&names[rng.random_range(0..names.len())]].clone();
    let how = match rng.random_range(0..7) {
        0 => {
            map.insert(name.clone(), other);
            format!("{name} lies where another does")
        }
        1 => {
            map[name]["data_offsets"][rng.random_range(0..2)] = hostile(rng);
            format!("{name}: offsets {}", map[name]["data_offsets"])
        }
        2 => {
            let dtypes = ["F64", "F16", "BF16", "F8_E5M2", "I64", "U8", "BOOL", "F4", "nonsense"];
            map[name]["dtype"] = json!(dtypes[rng.random_range(0..dtypes.len())]);
            format!("{name}: type {}", map[name]["dtype"])
        }
        3 => {
            let mut shape = map[name]["shape"].as_array().unwrap().clone();
            shape.reverse();
            map[name]["shape"] = json!(shape);
            format!("{name}: shape reversed")
        }
        4 => {
            map[name]["shape"] = hostile(rng);
            format!("{name}: shape {}", map[name]["shape"])
        }
        5 => {
            let value = map.shift_remove(name).unwrap();
            map.insert(format!("{name}x"), value);
            format!("{name} renamed")
        }
        _ => spoil_map(map, rng),
    };
    let header = serde_json::to_vec(&header).unwrap();
    let new = [&(header.len() as u64).to_le_bytes(), header.as_slice(), &file[8 + length..]];
    *file = new.concat();
    how
}

/// Makes the folder a sharded one with something wrong in the index.
fn spoil_index(files: &mut Folder, rng: &mut impl Rng) -> String {
    let weights = files.remove(MODEL).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    files.insert(shard.into(), weights);
    let names = header.keys().filter(|name| *name != "__metadata__");
    let map: Map<String, Value> = names.map(|name| (name.clone(), json!(shard))).collect();
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let names: Vec<String> = map.keys().cloned().collect();
    let name = names[rng.random_range(0..names.len())].as_str();
    let wrong = [
        "../model.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "a/b.safetensors",
        "..\\b.safetensors",
        "model-00002-of-00002.safetensors",
        ".safetensors",
        "adapter.safetensors/../x.safetensors",
        "x\0.safetensors",
        "",
    ];
    let how = match rng.random_range(0..3) {
        0 => {
            let wrong = wrong[rng.random_range(0..wrong.len())];
            index["weight_map"][name] = json!(wrong);
            format!("{name} in {wrong:?}")
        }
        1 => {
            index["weight_map"]["not.there"] = json!(shard);
            "a tensor that no shard holds".into()
        }
        _ => spoil_map(index.as_object_mut().unwrap(), rng),
    };
    files.insert(INDEX.into(), serde_json::to_vec(&index).unwrap());
    format!("index: {how}")
}

/// How many of the spoilt folders were refused.
fn fuzz(first: u64, go_on: impl Fn(u64) -> bool) -> (u64, u64) {
    let folders = FIXTURES.map(folder);
    for files in &folders {
        load(files, None).expect("the fixture itself loads");
    }
    let (mut count, mut refused) = (0, 0);
    while go_on(count) {
        let mut rng = Seed(first + count).derive("hostile").rng();
        let mut files = folders[rng.random_range(0..folders.len())].clone();
        let how = spoil(&mut files, &mut rng);
        let bits = [None, Some(Bits::Eight), Some(Bits::Four)][rng.random_range(0..3)];
        let outcome = catch_unwind(AssertUnwindSafe(|| load(&files, bits)));
        match outcome {
            Ok(outcome) => refused += outcome.is_err() as u64,
            Err(_) => panic!("seed {}, {how}: panicked", first + count),
        }
        count += 1;
    }
    (count, refused)
}

#[test]
fn spoilt_folders_never_panic() {
    let (count, refused) = fuzz(0, |count| count < 300);
    // Some changes do no harm: a bit of a weight, a key that nobody reads.
    assert!(refused > count / 2, "{refused} of {count} refused");
}

/// The same for minutes, from another seed each time:
///
/// `CAI_FUZZ_MINUTES=10 cargo nextest run -p cai-model --test hostile --run-ignored all --no-capture`
#[test]
#[ignore = "runs for CAI_FUZZ_MINUTES"]
fn spoilt_folders_never_panic_for_long() {
    let minutes = std::env::var("CAI_FUZZ_MINUTES").ok().and_then(|m| m.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(1));
    let first = Seed(std::process::id() as u64).derive("fuzz").0 >> 8;
    let (count, refused) = fuzz(first, |_| Instant::now() < end);
    println!("{count} folders from seed {first}, {refused} refused");
}

#[test]
fn each_kind_of_damage_is_named() {
    let named = |change: &dyn Fn(&mut Folder), words: &str| {
        for bits in [None, Some(Bits::Four)] {
            let mut files = folder("gemma1");
            change(&mut files);
            let error = load(&files, bits).unwrap_err();
            assert!(error.contains(words), "{error:?} does not say {words:?}");
        }
    };
    let weights =
        |files: &mut Folder, change: fn(&mut Vec<u8>)| change(files.get_mut(MODEL).unwrap());
    named(&|files| weights(files, |w| w.truncate(w.len() - 1)), "not a whole safetensors file");
    named(&|files| weights(files, |w| w.truncate(5)), "not a whole safetensors file");
    named(&|files| weights(files, |w| w[..8].fill(0xff)), "not a whole safetensors file");
    let nan = |w: &mut Vec<u8>| {
        let end = w.len();
        w[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    named(&|files| weights(files, nan), "not finite");
    let config = |files: &mut Folder, key: &str, value: Value| {
        let bytes = files.get_mut("config.json").unwrap();
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        config[key] = value;
        *bytes = serde_json::to_vec(&config).unwrap();
    };
    named(&|files| config(files, "intermediate_size", json!(7)), "where the config asks for");
    named(&|files| config(files, "num_hidden_layers", json!(1)), "have no place in this model");
    named(&|files| config(files, "num_hidden_layers", json!(1 << 27)), "num_hidden_layers");
    named(&|files| config(files, "hidden_size", json!(0)), "hidden_size");
    let index = |files: &mut Folder, shard: &str| {
        let weights = files.remove(MODEL).unwrap();
        files.insert("model-1.safetensors".into(), weights);
        let map = json!({"weight_map": {"model.norm.weight": shard}});
        files.insert(INDEX.into(), serde_json::to_vec(&map).unwrap());
    };
    named(&|files| index(files, "../model-1.safetensors"), "not a file of this folder");
    named(&|files| index(files, "/etc/passwd"), "not a file of this folder");
    named(&|files| index(files, "model-2.safetensors"), "model-2.safetensors");
}

/// Counts what each thread allocates, to see that no file has more allocated than it holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn held(change: isize) {
    HELD.set(HELD.get() + change);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        held(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Opens the file and, if that works, loads and runs the model and its tokenizer.
fn load_gguf(bytes: &[u8], bits: Option<Bits>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    HELD.set(0);
    PEAK.set(0);
    let opened = outcome(|| Gguf::open(&path).map(drop));
    let (peak, most) = (PEAK.get() as usize, 16 * bytes.len() + (1 << 16));
    assert!(peak < most, "{peak} bytes allocated for a file of {}", bytes.len());
    opened?;
    outcome(|| {
        let device = device::parse("cpu")?;
        let options = LoadOptions { quantize: bits.map(Quantize::To), ..LoadOptions::default() };
        let model = LanguageModel::load_with(&path, &options, &device)?;
        model.tokenizer.encode("A text, 2 texts.")?;
        run(&model.decoder, &device);
        Ok(())
    })
}

/// One of the ways to spoil a GGUF file, in words.
fn spoil_gguf(file: &GgufFile, rng: &mut impl Rng) -> (Vec<u8>, String) {
    let mut file = file.clone();
    let how = match rng.random_range(0..6) {
        0 => {
            let mut bytes = file.bytes();
            let how = spoil_bytes(&mut bytes, rng);
            return (bytes, how);
        }
        1 | 2 => {
            let mut bytes = file.bytes();
            // Lengths, types and offsets stand in the header, of which the tokens are the most.
            let header = bytes.len() - file.tensors.iter().map(|t| t.bytes.len()).sum::<usize>();
            let at = match rng.random() {
                true => rng.random_range(0..header - 8),
                false => rng.random_range(0..64),
            };
            let number = [0, 1, 3, 9, 1 << 20, 1 << 33, u64::MAX, 1 << 63][rng.random_range(0..8)];
            let width = [1, 4, 8][rng.random_range(0..3)];
            bytes[at..at + width].copy_from_slice(&u64::to_le_bytes(number)[..width]);
            return (bytes, format!("{number} in {width} bytes at {at}"));
        }
        3 | 4 => {
            let (key, value) = {
                let place = rng.random_range(0..file.keys.len());
                &mut file.keys[place]
            };
            *value = [
                Key::U32(0),
                Key::U32(u32::MAX),
                Key::U32(3),
                Key::F32(f32::NAN),
                Key::F32(-1e30),
                Key::Bool(true),
                Key::Text("llama".into()),
                Key::Text("gpt2".into()),
                Key::Text("\0".into()),
                Key::Texts(vec![]),
                Key::Texts(vec!["a b".into(); 330]),
                Key::Texts((0..330).map(|i| format!("{i}")).collect()),
                Key::Floats(vec![f32::NAN; 330]),
                Key::Ints(vec![4; 330]),
                Key::Ints(vec![5; 330]),
                Key::Ints(vec![-1; 330]),
            ][rng.random_range(0..16)]
            .clone();
            format!("another value of {key}")
        }
        _ => {
            let place = rng.random_range(0..file.tensors.len());
            let tensor = &mut file.tensors[place];
            match rng.random_range(0..3) {
                0 => tensor.kind = [1, 2, 8, 12, 30, 99][rng.random_range(0..6)],
                1 => tensor.shape.reverse(),
                _ => {
                    let all: [&[usize]; 5] = [&[], &[0], &[1], &[usize::MAX, 2], &[1 << 40]];
                    tensor.shape = all[rng.random_range(0..5)].into();
                }
            }
            format!("{}: type {}, shape {:?}", tensor.name, tensor.kind, tensor.shape)
        }
    };
    (file.bytes(), how)
}

/// How many of the spoilt files were refused.
fn fuzz_gguf(first: u64, go_on: impl Fn(u64) -> bool) -> (u64, u64) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = ["gemma3", "llama", "qwen2"].map(|name| of_folder(&fixtures.join(name)));
    for file in &files {
        load_gguf(&file.bytes(), None).expect("the file itself loads");
    }
    let (mut count, mut refused) = (0, 0);
    while go_on(count) {
        let mut rng = Seed(first + count).derive("hostile gguf").rng();
        let (bytes, how) = spoil_gguf(&files[rng.random_range(0..files.len())], &mut rng);
        let bits = [None, Some(Bits::Eight)][rng.random_range(0..2)];
        let start = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| load_gguf(&bytes, bits))) {
            Ok(outcome) => refused += outcome.is_err() as u64,
            Err(_) => panic!("seed {}, {how}: panicked", first + count),
        }
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(20), "seed {}, {how}: {taken:?}", first + count);
        count += 1;
    }
    (count, refused)
}

#[test]
fn spoilt_gguf_files_never_panic() {
    let (count, refused) = fuzz_gguf(0, |count| count < 300);
    assert!(refused > count / 2, "{refused} of {count} refused");
}

/// As [`spoilt_folders_never_panic_for_long`].
#[test]
#[ignore = "runs for CAI_FUZZ_MINUTES"]
fn spoilt_gguf_files_never_panic_for_long() {
    let minutes = std::env::var("CAI_FUZZ_MINUTES").ok().and_then(|m| m.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(1));
    let first = Seed(std::process::id() as u64).derive("fuzz").0 >> 8;
    let (count, refused) = fuzz_gguf(first, |_| Instant::now() < end);
    println!("{count} files from seed {first}, {refused} refused");
}

#[test]
fn arrays_within_arrays_are_bounded() {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend([0u64, 1, 1].map(u64::to_le_bytes).concat());
    bytes.extend(b"k");
    bytes.extend(9u32.to_le_bytes());
    for _ in 0..100_000 {
        // An array of one array.
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
    }
    let error = load_gguf(&bytes, None).unwrap_err();
    assert!(error.contains("arrays within arrays"), "{error}");
}
