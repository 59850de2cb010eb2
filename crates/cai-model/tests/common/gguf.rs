//! GGUF files for tests: written by hand, or made of a model's folder as llama.cpp's converter does.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::SafeTensors;
use serde_json::Value;

/// A value of the metadata.
#[derive(Clone)]
pub enum Key {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Ints(Vec<i32>),
}

/// A tensor: outermost dimension first, ggml's number of its type, its bytes.
#[derive(Clone)]
pub struct Stored {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: u32,
    pub bytes: Vec<u8>,
}

/// What a file holds.
#[derive(Clone, Default)]
pub struct GgufFile {
    pub keys: Vec<(String, Key)>,
    pub tensors: Vec<Stored>,
}

impl GgufFile {
    pub fn set(&mut self, key: &str, value: Key) {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.into(), value));
    }

    /// A tensor of f32.
    pub fn add(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push(Stored { name: name.into(), shape: shape.into(), kind: 0, bytes });
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key);
            write(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().rev().flat_map(|n| (*n as u64).to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write(out: &mut Vec<u8>, value: &Key) {
    let array = |out: &mut Vec<u8>, kind: u32, len: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match value {
        Key::U32(n) => out.extend([4u32.to_le_bytes(), n.to_le_bytes()].concat()),
        Key::F32(n) => out.extend([6u32.to_le_bytes(), n.to_le_bytes()].concat()),
        Key::Bool(b) => out.extend([&7u32.to_le_bytes()[..], &[*b as u8]].concat()),
        Key::Text(value) => {
            out.extend(8u32.to_le_bytes());
            text(out, value);
        }
        Key::Texts(texts) => {
            array(out, 8, texts.len());
            texts.iter().for_each(|value| text(out, value));
        }
        Key::Floats(numbers) => {
            array(out, 6, numbers.len());
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
        Key::Ints(numbers) => {
            array(out, 5, numbers.len());
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
    }
}

/// The folder of a Llama, Qwen 2 or Gemma 3 as one file, weights in f32.
pub fn of_folder(dir: &Path) -> GgufFile {
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
    };
    let config = json("config.json");
    let model = config["model_type"].as_str().unwrap();
    let architecture = if model == "gemma3_text" { "gemma3" } else { model };
    let mut file = GgufFile::default();
    file.set("general.architecture", Key::Text(architecture.into()));
    for (key, name) in [
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("block_count", "num_hidden_layers"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("context_length", "max_position_embeddings"),
        ("attention.sliding_window", "sliding_window"),
    ] {
        if let Some(size) = config[name].as_u64() {
            file.set(&format!("{architecture}.{key}"), Key::U32(size as u32));
        }
    }
    let eps = config["rms_norm_eps"].as_f64().unwrap() as f32;
    file.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Key::F32(eps));
    let rope = &config["rope_parameters"];
    let rope = if rope["full_attention"].is_null() { rope } else { &rope["full_attention"] };
    let theta = rope["rope_theta"].as_f64().unwrap() as f32;
    file.set(&format!("{architecture}.rope.freq_base"), Key::F32(theta));
    tokenizer(&mut file, &json("tokenizer.json"), &json("tokenizer_config.json"), architecture);
    let ends = &json("generation_config.json")["eos_token_id"];
    for (name, end) in ["eos", "eot"].iter().zip(ends.as_array().unwrap()) {
        let id = end.as_u64().unwrap() as u32;
        file.set(&format!("tokenizer.ggml.{name}_token_id"), Key::U32(id));
    }
    let template = fs::read_to_string(dir.join("chat_template.jinja")).unwrap();
    file.set("tokenizer.chat_template", Key::Text(template));
    tensors(&mut file, dir, &config, architecture);
    file
}

fn tokenizer(file: &mut GgufFile, json: &Value, config: &Value, architecture: &str) {
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let by_id: BTreeMap<u64, &String> =
        vocab.iter().map(|(text, id)| (id.as_u64().unwrap(), text)).collect();
    let added: Vec<u64> = json["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].as_u64().unwrap())
        .collect();
    let kind = |(id, text): (&u64, &&String)| match text.starts_with("<0x") {
        _ if added.contains(id) => 3,
        true => 6,
        false => 1,
    };
    file.set("tokenizer.ggml.token_type", Key::Ints(by_id.iter().map(kind).collect()));
    let tokens: Vec<String> = by_id.values().map(|text| text.to_string()).collect();
    file.set(
        "tokenizer.ggml.scores",
        Key::Floats((0..tokens.len()).map(|i| -(i as f32)).collect()),
    );
    file.set("tokenizer.ggml.tokens", Key::Texts(tokens));
    let merges = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    file.set("tokenizer.ggml.merges", Key::Texts(merges.collect()));
    let (model, pre) = match architecture {
        "gemma3" => ("llama", "default"),
        "llama" => ("gpt2", "llama-bpe"),
        _ => ("gpt2", "qwen2"),
    };
    file.set("tokenizer.ggml.model", Key::Text(model.into()));
    file.set("tokenizer.ggml.pre", Key::Text(pre.into()));
    file.set("tokenizer.ggml.add_space_prefix", Key::Bool(false));
    for (key, name) in [("bos", "bos"), ("padding", "pad")] {
        if let Some(id) = config[format!("{name}_token")].as_str().map(|text| &vocab[text]) {
            let id = id.as_u64().unwrap() as u32;
            file.set(&format!("tokenizer.ggml.{key}_token_id"), Key::U32(id));
        }
    }
}

fn tensors(file: &mut GgufFile, dir: &Path, config: &Value, architecture: &str) {
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut values: Vec<f32> =
            view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if architecture == "gemma3" && name.ends_with("norm.weight") {
            values.iter_mut().for_each(|v| *v += 1.0);
        }
        let of_rope = name.contains(".q_proj.") || name.contains(".k_proj.");
        if architecture == "llama" && of_rope {
            let head = config["head_dim"].as_u64().unwrap() as usize;
            values = pairs(&values, head, view.shape().get(1).copied().unwrap_or(1));
        }
        file.add(&own_name(&name, architecture), view.shape(), &values);
    }
}

/// Rows of each head in the order of rotated pairs, from that of rotated halves.
fn pairs(values: &[f32], head: usize, width: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks(width).collect();
    let from = |row: usize| row / head * head + row % head / 2 + row % 2 * (head / 2);
    (0..rows.len()).flat_map(|row| rows[from(row)].to_vec()).collect()
}

fn own_name(name: &str, architecture: &str) -> String {
    let post = if architecture == "gemma3" { "post_attention_norm" } else { "ffn_norm" };
    let names = [
        ("model.embed_tokens", "token_embd"),
        ("model.layers", "blk"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", post),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj.", "."),
    ];
    names.iter().fold(name.to_string(), |name, (theirs, own)| name.replace(theirs, own))
}
