//! Training and generating on another device, beside the CPU.

use std::{fs, path::Path};

use serde_json::Value;

use crate::common::{CONVERSATIONS, MICRO, MODEL, done, xtask};

/// Steps of each training.
const STEPS: usize = 3;
/// Of logged losses: three steps of AdamW carry on what f32 rounds differently in the first.
const LOSS: f64 = 1e-4;

/// SFT, DPO from its adapter, and greedy answers of that.
///
/// `CAI_TEST_DEVICE=vulkan:cpu cargo nextest run -p xtask --features vulkan another_device --run-ignored only`
#[test]
#[ignore = "needs CAI_TEST_DEVICE, and a build with that device's feature"]
fn another_device_trains_and_answers_as_the_cpu_does() {
    let device = std::env::var("CAI_TEST_DEVICE").expect("CAI_TEST_DEVICE names a device");
    let ((losses, answer), (theirs, expected)) = (run(&device), run("cpu"));
    for (name, ours, theirs) in losses.iter().zip(theirs).map(|((n, a), (_, b))| (n, a, b)) {
        println!("{name}: {ours}, on CPU {theirs}");
        assert!((ours - theirs).abs() < LOSS, "{name}: {ours}, on CPU {theirs}");
    }
    assert_eq!(answer, expected);
}

/// The logged losses, by name, and an answer.
fn run(device: &str) -> (Vec<(String, f64)>, String) {
    let dir = tempfile::tempdir().unwrap();
    let [sft, dpo] = ["sft", "dpo"].map(|stage| dir.path().join(stage));
    let data = dir.path().join("data.jsonl");
    fs::write(&data, CONVERSATIONS).unwrap();
    train("sft", device, &data, &sft, None);
    let pairs = CONVERSATIONS.replace("\"}", "\",\"rejected\":\"No.\"}");
    fs::write(&data, pairs.replace("completion", "chosen")).unwrap();
    train("dpo", device, &data, &dpo, Some(&sft.join("adapter")));
    let mut generate = xtask(["generate", "--model", MODEL, "--device", device, "--greedy"]);
    generate.args(["--prompt", "How do I brew tea?", "--max-new-tokens", "24"]);
    let answer = done(generate.arg("--adapter").arg(dpo.join("adapter")));
    ([losses("sft", &sft), losses("dpo", &dpo)].concat(), answer)
}

fn train(command: &str, device: &str, data: &Path, out: &Path, adapter: Option<&Path>) {
    let mut program = xtask([command, "--quiet", "--config", MICRO, "--model", MODEL]);
    let steps = format!("train.max_steps={STEPS}");
    for setting in [&steps, "train.logging_steps=1", "train.save_steps=1", "held_out=0.25"] {
        program.args(["--set", &format!("{command}.{setting}")]);
    }
    program.args(["--device", device]).arg("--data").arg(data).arg("--out").arg(out);
    done(
        program.args(
            adapter.map(|folder| ["--adapter".as_ref(), folder.as_os_str()]).iter().flatten(),
        ),
    );
}

/// What a training logged under `loss` and `eval_loss`.
fn losses(stage: &str, out: &Path) -> Vec<(String, f64)> {
    let path = out.join(format!("checkpoint-{STEPS}/trainer_state.json"));
    let state: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let log = state["log_history"].as_array().unwrap();
    let entry = |entry: &Value| {
        let value =
            |name| Some((format!("{stage} {} {name}", entry["step"]), entry[name].as_f64()?));
        ["loss", "eval_loss"].into_iter().filter_map(value).collect::<Vec<_>>()
    };
    let found: Vec<_> = log.iter().flat_map(entry).collect();
    assert!(found.len() >= STEPS, "{log:?}");
    found
}
