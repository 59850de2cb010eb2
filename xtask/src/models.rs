//! Models by name: those of a run's stages, local ones, and those behind a server.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::Device;
use cai_chat::{ChatModel, Server, ServerConfig};
use cai_model::model::LanguageModel;
use serde::{Deserialize, Serialize};

use crate::{config::Start, input};

/// Which model does what in critique and feedback: `base`, `sft` or `sl_cai` (the run's own),
/// `MODEL[+ADAPTER]` (folders, or `hub:OWNER/NAME`), or `http(s)://HOST/PATH#MODEL` (a server).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// Answers the red-team prompts.
    pub author: String,
    /// Criticises and revises the answers.
    pub critic: String,
    /// Gives the samples that are compared.
    pub policy: String,
    /// Compares them.
    pub judge: String,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        let [author, critic, policy, judge] = ["sft", "sft", "sl_cai", "sft"].map(String::from);
        Self { author, critic, policy, judge }
    }
}

impl ModelsConfig {
    /// All names, each with its key.
    pub fn all(&self) -> [(&'static str, &str); 4] {
        [
            ("models.author", &self.author),
            ("models.critic", &self.critic),
            ("models.policy", &self.policy),
            ("models.judge", &self.judge),
        ]
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The base model with a stage's adapter, or bare.
    Stage(Start),
    /// A model, and perhaps an adapter on it.
    Local(String, Option<PathBuf>),
    /// A server's address and the model's name there.
    Server(String, String),
}

impl Choice {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// A server without the name of a model.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "base" => Self::Stage(Start::Base),
            "sft" => Self::Stage(Start::Sft),
            "sl_cai" => Self::Stage(Start::SlCai),
            _ if name.starts_with("http://") || name.starts_with("https://") => {
                match name.rsplit_once('#') {
                    Some((url, model)) if !model.is_empty() => {
                        Self::Server(url.into(), model.into())
                    }
                    _ => bail!("{name}: say which model of the server: {name}#MODEL"),
                }
            }
            "" => {
                bail!("write a model: base, sft, sl_cai, MODEL[+ADAPTER], or http://HOST/v1#MODEL")
            }
            _ => match name.split_once('+') {
                Some((model, adapter)) => Self::Local(model.into(), Some(adapter.into())),
                None => Self::Local(name.into(), None),
            },
        })
    }
}

/// Loads what `name` stands for where there are no stages: on the command line.
///
/// # Errors
///
/// A name that is none, a model that cannot be loaded, a server that cannot be asked.
pub fn load(name: &str, server: &ServerConfig, device: &Device) -> Result<Box<dyn ChatModel>> {
    match Choice::parse(name)? {
        Choice::Stage(_) => {
            bail!(
                "{name} is a stage of a run; give its MODEL+ADAPTER, for example \
                   artifacts/models/mini-gemma+artifacts/runs/mini/{name}/adapter"
            )
        }
        Choice::Local(model, adapter) => local(&model, adapter.as_deref(), device),
        Choice::Server(url, model) => remote(&url, &model, server),
    }
}

/// A local model.
///
/// # Errors
///
/// As [`LanguageModel::load`].
pub fn local(model: &str, adapter: Option<&Path>, device: &Device) -> Result<Box<dyn ChatModel>> {
    Ok(Box::new(LanguageModel::load(&input::model(model)?.path, adapter, device)?))
}

/// A model behind a server.
///
/// # Errors
///
/// As [`Server::new`].
pub fn remote(url: &str, model: &str, server: &ServerConfig) -> Result<Box<dyn ChatModel>> {
    Ok(Box::new(Server::new(url, model, server)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stages_folders_or_servers() {
        let parse = |name: &str| Choice::parse(name).unwrap();
        assert_eq!(parse("sl_cai"), Choice::Stage(Start::SlCai));
        assert_eq!(parse("a/b+c"), Choice::Local("a/b".into(), Some("c".into())));
        assert_eq!(parse("hub:o/n"), Choice::Local("hub:o/n".into(), None));
        assert_eq!(
            parse("http://h:1/v1#m/x"),
            Choice::Server("http://h:1/v1".into(), "m/x".into())
        );
        assert!(Choice::parse("http://h:1/v1").unwrap_err().to_string().contains("#MODEL"));
        assert!(Choice::parse("").is_err());
    }
}
