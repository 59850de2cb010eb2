//! `sft` and `dpo`, killed outright at random moments and run again.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use cai_data::seed::Seed;
use rand::RngExt;
use serde_json::Value;

use crate::common::{CONVERSATIONS, MICRO, MODEL, assert_same, done, files, outputs, xtask};

/// Twelve steps with six checkpoints, of which one is kept: most of the time something is written.
fn program(command: &'static str, data: &Path, out: &Path) -> Command {
    let mut program = xtask([command, "--quiet", "--config", MICRO, "--model", MODEL]);
    for setting in ["train.max_steps=12", "train.save_steps=2", "held_out=0.25"] {
        program.args(["--set", &format!("{command}.{setting}")]);
    }
    program.arg("--data").arg(data).arg("--out").arg(out);
    program
}

/// Starts the program and kills it after `pause`; whether it was still running.
fn kill_after(program: &mut Command, pause: Duration) -> bool {
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(pause);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || output.status.code().is_none(), "{message}");
    !output.status.success()
}

/// Every file that bears its final name can be read to its end.
fn assert_whole(dir: &Path) {
    for (path, bytes) in files(dir) {
        let name = path.display();
        let is_json = |text: &[u8]| {
            if let Err(error) = serde_json::from_slice::<Value>(text) {
                panic!("{name}: {error}");
            }
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => is_json(&bytes),
            Some("jsonl") => {
                assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "{name}");
                bytes.split_inclusive(|&byte| byte == b'\n').for_each(is_json);
            }
            Some("safetensors") => {
                safetensors::SafeTensors::deserialize(&bytes)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            // Event files are appended to, and readers of TensorBoard stop before a cut record.
            _ => assert!(path.starts_with("tensorboard"), "{name} is not expected"),
        }
        if let Some(checkpoint) = path.iter().next().and_then(|first| first.to_str())
            && checkpoint.starts_with("checkpoint-")
        {
            for file in ["model.safetensors", "optimizer.safetensors", "trainer_state.json"] {
                assert!(dir.join(checkpoint).join(file).is_file(), "{checkpoint} has no {file}");
            }
        }
    }
}

/// Kills the program at `wanted` random moments, each time in a new folder, and runs it again.
fn kills_do_not_change_the_result(command: &'static str, wanted: usize) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let rejected = CONVERSATIONS.replace("\"}", "\",\"rejected\":\"No.\"}");
    let pairs = rejected.replace("completion", "chosen");
    fs::write(&data, if command == "dpo" { pairs.as_str() } else { CONVERSATIONS }).unwrap();
    let whole = dir.path().join("whole");
    let begin = Instant::now();
    done(&mut program(command, &data, &whole));
    let time = begin.elapsed();
    let whole = outputs(&whole);
    assert!(whole.contains_key(Path::new("adapter/adapter_model.safetensors")));

    let mut moments = Seed(20).derive(command).rng();
    let mut kills = 0;
    for attempt in 0..4 * wanted {
        let killed = dir.path().join(attempt.to_string());
        let pause = time.mul_f64(moments.random_range(0.02..0.98));
        // A run that was over before its kill says nothing.
        if !kill_after(&mut program(command, &data, &killed), pause) {
            continue;
        }
        if killed.exists() {
            assert_whole(&killed);
        }
        done(&mut program(command, &data, &killed));
        assert_same(&whole, &outputs(&killed));
        kills += 1;
        if kills == wanted {
            return;
        }
    }
    panic!("only {kills} of {wanted} kills found {command} at work");
}

#[test]
fn sft_killed_ends_with_the_same_bytes() {
    kills_do_not_change_the_result("sft", 2);
}

#[test]
fn dpo_killed_ends_with_the_same_bytes() {
    kills_do_not_change_the_result("dpo", 2);
}

#[test]
#[ignore = "slow: forty runs; cargo test -p xtask killed_at_twenty -- --ignored"]
fn sft_killed_at_twenty_moments_ends_with_the_same_bytes() {
    kills_do_not_change_the_result("sft", 20);
}

#[test]
#[ignore = "slow: forty runs; cargo test -p xtask killed_at_twenty -- --ignored"]
fn dpo_killed_at_twenty_moments_ends_with_the_same_bytes() {
    kills_do_not_change_the_result("dpo", 20);
}
