//! What the tests share.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The model that comes with the project, below the workspace.
pub const MODEL: &str = "artifacts/models/mini-gemma";
/// The smallest run through all stages.
pub const MICRO: &str = "configs/micro.yaml";

/// The workspace, in which the program runs.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The program with these arguments; a test may add more.
pub fn xtask<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.current_dir(root()).args(args).env_remove("RUST_LOG");
    command
}

/// `pipeline` with the micro config, in `runs`.
pub fn pipeline<const N: usize>(runs: &Path, args: [&str; N]) -> Command {
    let mut command = xtask(["pipeline", "--config", MICRO]);
    command.args(args).arg("--runs").arg(runs);
    command
}

/// Runs a command that must succeed, and returns what it printed.
pub fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

/// Runs a command that must fail, and returns its one error message.
pub fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}\n{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{command:?}\n{stderr}");
    assert!(stderr.trim_end().ends_with(errors[0]), "it is not the last word:\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    errors[0].to_string()
}

/// Files by their path below a folder.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The outputs of runs below `dir`. Left out is what holds times or the checkout's revision:
/// manifests, `run.json`, logs, event files.
pub fn outputs(dir: &Path) -> Files {
    files(dir).into_iter().filter(|(path, _)| !names_the_moment(path)).collect()
}

fn names_the_moment(path: &Path) -> bool {
    path.ends_with("manifest.json")
        || path.ends_with("run.json")
        || path.extension().is_some_and(|extension| extension == "log")
        || path.components().any(|part| part.as_os_str() == "tensorboard")
}

/// Every file below `dir` but the hidden ones.
pub fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            match path.is_dir() {
                _ if hidden => {}
                true => folders.push(path),
                false => {
                    let below = path.strip_prefix(dir).unwrap().to_path_buf();
                    found.insert(below, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Both have the same files with the same bytes.
pub fn assert_same(left: &Files, right: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(left), names(right));
    let differ: Vec<_> = left.iter().filter(|(path, bytes)| right[*path] != **bytes).collect();
    let differ: Vec<_> = differ.iter().map(|(path, _)| path.display()).collect();
    assert!(differ.is_empty(), "other bytes: {differ:?}");
}

/// A folder with the copy of a model or an adapter, to be damaged.
pub fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in files(dir) {
        fs::write(copy.path().join(path), bytes).unwrap();
    }
    copy
}

/// Conversations that a model can be trained on in a second.
pub const CONVERSATIONS: &str = r#"{"prompt":"How do I brew tea?","completion":"Warm the pot first."}
{"prompt":"How do I fold a map?","completion":"Follow the old creases."}
{"prompt":"How do I plant a bulb?","completion":"Put the tip upwards."}
{"prompt":"How do I tune a drum?","completion":"Turn opposite screws."}
{"prompt":"How do I dry herbs?","completion":"Hang them in the shade."}
{"prompt":"How do I wax a coat?","completion":"Warm the wax a little."}
{"prompt":"How do I mend a net?","completion":"Begin at the widest hole."}
{"prompt":"How do I read a dial?","completion":"Look straight at it."}
"#;

/// A folder with an adapter of the shipped model, trained for a step, in `adapter`.
pub fn adapter() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    fs::write(&data, CONVERSATIONS).unwrap();
    done(sft(&data, dir.path()).args(["--set", "sft.train.learning_rate=0.05"]));
    dir
}

/// `sft` for a step on `data` into `out`.
pub fn sft(data: &Path, out: &Path) -> Command {
    let mut command = xtask(["sft", "--config", MICRO, "--model", MODEL]);
    command.args(["--set", "sft.train.max_steps=2", "--set", "sft.held_out=0"]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}
