use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use cai_data::constitution::Constitution;
use cai_model::{device, model::LanguageModel, source::ModelSource};
use clap::Args;
use sysinfo::{Disks, System};

use super::{ConfigArgs, message};
use crate::{
    config::{ClassifierStage, Config, DataConfig},
    forecast, input, memory,
    pipeline::{self, human},
};

/// Check config, files, devices, disk and memory before anything is trained, and say what to do
/// about each finding. Measures the model for some seconds to foresee how long each stage takes.
#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder of runs.
    #[arg(long, default_value = "artifacts/runs")]
    runs: PathBuf,
}

/// Bytes of a MiB and GiB.
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Runs the command.
pub fn run(args: DoctorArgs) -> Result<()> {
    let mut doctor = Doctor::default();
    match args.config.read() {
        Ok(config) => {
            doctor.good(format!("config {}: run '{}'", args.config.config.display(), config.name));
            doctor.check(&config, &args.runs);
        }
        Err(error) => doctor.bad(message(&error)),
    }
    match doctor.findings {
        0 => {
            println!("\nnothing to do: cargo xtask pipeline can run");
            Ok(())
        }
        1 => bail!("1 finding must be dealt with first"),
        n => bail!("{n} findings must be dealt with first"),
    }
}

#[derive(Default)]
struct Doctor {
    findings: usize,
}

impl Doctor {
    fn good(&self, text: String) {
        println!("ok    {text}");
    }

    fn bad(&mut self, text: String) {
        self.findings += 1;
        println!("FIX   {text}");
    }

    fn note<T>(&mut self, result: Result<T>, good: impl FnOnce(&T) -> String) -> Option<T> {
        match result {
            Ok(value) => {
                self.good(good(&value));
                Some(value)
            }
            Err(error) => {
                self.bad(message(&error));
                None
            }
        }
    }

    fn check(&mut self, config: &Config, runs: &Path) {
        let device = device::parse(&config.device).map_err(Into::into);
        self.note(device, |_| format!("device {}", config.device));
        let constitution = Constitution::read(&config.constitution).map_err(Into::into);
        self.note(constitution, |c| {
            format!("constitution '{}': {} principles", c.name, c.principles.len())
        });
        if let Some(base) =
            self.note(input::model(&config.model), |m| format!("model {}", m.path.display()))
        {
            self.model(&base.path, config);
        }
        self.data(config);
        self.disk(runs);
    }

    fn model(&mut self, dir: &Path, settings: &Config) {
        let source = ModelSource::open(dir, settings.tokenizer.as_deref()).map_err(Into::into);
        let Some(source) = self.note(source, |source| {
            let (spec, tokens) = (&source.spec, source.tokenizer.vocab_size());
            let parameters = spec.num_parameters() as f64 / 1e6;
            format!(
                "{}, {parameters:.1} M parameters, {} layers; tokenizer of {tokens} tokens",
                spec.raw["model_type"].as_str().unwrap_or("a decoder"),
                spec.layers.len()
            )
        }) else {
            return;
        };
        let config = source.spec;
        let lora = settings.sft.lora.num_parameters(&config);
        let percent = 100.0 * lora as f64 / config.num_parameters() as f64;
        let rank = settings.sft.lora.r;
        self.good(format!("adapter of rank {rank}: {lora} trainable parameters ({percent:.2} %)"));
        let free = match System::new() {
            Ok(mut system) => {
                system.refresh_memory();
                system.available_memory()
            }
            Err(error) => return self.bad(format!("memory: cannot be read ({error})")),
        };
        let weights = config.num_parameters() as u64 * 4;
        if free < weights {
            let text = format!("memory: {} MiB for the base alone", weights / MIB);
            self.bad(format!("{text}, {} MiB available; use a smaller model", free / MIB));
            return;
        }
        for (stage, needed) in memory::training(&config, settings) {
            let (needed_mib, free_mib) = (needed / MIB, free / MIB);
            let text = format!(
                "memory: up to {needed_mib} MiB for {stage} on CPU, {free_mib} MiB available"
            );
            match free < needed {
                true => self.bad(format!(
                    "{text}; lower its per_device_train_batch_size (and raise \
                     gradient_accumulation_steps as much) or max_length, set \
                     gradient_checkpointing: true, or close other programs"
                )),
                false => self.good(text),
            }
        }
        // A device that is not there was found before.
        let there = device::parse(&settings.device).ok();
        let device = there.as_ref().map_or_else(|| device::parse("cpu"), |there| Ok(there.clone()));
        let loaded = device.map_err(Into::into).and_then(|device| {
            Ok(LanguageModel::load_with(dir, &settings.load_options(), &device)?)
        });
        let Some(model) = self.note(loaded, |_| "weights load".into()) else { return };
        self.control_tokens(&model, settings);
        if there.is_some() {
            self.time(settings, model);
        }
    }

    /// Control tokens that the model cannot tell from others: it would never end a turn.
    fn control_tokens(&mut self, model: &LanguageModel, settings: &Config) {
        let unknown = model.untold_tokens();
        let trained = settings.sft.lora.trains_rows(&unknown);
        match unknown.is_empty() || trained {
            true => self.good("the chat template's control tokens can be learned".into()),
            false => self.bad(model.untold_advice(&unknown)),
        }
    }

    /// Reads the data and measures the model for some seconds.
    fn time(&mut self, config: &Config, model: LanguageModel) {
        let measured = (|| {
            let dir = tempfile::tempdir()?;
            let summary = pipeline::make_data(config, dir.path())?;
            let data = forecast::data(config, dir.path(), &model.tokenizer)?;
            let rates = forecast::rates(config, dir.path(), model)?;
            Ok((summary, forecast::steps(config, &data, &rates), rates))
        })();
        let Some((_, steps, _)) = self.note(measured, |(summary, _, rates)| {
            let written: Vec<String> =
                rates.write.iter().map(|(rows, rate)| format!("{rate:.0} ({rows} rows)")).collect();
            format!(
                "data: {summary}\nok    tokens a second: {:.0} read, {} written, {:.0} trained on",
                rates.read,
                written.join(", "),
                rates.train
            )
        }) else {
            return;
        };
        let mut all = Duration::ZERO;
        for (step, duration) in steps {
            self.good(format!("time: about {} for {step}", human(duration)));
            all += duration;
        }
        self.good(format!("time: about {} in all, the classifier aside", human(all)));
    }

    fn data(&mut self, config: &Config) {
        if let DataConfig::World(_) = &config.data {
            self.good("data: made by the mini world".into());
        }
        for path in config.data_files() {
            self.note(input::file(path), |file| format!("data {}", file.path.display()));
        }
        if let ClassifierStage::From(dir) = &config.classifier {
            let files = safety_classifier::files(dir).map_err(Into::into);
            self.note(files, |files| {
                format!("classifier {}, {} files; none is trained", dir.display(), files.len())
            });
        }
    }

    fn disk(&mut self, runs: &Path) {
        let absolute = std::path::absolute(runs).unwrap_or_else(|_| runs.into());
        let disks = match Disks::new_with_refreshed_list() {
            Ok(disks) => disks,
            Err(error) => return self.bad(format!("disk: cannot be read ({error})")),
        };
        let disk = disks
            .iter()
            .filter(|disk| absolute.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().as_os_str().len());
        let Some(disk) = disk else { return };
        let free = disk.available_space();
        let text = format!("disk: {:.1} GiB free for {}", free as f64 / GIB as f64, runs.display());
        match free < GIB {
            true => self.bad(format!("{text}; a run needs about 1 GiB: make room or use --runs")),
            false => self.good(text),
        }
    }
}
