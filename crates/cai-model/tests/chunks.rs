//! Log-probabilities in several chunks of the vocabulary equal those from whole logits, and so do
//! the gradients of an adapter.

use burn::{
    module::Module,
    tensor::{Tensor, activation::log_softmax},
};
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, DecoderSpec, Pass, RandomInit},
    device,
    lora::{LoraConfig, add_adapter},
    loss::{score_tokens, trained_hidden},
    tokenizer::Example,
};
use serde_json::json;

/// So wide that a chunk holds 27 tokens.
const VOCABULARY: usize = 300_000;

fn decoder(softcap: Option<f64>) -> Decoder {
    let config = json!({
        "model_type": "gemma2", "vocab_size": VOCABULARY, "hidden_size": 8, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "query_pre_attn_scalar": 4, "final_logit_softcapping": softcap,
    });
    let config = DecoderSpec::from_json(config).unwrap();
    let device = device::parse("cpu").unwrap();
    let mut source = RandomInit { seed: Seed(1), std: 0.5, device };
    let decoder = Decoder::load(&config, &mut source).unwrap();
    let lora = LoraConfig { r: 2, lora_alpha: 4.0, ..LoraConfig::default() };
    add_adapter(decoder, &lora, Seed(2)).unwrap()
}

fn example(length: u32) -> Example {
    let ids = (0..length).map(|i| (i * 7919) % VOCABULARY as u32).collect();
    Example { ids, trained: (0..length).map(|i| i > 2).collect() }
}

#[test]
fn chunks_equal_whole_logits() {
    for softcap in [None, Some(3.0)] {
        let decoder = decoder(softcap).train();
        let examples = [&example(40), &example(33)];
        let adapter_b = || {
            let layer = &decoder.model.layers[0];
            layer.mlp.down_proj.lora.as_ref().unwrap().lora_b.val()
        };

        let trained = trained_hidden(&decoder, &examples, 0, &Pass::default());
        let count = trained.targets.len();
        assert_eq!(count, 37 + 30);
        let scored = score_tokens(&decoder, &trained, true);
        let weights: Vec<f32> = (0..count).map(|i| 0.5 - i as f32 / 50.0).collect();
        let grads = scored.surrogate(&weights).unwrap().backward();
        let by_chunks = adapter_b().grad(&grads).unwrap();

        let whole = trained_hidden(&decoder, &examples, 0, &Pass::default());
        let ids: Vec<i64> = whole.targets.iter().map(|&t| t as i64).collect();
        let device = by_chunks.device();
        let target = Tensor::<1, burn::tensor::Int>::from_data(ids.as_slice(), &device);
        let logps = log_softmax(decoder.logits(whole.hidden), 1).gather(1, target.unsqueeze_dim(1));
        let expected: Vec<f32> = logps.clone().inner().into_data().iter::<f32>().collect();
        for (chunk, whole) in scored.logps.iter().zip(&expected) {
            assert!((chunk - whole).abs() < 1e-4, "{chunk} {whole}");
        }
        let weights = Tensor::<1>::from_floats(weights.as_slice(), &device).unsqueeze_dim::<2>(1);
        let grads = (logps * weights).sum().backward();
        let by_whole = adapter_b().grad(&grads).unwrap();
        let largest = by_whole.clone().abs().max().into_scalar::<f32>();
        let difference = (by_chunks - by_whole).abs().max().into_scalar::<f32>();
        assert!(largest > 0.0 && difference < 1e-3 * largest, "{difference} of {largest}");
    }
}

#[test]
fn examples_without_trained_tokens_have_no_scores() {
    let decoder = decoder(None).train();
    let example = Example { trained: vec![false; 9], ..example(9) };
    for recompute in [false, true] {
        let pass = Pass { recompute, ..Pass::default() };
        let trained = trained_hidden(&decoder, &[&example], 0, &pass);
        assert_eq!(trained.hidden.dims(), [0, 8]);
        assert!(trained.rows.iter().all(|rows| rows.is_empty()));
        assert!(score_tokens(&decoder, &trained, true).logps.is_empty());
    }
}
