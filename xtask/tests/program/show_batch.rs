//! `--show-batch` of `sft` and `dpo`: what is trained, before anything is.

use std::fs;

use crate::common::{MODEL, done, xtask};

#[test]
fn the_first_batch_is_shown_and_nothing_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (conversations, pairs) = (dir.path().join("c.jsonl"), dir.path().join("p.jsonl"));
    let turn = r#"{"role":"user","content":"How do I brew tea?"}"#;
    let reply = r#"{"role":"assistant","content":"Warm the pot first."}"#;
    fs::write(&conversations, format!("{{\"messages\":[{turn},{reply}]}}\n")).unwrap();
    let other = r#"{"role":"assistant","content":"No."}"#;
    let pair = format!("{{\"prompt\":[{turn}],\"chosen\":[{reply}],\"rejected\":[{other}]}}\n");
    fs::write(&pairs, pair).unwrap();

    let trained = "<start_of_turn>model\n[[Warm the pot first.<end_of_turn>\n]]";
    let mut sft = xtask(["sft", "--model", MODEL, "--show-batch"]);
    let shown = done(sft.args(["--set", "sft.held_out=0", "--data"]).arg(&conversations));
    assert!(shown.contains("example 1: ") && shown.contains(trained), "{shown}");
    assert!(shown.contains("[[ and ]]"), "{shown}");

    let mut dpo = xtask(["dpo", "--model", MODEL, "--show-batch"]);
    let shown = done(dpo.args(["--set", "dpo.held_out=0", "--data"]).arg(&pairs));
    assert!(shown.contains("pair 1, chosen: ") && shown.contains(trained), "{shown}");
    assert!(shown.contains("[[No.<end_of_turn>\n]]"), "{shown}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
