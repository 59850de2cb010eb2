//! Bad input ends in one clear message that says what to do, and earlier outputs are unharmed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    CONVERSATIONS, MICRO, MODEL, adapter, assert_same, copy_of, done, files, outputs, pipeline,
    refused, root, sft, xtask,
};

/// Runs a command that must fail, with all of `parts` in its message.
fn refused_with(command: &mut Command, parts: &[&str]) {
    let message = refused(command);
    for part in parts {
        assert!(message.contains(part), "{command:?} should say '{part}':\n{message}");
    }
}

/// As [`refused_with`], and every output below `dir` is as before.
fn refused_unharmed(command: &mut Command, dir: &Path, parts: &[&str]) {
    let before = outputs(dir);
    assert!(!before.is_empty());
    refused_with(command, parts);
    let after = outputs(dir);
    let kept = |(path, _): &(PathBuf, Vec<u8>)| before.contains_key(path);
    assert_same(&before, &after.into_iter().filter(kept).collect());
}

fn generate(model: &Path) -> Command {
    let mut command = xtask(["generate", "--prompt", "Hello", "--max-new-tokens", "2"]);
    command.arg("--model").arg(model);
    command
}

fn model() -> PathBuf {
    root().join(MODEL)
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Changes the header of a safetensors file.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + length..]);
    fs::write(path, changed).unwrap();
}

fn truncated_model() -> TempDir {
    let copy = copy_of(&model());
    let weights = fs::File::options().write(true).open(copy.path().join("model.safetensors"));
    let weights = weights.unwrap();
    weights.set_len(weights.metadata().unwrap().len() / 2).unwrap();
    copy
}

/// A model whose tokenizer has a token more than the embedding.
fn model_with_another_tokenizer() -> TempDir {
    model_with_further_tokens(1000)
}

/// The mini model, whose tokenizer has so many tokens more than the model has rows.
fn model_with_further_tokens(count: u64) -> TempDir {
    let copy = copy_of(&model());
    let config: Value =
        serde_json::from_slice(&fs::read(copy.path().join("config.json")).unwrap()).unwrap();
    edit_json(&copy.path().join("tokenizer.json"), |tokenizer| {
        let size = config["vocab_size"].as_u64().unwrap();
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        for id in vocabulary.len() as u64..size + count {
            vocabulary.insert(format!("more-{id}"), json!(id));
        }
    });
    copy
}

#[test]
fn a_mistake_in_the_config() {
    let runs = tempfile::tempdir().unwrap();
    let mut missing = xtask(["pipeline", "--config", "missing.yaml"]);
    refused_with(missing.arg("--runs").arg(runs.path()), &["missing.yaml", "see configs/"]);
    let mistakes: [(&str, &[&str]); 6] = [
        ("dpo.bta=1", &["micro.yaml", "dpo", "unknown field `bta`", "`beta`"]),
        ("dpo.train.seeds=1", &["dpo: train", "unknown field `seeds`"]),
        ("critique.initial.top=1", &["critique.initial.top", "`top_k`"]),
        ("sft.lora.r=many", &["sft.lora.r", "invalid type"]),
        ("name=../elsewhere", &["name '../elsewhere'", "letters"]),
        ("dpo.beta", &["key.path=value"]),
    ];
    for (set, parts) in mistakes {
        refused_with(&mut pipeline(runs.path(), ["--set", set]), parts);
    }
    let constitution = ["--set", "constitution=missing.yaml"];
    refused_with(&mut pipeline(runs.path(), constitution), &["missing.yaml", "check the path"]);
    assert_eq!(files(runs.path()).keys().next(), None, "something ran");
}

#[test]
fn a_model_that_is_missing_or_damaged() {
    let missing = Path::new("missing-model");
    refused_with(
        &mut generate(missing),
        &["missing-model", "no such folder", "give a model folder"],
    );

    let truncated = truncated_model();
    refused_with(
        &mut generate(truncated.path()),
        &["model.safetensors: not a whole safetensors file", "copy or download it again"],
    );
    fs::remove_file(truncated.path().join("model.safetensors")).unwrap();
    refused_with(&mut generate(truncated.path()), &["no model.safetensors", "needs one of them"]);

    let tokenizer = model_with_another_tokenizer();
    refused_with(
        &mut generate(tokenizer.path()),
        &["tokenizer.json", "do not belong together", "embedding only"],
    );
}

/// As every Gemma 3 of 270m and 1b has it: one token is more than the model has rows.
#[test]
fn a_token_without_a_row_is_accepted_unless_a_text_holds_it() {
    let copy = model_with_further_tokens(1);
    done(&mut generate(copy.path()));
    let chat = copy.path().join("chat_template.jinja");
    let text = fs::read_to_string(&chat).unwrap();
    edit_json(&copy.path().join("tokenizer.json"), |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let mut token = added[0].clone();
        token["id"] = json!(2048);
        token["content"] = json!("more-2048");
        added.push(token);
    });
    fs::write(&chat, format!("{text}{{{{ 'more-2048' }}}}")).unwrap();
    refused_with(&mut generate(copy.path()), &["do not belong together"]);
}

#[test]
fn an_adapter_for_another_base() {
    let trained = adapter();
    let folder = trained.path().join("adapter");
    done(generate(&model()).arg("--adapter").arg(&folder));
    refused_with(
        generate(&model()).arg("--adapter").arg(trained.path()),
        &["adapter_config.json", "give the path of a whole PEFT adapter folder"],
    );

    let other = copy_of(&model());
    let weights = other.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    // The lowest bit of one weight's mantissa.
    let low = bytes.len() - 2;
    bytes[low] ^= 1;
    fs::write(&weights, bytes).unwrap();
    refused_with(
        generate(other.path()).arg("--adapter").arg(&folder),
        &["trained on another base model", "load it on the base it was made for"],
    );

    // From a tool that does not say which base, for a base of another width.
    let wider = copy_of(&folder);
    edit_header(&wider.path().join("adapter_model.safetensors"), |header| {
        header["__metadata__"].as_object_mut().unwrap().remove("base_sha256");
        for (name, tensor) in header.as_object_mut().unwrap() {
            if name.ends_with("lora_A.weight") {
                let shape = tensor["shape"].as_array_mut().unwrap();
                *shape = vec![
                    json!(shape[0].as_u64().unwrap() / 2),
                    json!(shape[1].as_u64().unwrap() * 2),
                ];
            }
        }
    });
    refused_with(
        generate(&model()).arg("--adapter").arg(wider.path()),
        &["does not fit this base", "lora_A.weight"],
    );
}

#[test]
fn records_that_are_missing_empty_malformed_or_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data.jsonl"), dir.path().join("out"));
    fs::write(&data, CONVERSATIONS).unwrap();
    done(&mut sft(&data, &out));

    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let empty = file("empty.jsonl", "");
    let malformed = file("malformed.jsonl", &format!("{CONVERSATIONS}\n{{\"prompt\": \"x\"\n"));
    let long = "and then tell me what comes after that ".repeat(300);
    let long = json!({"id": "long", "prompt": long, "completion": "Nothing."}).to_string();
    let long = file("long.jsonl", &long);
    let missing = dir.path().join("missing.jsonl");

    refused_unharmed(&mut sft(&missing, &out), &out, &["missing.jsonl", "check the path"]);
    refused_unharmed(&mut sft(&empty, &out), &out, &["empty.jsonl", "at least one"]);
    refused_unharmed(&mut sft(&malformed, &out), &out, &["malformed.jsonl:10: ", "mend or remove"]);
    refused_unharmed(&mut sft(&long, &out), &out, &["1 prompt_too_long", "max_length"]);

    let dpo = |data: &Path| {
        let mut command = xtask(["dpo", "--config", MICRO, "--model", MODEL]);
        command.arg("--data").arg(data).arg("--out").arg(&out);
        command
    };
    refused_unharmed(&mut dpo(&empty), &out, &["empty.jsonl", "at least one"]);
    refused_unharmed(&mut dpo(&malformed), &out, &["malformed.jsonl:1: ", "chosen"]);

    let score = |input: &Path| {
        let mut command = xtask(["score", "--model", MODEL]);
        command.arg("--input").arg(input).arg("--output").arg(dir.path().join("scores.jsonl"));
        command
    };
    done(&mut score(&data));
    refused_unharmed(&mut score(&empty), dir.path(), &["empty.jsonl", "at least one"]);
    refused_unharmed(&mut score(&malformed), dir.path(), &["malformed.jsonl:10: "]);
    refused_unharmed(
        &mut score(&long),
        dir.path(),
        &["long.jsonl", "record 1", "context", "shorten"],
    );

    let answer = |input: &Path| {
        let mut command = xtask(["generate", "--model", MODEL]);
        command.arg("--input").arg(input);
        command
    };
    refused_with(&mut answer(&empty), &["empty.jsonl", "at least one"]);
    refused_with(&mut answer(&malformed), &["malformed.jsonl:10: "]);
    refused_with(&mut answer(&long), &["prompt 1: ", "context, 1024"]);

    let classifier = |data: &Path| {
        let mut command = xtask(["classifier", "train", "--config", MICRO]);
        command.arg("--data").arg(data).arg("--out").arg(&out);
        command
    };
    refused_unharmed(&mut classifier(&empty), &out, &["empty.jsonl", "some of each label"]);
    refused_unharmed(&mut classifier(&data), &out, &["data.jsonl:1: ", "text"]);

    let critique = |prompts: &Path| {
        let mut command = xtask(["critique", "--config", MICRO, "--model", MODEL]);
        command.arg("--prompts").arg(prompts).arg("--out").arg(&out);
        command
    };
    refused_unharmed(&mut critique(&empty), &out, &["empty.jsonl", "at least one"]);
}

/// A finished run is not touched by one that fails, whatever stage fails.
#[test]
fn a_run_that_fails_leaves_the_earlier_one_whole() {
    let runs = tempfile::tempdir().unwrap();
    let data = runs.path().join("pairs.jsonl");
    let pairs: String = (0..24)
        .map(|i| {
            let pair = json!({"prompt": format!("Which number comes after {i}?"),
                              "chosen": format!("{}.", i + 1), "rejected": "No."});
            format!("{pair}\n")
        })
        .collect();
    fs::write(&data, &pairs).unwrap();
    let run = || {
        let mut command = xtask(["pipeline", "--config", "configs/hh-rlhf.yaml"]);
        command.args(["--set", "sft.train.max_steps=1", "--set", "dpo.train.max_steps=1"]);
        command.arg("--set").arg(format!("data.files.pairs={}", data.display()));
        command.arg("--runs").arg(runs.path());
        command
    };
    done(&mut run());
    let dir = runs.path().join("hh-rlhf");

    for text in ["", "{\"chosen\": \n", "{\"chosen\": \"a\", \"rejected\": \"b\"}\n"] {
        fs::write(&data, text).unwrap();
        refused_unharmed(&mut run(), &dir, &["pairs.jsonl"]);
    }
    fs::write(&data, &pairs).unwrap();
    let damaged = [
        (truncated_model(), "copy or download it again"),
        (model_with_another_tokenizer(), "do not belong together"),
    ];
    for (model, remedy) in &damaged {
        let set = format!("model={}", model.path().display());
        refused_unharmed(run().args(["--set", &set]), &dir, &[remedy]);
    }
    let stdout = done(&mut run());
    assert_eq!(stdout.matches("up to date").count(), 3, "{stdout}");
}

#[test]
fn a_place_that_cannot_be_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    refused_with(&mut pipeline(&file, []), &["cannot create", "choose another folder"]);

    let data = dir.path().join("data.jsonl");
    fs::write(&data, CONVERSATIONS).unwrap();
    refused_with(&mut sft(&data, &file), &["cannot create"]);
    let mut score = xtask(["score", "--model", MODEL]);
    score.arg("--input").arg(&data).arg("--output").arg(file.join("scores.jsonl"));
    refused_with(&mut score, &["cannot write", "scores.jsonl"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a folder");
}

/// Runs a script that may mount disks, for itself alone and without rights, and returns what it
/// printed; nothing where the machine does not let it. It must end well, with `$XTASK` and
/// `$CONFIG` as what it runs.
#[cfg(target_os = "linux")]
fn on_own_disk(script: &str, paths: &[(&str, &PathBuf)]) -> Option<String> {
    let run = |script: &str| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .current_dir(root())
            .envs(paths.iter().copied())
            .envs([("XTASK", env!("CARGO_BIN_EXE_xtask")), ("CONFIG", MICRO)])
            .output()
    };
    if !run("mount -t tmpfs tmpfs \"$DISK\"").is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: this machine lets no process have a disk of its own");
        return None;
    }
    let output = run(script).unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    Some(stdout.into_owned())
}

/// Root may write to any folder, but not to a disk that is mounted read-only. What is there is kept,
/// and the run goes on when it may be written to again.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, data, log) =
        (dir.path().join("disk"), dir.path().join("data.jsonl"), dir.path().join("log"));
    fs::create_dir(&disk).unwrap();
    fs::write(&data, CONVERSATIONS).unwrap();
    let script = r#"
        sft() { "$XTASK" sft --config "$CONFIG" --data "$DATA" --set sft.held_out=0 --out "$1"; }
        mount -t tmpfs -o size=64m tmpfs "$DISK" || exit 99
        sft "$DISK/run" || exit 98
        weights=$(sha256sum "$DISK/run/adapter/adapter_model.safetensors")
        mount -o remount,ro "$DISK" || exit 97
        sft "$DISK/new" >"$LOG" 2>&1
        [ $? = 1 ] || exit 96
        sft "$DISK/run" >>"$LOG" 2>&1
        [ $? = 1 ] || exit 95
        mount -o remount,rw "$DISK" || exit 94
        sft "$DISK/run" || exit 93
        [ "$weights" = "$(sha256sum "$DISK/run/adapter/adapter_model.safetensors")" ] || exit 92
    "#;
    let paths = [("DISK", &disk), ("DATA", &data), ("LOG", &log)];
    if on_own_disk(script, &paths).is_none() {
        return;
    }
    let message = fs::read_to_string(&log).unwrap();
    let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 2, "{message}");
    assert!(errors[0].contains("cannot create") && errors[0].contains("disk/new"), "{message}");
    assert!(errors[1].contains("disk/run/"), "{message}");
    assert!(errors.iter().all(|error| error.contains("Read-only file system")), "{message}");
}

/// A disk of 2 MiB holds the first stages of a run. With room, the run goes on from there.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, kept, log) =
        (dir.path().join("disk"), dir.path().join("kept"), dir.path().join("log"));
    fs::create_dir(&disk).unwrap();
    // A name space of its own, in which this needs no rights and which takes the disk with it.
    let script = r#"
        mount -t tmpfs -o size=2m tmpfs "$DISK" || exit 99
        "$XTASK" pipeline --config "$CONFIG" --runs "$DISK" --to data || exit 98
        cp -r "$DISK" "$KEPT"
        "$XTASK" pipeline --config "$CONFIG" --runs "$DISK" --to sft >"$LOG" 2>&1
        [ $? = 1 ] || exit 97
        diff -r "$KEPT/micro/data" "$DISK/micro/data" || exit 96
        mount -o remount,size=64m "$DISK" || exit 95
        "$XTASK" pipeline --config "$CONFIG" --runs "$DISK" --to sft || exit 94
    "#;
    let Some(stdout) = on_own_disk(script, &[("DISK", &disk), ("KEPT", &kept), ("LOG", &log)])
    else {
        return;
    };
    let message = fs::read_to_string(&log).unwrap();
    assert!(message.contains("No space left on device"), "{message}");
    assert!(message.contains("free some on this disk, then run again"), "{message}");
    assert!(stdout.contains("sft         done in"), "{stdout}");
}
