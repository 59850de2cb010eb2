use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde_json::json;

use super::*;
use crate::decoder::{DecoderSpec, Linear, Pass, RandomInit};

const NAME: &str = "model.layers.0.mlp.up_proj";

fn device() -> Device {
    crate::device::parse("cpu").unwrap()
}

fn gemma() -> Decoder {
    let config = DecoderSpec::from_json(json!({
        "model_type": "gemma", "vocab_size": 20, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    }));
    let mut source = RandomInit { seed: Seed(1), std: 0.3, device: device() };
    Decoder::load(&config.unwrap(), &mut source).unwrap()
}

fn config(value: serde_json::Value) -> LoraConfig {
    serde_json::from_value(value).unwrap()
}

/// A projection whose update is not zero.
fn adapted(config: &LoraConfig) -> Linear {
    let mut linear =
        add_adapter(gemma(), config, Seed(2)).unwrap().model.layers[0].mlp.up_proj.clone();
    let lora = linear.lora.take().unwrap();
    let [out, rank] = lora.lora_b.dims();
    let b = adapter::kaiming_uniform(out, rank, Seed(3), &device());
    let a = lora.lora_a.val();
    let dora = config.use_dora.then(|| Dora::new(NAME, &linear, None));
    let lora = LoraAdapter::new(NAME, [a, b], dora, config.scale(NAME), config.lora_dropout);
    linear.lora = Some(lora.trainable());
    linear
}

fn input() -> Tensor<2> {
    adapter::kaiming_uniform(5, 8, Seed(4), &device()).mul_scalar(10.0)
}

fn values(x: Tensor<2>) -> Vec<f32> {
    x.inner().into_data().iter::<f32>().collect()
}

fn close(a: Tensor<2>, b: Tensor<2>) {
    let largest = (a.inner() - b.inner()).abs().max().into_scalar::<f32>();
    assert!(largest < 1e-5, "{largest}");
}

fn seeded(seed: u64) -> Pass {
    Pass { seed: Some(Seed(seed)), ..Pass::default() }
}

#[test]
fn a_fresh_adapter_changes_nothing() {
    let x = input();
    for use_dora in [false, true] {
        let config = config(json!({"r": 2, "use_dora": use_dora}));
        let model = add_adapter(gemma(), &config, Seed(2)).unwrap();
        let linear = &model.model.layers[0].mlp.up_proj;
        let ours = values(linear.forward(x.clone(), &Pass::default()));
        assert_eq!(ours, values(linear.project(x.clone())), "use_dora {use_dora}");
    }
}

#[test]
fn dora_scales_the_rows_of_the_whole_weight() {
    let linear = adapted(&config(json!({"r": 2, "lora_alpha": 3, "use_dora": true})));
    let lora = linear.lora.as_ref().unwrap();
    let weight = linear.dense_weight();
    let update = lora.lora_b.val().matmul(lora.lora_a.val()).mul_scalar(1.5);
    let sum = weight.clone() + update;
    let norm = |w: Tensor<2>| w.square().sum_dim(1).sqrt();
    let rows = sum.clone() / norm(sum) * norm(weight);
    close(linear.forward(input(), &Pass::default()), input().matmul(rows.transpose()));
}

#[test]
fn dropout_is_off_unless_there_is_a_seed() {
    for use_dora in [false, true] {
        let config = |p: f64| config(json!({"r": 2, "lora_dropout": p, "use_dora": use_dora}));
        let with = adapted(&config(0.5)).forward(input(), &Pass::default());
        let without = adapted(&config(0.0));
        assert_eq!(values(with), values(without.forward(input(), &Pass::default())));
        assert_eq!(
            values(without.forward(input(), &seeded(1))),
            values(without.forward(input(), &Pass::default()))
        );
    }
}

#[test]
fn dropout_reaches_the_input_of_the_update_as_in_peft() {
    let mask_seed = Seed(7).derive(NAME);
    for use_dora in [false, true] {
        let config = config(json!({"r": 2, "lora_dropout": 0.5, "use_dora": use_dora}));
        let linear = adapted(&config);
        let ours = linear.forward(input(), &seeded(7));
        let dropped = dropout::drop(input(), 0.5, mask_seed);
        let lora = linear.lora.as_ref().unwrap();
        let low = dropped.clone().matmul(lora.lora_a.val().transpose());
        let low = low.matmul(lora.lora_b.val().transpose()).mul_scalar(config.scale(NAME));
        let base = linear.project(input());
        let expected = match lora.row_gain(&linear) {
            None => base + low,
            // peft/tuners/lora/dora.py: base is computed again from the dropped input.
            Some(gain) => {
                let gain = gain.unsqueeze::<2>();
                base + linear.project(dropped) * (gain.clone() - 1.0) + low * gain
            }
        };
        close(ours, expected);
    }
}

#[test]
fn a_mask_follows_from_the_seed_and_the_name_alone() {
    let config = config(json!({"r": 2, "lora_dropout": 0.5}));
    // More rows than products of few rows take, which the autodiff device sums in another order.
    let input = || adapter::kaiming_uniform(200, 8, Seed(4), &device()).mul_scalar(10.0);
    let linear = adapted(&config);
    let once = values(linear.forward(input(), &seeded(7)));
    assert_eq!(once, values(linear.forward(input(), &seeded(7))));
    assert_ne!(once, values(linear.forward(input(), &seeded(8))));
    // On the autodiff device too, where a layer is computed again in the backward pass.
    let tracked = linear.clone().train();
    assert_eq!(once, values(tracked.forward(input().autodiff(), &seeded(7))));
    // Another projection with the same factors draws other masks.
    let mut other = linear.clone();
    let lora = other.lora.take().unwrap();
    let factors = [lora.lora_a.val(), lora.lora_b.val()];
    let name = "model.layers.1.mlp.up_proj";
    other.lora = Some(LoraAdapter::new(name, factors, None, config.scale(name), 0.5));
    assert_ne!(once, values(other.forward(input(), &seeded(7))));
}

#[test]
fn settings_that_leave_nothing_are_an_error() {
    let config =
        config(json!({"target_modules": ["q_proj"], "exclude_modules": ["self_attn.q_proj"]}));
    let error = add_adapter(gemma(), &config, Seed(2)).unwrap_err().to_string();
    assert!(error.contains("exclude_modules"), "{error}");
}

#[test]
fn merging_reports_how_far_weights_move() {
    let mut model = gemma();
    model.model.layers[0].mlp.up_proj = adapted(&config(json!({"r": 2, "lora_alpha": 4})));
    let linear = model.model.layers[0].mlp.up_proj.clone();
    let lora = linear.lora.as_ref().unwrap();
    let update = lora.lora_b.val().matmul(lora.lora_a.val()).mul_scalar(2.0).abs().inner();
    let (merged, change) = merge_adapter(model.clone());
    assert_eq!(change.entries, 12 * 8);
    assert!((change.largest - update.clone().max().into_scalar::<f32>() as f64).abs() < 1e-6);
    assert!((change.mean - update.mean().into_scalar::<f32>() as f64).abs() < 1e-6);
    assert!(merged.model.layers[0].mlp.up_proj.lora.is_none());
    // Whoever keeps the model from before has the base still.
    let before = gemma().model.layers[0].mlp.up_proj.dense_weight();
    assert_eq!(values(model.model.layers[0].mlp.up_proj.dense_weight()), values(before));
}
