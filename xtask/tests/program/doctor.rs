//! `doctor`: what would fail later is named before anything is trained.

use crate::common::{MICRO, done, refused, xtask};

#[test]
fn memory_that_training_would_not_find_is_foreseen() {
    let doctor = || xtask(["doctor", "--config", MICRO]);
    let stdout = done(&mut doctor());
    for stage in ["sft", "sl_cai", "dpo"] {
        assert!(stdout.contains(&format!("MiB for {stage} on CPU")), "{stdout}");
    }
    assert!(stdout.contains("tokens a second"), "{stdout}");
    for stage in ["sft", "critique", "sl_cai", "feedback", "dpo", "evaluate", "in all"] {
        let time = stdout.lines().find(|line| line.contains("time: about") && line.contains(stage));
        assert!(time.is_some(), "{stage}\n{stdout}");
    }
    let large = ["--set", "dpo.train.per_device_train_batch_size=1000000"];
    let output = doctor().args(large).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let finding = stdout.lines().find(|line| line.starts_with("FIX ")).unwrap_or_default();
    for part in ["for dpo on CPU", "available", "gradient_accumulation_steps", "max_length"] {
        assert!(finding.contains(part), "{part}\n{stdout}");
    }
    assert_eq!(stdout.matches("FIX ").count(), 1, "{stdout}");
    let message = refused(doctor().args(large));
    assert!(message.contains("1 finding must be dealt with"), "{message}");
}
