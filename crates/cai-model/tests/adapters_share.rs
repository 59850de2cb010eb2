//! Several adapters on one base: its weights are there once, and choosing one copies nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use burn::tensor::DType;
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, DecoderSpec, RandomInit},
    export::save_folder,
    lora::{Adapters, LoraConfig, prompt_logits},
    model::LanguageModel,
};
use serde_json::json;

/// Counts the bytes that are asked for and not yet given back.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A folder whose weights take 4 MB.
fn base() -> tempfile::TempDir {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gemma1");
    let config = json!({
        "model_type": "gemma", "vocab_size": 330, "hidden_size": 128, "intermediate_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 32,
        "hidden_act": "gelu_pytorch_tanh",
    });
    let device = cai_model::device::parse("cpu").unwrap();
    let mut source = RandomInit { seed: Seed(1), std: 0.1, device };
    let decoder = Decoder::load(&DecoderSpec::from_json(config).unwrap(), &mut source).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save_folder(&decoder, Some(fixture.as_ref()), DType::F32, dir.path()).unwrap();
    dir
}

#[test]
fn three_adapters_share_one_base() {
    let dir = base();
    let device = cai_model::device::parse("cpu").unwrap();
    let model = LanguageModel::load(dir.path(), None, &device).unwrap();
    let weights = model.spec.num_parameters() * 4;
    let names = ["a", "b", "c"];
    for (i, name) in names.into_iter().enumerate() {
        let lora = LoraConfig { r: 1, use_dora: i == 2, ..LoraConfig::default() };
        let fresh = model.clone().add_adapter(&lora, Seed(i as u64)).unwrap();
        fresh.save_adapter(&dir.path().join(name)).unwrap();
    }
    let mut adapters = Adapters::new(model);
    // Threads, caches and the like are there after a first pass.
    let prompt = [vec![2, 5, 7]];
    let before_any = prompt_logits(adapters.base(), &prompt).unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    for name in names {
        adapters.load(name, &dir.path().join(name)).unwrap();
        prompt_logits(adapters.active(Some(name)).unwrap(), &prompt).unwrap();
    }
    let grown = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    assert!(grown < weights / 5, "three small adapters take {grown} bytes, the base {weights}");

    assert!(adapters.names().eq(names));
    assert!(adapters.active(Some("d")).is_err_and(|e| e.to_string().contains("a, b, c")));
    assert!(adapters.load("a", &dir.path().join("a")).is_err());
    // The base is as it was.
    let after = prompt_logits(adapters.active(None).unwrap(), &prompt).unwrap();
    assert_eq!(before_any[0].to_data(), after[0].to_data());
}
