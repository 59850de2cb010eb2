//! The paper's comparisons over several seeds.
//!
//! For each seed there is a whole run of the base config. Comparisons of revisions work on its SFT
//! model and classifier; comparisons of DPO copy its finished stages and run the last one with other
//! settings. All models of a seed are then evaluated side by side.

mod results;
mod table;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cai_data::{atomic, constitution::Constitution, seed::Seed};
use critique_revision::{CritiqueConfig, PrincipleChoice};
use serde::{Deserialize, Serialize};

use self::results::{Revised, SeedResults};
use crate::{
    config::Config,
    pipeline::{self, Finished, Options, Stage, Step},
};

/// What a study compares.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Names the study's folder.
    pub name: String,
    /// The config of every run.
    pub base: PathBuf,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Changes to every run, as of `--set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Red-team prompts whose answers are revised.
    pub prompts: usize,
    /// Rounds of revision.
    pub rounds: usize,
    /// Numbers of principles.
    pub principles: Vec<usize>,
    /// Variants of DPO: their names, and what they change, as of `--set`.
    pub dpo: BTreeMap<String, Vec<String>>,
}

impl StudyConfig {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A missing file, an unknown key, no seed.
    pub fn read(path: &Path) -> Result<Self> {
        let place = || format!("study {}", path.display());
        let text = std::fs::read_to_string(path).with_context(place)?;
        let config: Self = serde_yaml::from_str(&text).with_context(place)?;
        if config.seeds.is_empty() || config.rounds == 0 || config.prompts == 0 {
            bail!("{}: seeds, rounds and prompts must not be empty or 0", place());
        }
        Ok(config)
    }

    /// The config of a seed's run.
    fn run(&self, seed: u64, name: &str, more: &[String]) -> Result<Config> {
        let own = [format!("seed={seed}"), format!("name={name}")];
        Config::read(&self.base, &[&self.set, more, &own].concat())
    }
}

/// Runs the study and returns its folder, with `study.json`, `study.md` and figures.
///
/// # Errors
///
/// Those of the first part that fails; finished parts are not done again.
pub fn run(config: &StudyConfig, runs: &Path) -> Result<PathBuf> {
    let dir = runs.join(&config.name);
    let seeds = config.seeds.iter().map(|&seed| one_seed(config, seed, &dir));
    let results = seeds.collect::<Result<Vec<_>>>()?;
    atomic::write_json(&dir.join("study.json"), &results)?;
    atomic::write(&dir.join("study.md"), table::markdown(config, &results).as_bytes())?;
    table::figures(&results, &dir)?;
    Ok(dir)
}

fn one_seed(study: &StudyConfig, seed: u64, dir: &Path) -> Result<SeedResults> {
    println!("\nseed {seed}");
    let name = format!("seed-{seed}");
    let config = study.run(seed, &name, &[])?;
    let base = trained(&config, dir)?;
    let finished = Finished::open(&config, &base)?;
    let revised = revisions(study, &config, &finished, &dir.join(format!("{name}.revisions")))?;

    let mut variants = Vec::new();
    for (variant, sets) in &study.dpo {
        let variant = variant.replace(' ', "-");
        let folder = format!("{name}.{variant}");
        let config = study.run(seed, &folder, sets)?;
        share(&base, &dir.join(&folder))?;
        println!("\nseed {seed}, {variant}");
        let last = Step::dpo(config.dpo.rounds).to_string();
        let adapter = trained(&config, dir)?.join(last).join(pipeline::ADAPTER);
        variants.push((format!("dpo-{variant}"), adapter));
    }
    let compared = finished.compare(&variants, &dir.join(format!("{name}.models")))?;
    Ok(SeedResults::new(seed, revised, &compared))
}

/// Runs the stages of `config` but the evaluation; returns the run's folder.
fn trained(config: &Config, runs: &Path) -> Result<PathBuf> {
    let to = Some(Step::dpo(config.dpo.rounds));
    pipeline::run(config, &Options { runs: runs.to_path_buf(), to, ..Options::default() })
}

/// The comparisons of revisions: every round is run, none ends early.
fn revisions(
    study: &StudyConfig,
    config: &Config,
    run: &Finished,
    dir: &Path,
) -> Result<BTreeMap<String, Revised>> {
    let all = Constitution::read(&config.constitution)?;
    let settings = CritiqueConfig {
        rounds: study.rounds,
        stop_when_safe: false,
        principles: PrincipleChoice::Uniform,
        ..config.critique.clone()
    };
    let direct = CritiqueConfig { direct: true, ..settings.clone() };
    let mut revised = BTreeMap::new();
    let mut revise = |name: String, settings: &CritiqueConfig, constitution: &Constitution| {
        let out = dir.join(name.replace(' ', "-"));
        let report = run.critique(settings, constitution, study.prompts, &out)?;
        revised.insert(name, Revised::new(&report)?);
        anyhow::Ok(())
    };
    revise(results::CRITIQUED.into(), &settings, &all)?;
    revise(results::DIRECT.into(), &direct, &all)?;
    for &count in &study.principles {
        if count == 0 || count > all.principles.len() {
            let there = all.principles.len();
            bail!("principles: {count} of a constitution with {there}; choose from 1 to {there}");
        }
        revise(results::of_principles(count), &settings, &some(&all, count, config.seed))?;
    }
    Ok(revised)
}

/// `count` principles of a constitution, drawn by the seed; fewer are among more.
fn some(all: &Constitution, count: usize, seed: u64) -> Constitution {
    let seed = Seed(seed).derive("study principles");
    let mut order: Vec<(u64, &str)> =
        all.principles.iter().map(|p| (seed.derive(&p.id).0, p.id.as_str())).collect();
    order.sort_unstable();
    all.only(|principle| order[..count].iter().any(|(_, id)| *id == principle.id))
}

/// Copies the finished stages of `base` into the new run `dir`: under the same settings they are up
/// to date there, too.
fn share(base: &Path, dir: &Path) -> Result<()> {
    if dir.join("manifest.json").exists() {
        return Ok(());
    }
    for stage in Stage::ALL.into_iter().filter(|&stage| stage < Stage::Dpo) {
        let from = base.join(stage.name());
        if from.exists() {
            copy(&from, &dir.join(stage.name()))?;
        }
    }
    // Last, so that a copy that was cut off is made again.
    copy(&base.join("manifest.json"), &dir.join("manifest.json"))
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let place = || format!("cannot copy {} to {}", from.display(), to.display());
    if !from.is_dir() {
        std::fs::copy(from, to).with_context(place)?;
        return Ok(());
    }
    std::fs::create_dir_all(to).with_context(place)?;
    for entry in std::fs::read_dir(from).with_context(place)? {
        let entry = entry.with_context(place)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_study_is_valid_and_changes_what_it_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut study = StudyConfig::read(&root.join("configs/study.yaml")).unwrap();
        study.base = root.join(&study.base);
        assert!(study.seeds.len() >= 3);
        let base = study.run(7, "base", &[]).unwrap();
        assert_eq!((base.seed, base.critique.seed, base.name.as_str()), (7, 7, "base"));
        for (name, sets) in &study.dpo {
            let variant = study.run(7, "variant", sets).unwrap();
            let of = |config: &Config| serde_json::to_value(&config.dpo).unwrap();
            assert_ne!(of(&variant), of(&base), "{name}");
        }
    }

    #[test]
    fn fewer_principles_are_among_more() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/constitution.yaml");
        let all = Constitution::read(&root).unwrap();
        let (few, more) = (some(&all, 4, 1), some(&all, 16, 1));
        assert_eq!((few.principles.len(), more.principles.len()), (4, 16));
        assert!(few.principles.iter().all(|p| more.principles.contains(p)));
        assert_ne!(some(&all, 4, 2), few);
    }

    #[test]
    fn a_finished_run_is_shared_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (base, other) = (dir.path().join("base"), dir.path().join("other"));
        std::fs::create_dir_all(base.join("sft/adapter")).unwrap();
        std::fs::write(base.join("sft/adapter/a"), "x").unwrap();
        std::fs::create_dir_all(base.join("dpo")).unwrap();
        std::fs::write(base.join("manifest.json"), "{}").unwrap();
        share(&base, &other).unwrap();
        assert_eq!(std::fs::read_to_string(other.join("sft/adapter/a")).unwrap(), "x");
        assert!(!other.join("dpo").exists());
    }
}
