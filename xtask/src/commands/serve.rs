use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cai_model::lora::Adapters;
use cai_server::{Keys, Parts, ServeConfig, Server};
use clap::Args;
use safety_classifier::SafetyClassifier;

use super::BaseArgs;
use crate::config;

/// What `--help` ends with.
const EXAMPLES: &str = r#"The models of a run side by side, with the classifier, on http://127.0.0.1:8000:

  cargo xtask serve --adapter sft=artifacts/runs/mini/sft/adapter \
    --adapter dpo=artifacts/runs/mini/dpo/adapter --classifier artifacts/runs/mini/classifier

For others than this machine, with keys from a file (or from the environment, CAI_API_KEYS):

  cargo xtask serve --host 0.0.0.0 --api-keys keys.txt

The API is OpenAI's; docs/serving.md has addresses, limits and metrics."#;

/// Keys in the environment, separated by commas or lines.
const KEYS: &str = "CAI_API_KEYS";
/// What requests call the base without an adapter.
const BASE: &str = "base";

/// Serve models and classifier over HTTP, with a playground.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Model folder, GGUF file, or hub:OWNER/NAME[@REVISION]; requests call it `base`.
    #[arg(long, default_value = "artifacts/models/mini-gemma")]
    model: String,
    /// PEFT adapter folder, served under a name of its own; may be given several times.
    #[arg(long = "adapter", value_name = "NAME=DIR", value_parser = named)]
    adapters: Vec<(String, PathBuf)>,
    /// Safety classifier for moderations, the guard and the playground.
    #[arg(long, value_name = "DIR")]
    classifier: Option<PathBuf>,
    /// Withhold prompts and answers that the classifier finds harmful (`guard` in the config).
    #[arg(long, requires = "classifier")]
    guard: bool,
    /// Where to listen; 0.0.0.0 is every network that this machine is in.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// 0 is any free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// File of API keys, one a line; without keys, everybody is served.
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// Limits, and the rest of the settings.
    #[arg(long, default_value = "configs/serve.yaml")]
    config: PathBuf,
    /// Change a setting; may be given several times.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    sets: Vec<String>,
}

/// Runs the command.
pub fn run(args: ServeArgs) -> Result<()> {
    let config: ServeConfig = config::parse(config::yaml(&args.config, &args.sets)?, &args.config)?;
    config.check().with_context(|| format!("config {}", args.config.display()))?;
    let keys = keys(&args)?;
    if !args.host.is_loopback() && !keys.required() {
        tracing::warn!("everybody who reaches {} is served: there are no API keys", args.host);
    }
    let model = args.base.load(&args.model, None)?;
    let classifier = match &args.classifier {
        Some(dir) => Some(SafetyClassifier::load(dir, &model.device)?),
        None => None,
    };
    let mut adapters = Adapters::new(model);
    for (name, dir) in &args.adapters {
        if name == BASE {
            bail!("--adapter {BASE}=…: the model without an adapter is called {BASE}");
        }
        adapters.load(name, dir)?;
    }
    let mut models = vec![(BASE.to_owned(), adapters.base().clone())];
    for (name, _) in args.adapters {
        let model = adapters.active(Some(&name))?.clone();
        models.push((name, model));
    }
    drop(adapters);
    let parts = Parts { models, classifier, guard: args.guard, keys, config };
    let server = Server::start(parts, &args.host.to_string(), args.port)?;
    println!("listening on http://{}", server.address());
    std::io::stdout().flush()?;
    Ok(server.run()?)
}

/// The keys of the file and those of the environment.
fn keys(args: &ServeArgs) -> Result<Keys> {
    let file = args.api_keys.as_deref().map(Keys::read).transpose()?.unwrap_or_default();
    let environment = std::env::var(KEYS).unwrap_or_default().replace(',', "\n");
    Ok(file.and(Keys::parse(&environment)))
}

fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.into(), dir.into())),
        _ => Err("write NAME=DIR: a name for requests, and the adapter's folder".into()),
    }
}
