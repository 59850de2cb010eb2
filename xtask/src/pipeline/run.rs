//! The runner: works like make.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use cai_data::{atomic, hash};

use super::{
    Step,
    manifest::{Manifest, StageRecord, Status, hash_outputs},
    stages::{self, Run},
};
use crate::{config::Config, input};

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder of runs.
    pub runs: PathBuf,
    /// First step; earlier ones must be up to date.
    pub from: Option<Step>,
    /// Last step.
    pub to: Option<Step>,
    /// Steps to run though they are up to date.
    pub force: Vec<Step>,
    /// Say what would run, and stop.
    pub dry_run: bool,
}

/// Runs the pipeline and returns the run's folder.
///
/// # Errors
///
/// The first stage that fails; what earlier stages made stays.
pub fn run(config: &Config, options: &Options) -> Result<PathBuf> {
    let dir = options.runs.join(&config.name);
    create(&dir)?;
    let _lock = lock(&dir)?;
    let base = input::model(&config.model)?;
    let mut manifest = Manifest::read(&dir)?;
    manifest.run = config.name.clone();
    manifest.version = env!("CARGO_PKG_VERSION").into();
    manifest.revision = cai_train::tracker::git_revision();
    manifest.hub = base.origin.iter().cloned().collect();
    let device = cai_model::device::parse(&config.device)?;
    let run = Run { config, dir: &dir, base: base.path, device };
    let mut stale = false;
    let mut begun = false;
    let steps = Step::all(config.dpo.rounds);
    options.check(&steps)?;
    for step in steps {
        if let Some(reason) = config.skip.get(&step.stage) {
            say(step, &format!("left out: {reason}"));
            continue;
        }
        if options.to.is_some_and(|to| step > to) {
            break;
        }
        let inputs = hash_inputs(&run.inputs(step)?)?;
        let key = key(&run, step, &inputs)?;
        let forced = options.force.contains(&step);
        if !forced && !stale && manifest.is_current(step, &key, &dir) {
            say(step, "up to date");
            continue;
        }
        if options.from.is_some_and(|from| step < from) {
            bail!("--from: stage {step} is not up to date and later stages need it; run it first");
        }
        if options.dry_run {
            // What later stages would read does not exist yet, so all of them count as stale.
            stale = true;
            say(step, if forced { "would run (forced)" } else { "would run" });
            continue;
        }
        if !begun {
            begin(&run)?;
            begun = true;
        }
        execute(&run, step, key, inputs, forced, &mut manifest)?;
    }
    Ok(dir)
}

impl Options {
    /// Whether the run has the steps that are named.
    fn check(&self, steps: &[Step]) -> Result<()> {
        for step in self.from.iter().chain(&self.to).chain(&self.force) {
            if !steps.contains(step) {
                bail!("this run has no {step}; set dpo.rounds to {} or more", step.round);
            }
        }
        Ok(())
    }
}

/// What is done before the first stage that runs: files that no stage could use are refused before
/// anything is trained, and the settings are written down.
fn begin(run: &Run) -> Result<()> {
    run.check()?;
    let settings = serde_yaml::to_string(run.config)?;
    Ok(atomic::write(&run.dir.join("run.yaml"), settings.as_bytes())?)
}

/// Runs a stage in a folder of its own. What an earlier run of it made stays until it has finished.
fn execute(
    run: &Run,
    step: Step,
    key: String,
    inputs: BTreeMap<String, String>,
    forced: bool,
    manifest: &mut Manifest,
) -> Result<()> {
    let (folder, partial) = (run.folder(step), run.partial(step));
    let before = manifest.unfinished.get(&step).filter(|r| r.key == key && !forced);
    let resumes = before.is_some();
    let earlier = before.map_or(0.0, |r| r.wall_seconds);
    if !resumes {
        remove(&partial)?;
    }
    create(&partial)?;
    let record = StageRecord {
        status: Status::Running,
        key,
        inputs,
        outputs: BTreeMap::new(),
        seed: run.config.seed,
        wall_seconds: earlier,
    };
    manifest.unfinished.insert(step, record.clone());
    manifest.write(run.dir)?;

    say(step, if resumes { "resuming" } else { "running" });
    let start = Instant::now();
    let outcome = stages::run(run, step);
    let wall_seconds = earlier + start.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => {
            remove(&folder)?;
            std::fs::rename(&partial, &folder).with_context(|| folder.display().to_string())?;
            let outputs = hash_outputs(run.dir, &folder)?;
            let done = StageRecord { status: Status::Done, outputs, wall_seconds, ..record };
            manifest.stages.insert(step, done);
            manifest.unfinished.remove(&step);
        }
        Err(_) => {
            manifest.unfinished.insert(step, StageRecord { wall_seconds, ..record });
        }
    }
    manifest.write(run.dir)?;
    let summary = outcome.with_context(|| format!("stage {step}"))?;
    say(step, &format!("done in {}: {summary}", human(start.elapsed())));
    Ok(())
}

fn create(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| {
        format!("cannot create {}; choose another folder with --runs", dir.display())
    })
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)
            .with_context(|| format!("cannot remove {}; check its permissions", dir.display()))?;
    }
    Ok(())
}

/// One process at a time works on a run. One that was just killed may hold its lock for a moment
/// longer, until the system has taken it down.
fn lock(dir: &Path) -> Result<std::fs::File> {
    let path = dir.join(".lock");
    let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    let give_up = Instant::now() + Duration::from_secs(3);
    while file.try_lock().is_err() {
        if Instant::now() > give_up {
            bail!("{}: another process is working on this run; wait for it", dir.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(file)
}

/// Hash of the settings a stage depends on and of its inputs.
fn key(run: &Run, step: Step, inputs: &BTreeMap<String, String>) -> Result<String> {
    let settings = serde_json::to_string(&run.settings(step)?)?;
    let files: Vec<String> = inputs.values().cloned().collect();
    let text = format!("{step}\n{}\n{settings}\n{}", env!("CARGO_PKG_VERSION"), files.join("\n"));
    Ok(hash::bytes(text.as_bytes()))
}

fn hash_inputs(paths: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for path in paths.iter().filter(|path| path.exists()) {
        hashes.insert(path.display().to_string(), hash::file(path)?);
    }
    Ok(hashes)
}

fn say(step: Step, text: &str) {
    println!("{step:<11} {text}");
}

/// A duration as people read it.
pub fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        s => format!("{} min {:02} s", s / 60, s % 60),
    }
}
