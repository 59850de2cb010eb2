//! The settings of a server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cai_model::generate::Limits as EngineLimits;
use critique_revision::CritiqueConfig;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How requests are served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// How much one engine does at once; every model has one.
    pub engine: EngineConfig,
    /// What a request may ask for.
    pub limits: Limits,
    /// What a connection may do.
    pub connections: Connections,
    /// The probabilities from which a text counts as harmful.
    pub guard: GuardConfig,
    /// The playground.
    pub playground: PlaygroundConfig,
}

/// How much an engine does at once. The settings of [`cai_model::generate::Limits`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Answers that are generated together.
    pub max_batch_size: usize,
    /// Tokens of a prompt and its answer together; the model's context if that is less.
    pub max_length: usize,
    /// Prompt tokens that are read at once: what bounds the wait of the answers under way.
    pub max_prefill_tokens: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_batch_size: 64, max_length: 1024, max_prefill_tokens: 1024 }
    }
}

/// What a request may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Tokens of a prompt.
    pub max_prompt_tokens: usize,
    /// Tokens of an answer; also what a request that names no number gets at most.
    pub max_tokens: usize,
    /// Answers to one request: `n`, times the prompts of a request that has several.
    pub max_choices: usize,
    /// Texts of one moderation request.
    pub max_moderation_inputs: usize,
    /// Answers that wait, beside the `max_batch_size` under way, over all models. One more is
    /// refused with status 429.
    pub max_queue: usize,
    /// Moderation texts that wait; with more, a request is refused with status 429.
    pub max_moderation_queue: usize,
    /// Seconds from a request to the last token of its answer, the wait in the queue included.
    pub request_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_prompt_tokens: 1024,
            max_tokens: 1024,
            max_choices: 16,
            max_moderation_inputs: 2048,
            max_queue: 64,
            max_moderation_queue: 16_384,
            request_seconds: 120.0,
        }
    }
}

/// What a connection may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Connections at the same time; more wait to be accepted.
    pub max_connections: usize,
    /// Seconds in which a request's head must arrive; also how long a connection may be idle.
    pub header_seconds: f64,
    /// Seconds in which a request's body must arrive.
    pub body_seconds: f64,
    /// Seconds that a client may take to accept a piece of an answer.
    pub write_seconds: f64,
    /// Seconds from SIGTERM to the end: what is running then is finished, the rest is told.
    pub grace_seconds: f64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            header_seconds: 10.0,
            body_seconds: 20.0,
            write_seconds: 20.0,
            grace_seconds: 30.0,
        }
    }
}

/// The probabilities from which a text counts as harmful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// For classes that have none of their own.
    pub threshold: f64,
    /// By class, for example `self_harm: 0.3`.
    pub thresholds: BTreeMap<String, f64>,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { threshold: 0.5, thresholds: BTreeMap::new() }
    }
}

/// The playground.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaygroundConfig {
    /// The constitution that the page shows, and that critiques and revisions go by.
    pub constitution: Option<PathBuf>,
    /// How the page criticises and revises.
    pub critique: CritiqueConfig,
    /// The folder of the choices of the A/B mode, made at the first choice.
    pub preferences: PathBuf,
    /// The report of an evaluation, report.html, which the page links.
    pub report: Option<PathBuf>,
}

impl Default for PlaygroundConfig {
    fn default() -> Self {
        Self {
            constitution: Some("configs/constitution.yaml".into()),
            critique: CritiqueConfig::default(),
            preferences: "artifacts/preferences".into(),
            report: None,
        }
    }
}

impl ServeConfig {
    /// # Errors
    ///
    /// [`Error::Config`] that names the setting.
    pub fn check(&self) -> Result<()> {
        let bad = |key, reason: &str| Err(Error::Config { key, reason: reason.to_owned() });
        let (engine, limits, connections) = (&self.engine, &self.limits, &self.connections);
        for (key, number) in [
            ("engine.max_batch_size", engine.max_batch_size),
            ("engine.max_length", engine.max_length),
            ("engine.max_prefill_tokens", engine.max_prefill_tokens),
            ("limits.max_body_bytes", limits.max_body_bytes),
            ("limits.max_prompt_tokens", limits.max_prompt_tokens),
            ("limits.max_tokens", limits.max_tokens),
            ("limits.max_choices", limits.max_choices),
            ("limits.max_moderation_inputs", limits.max_moderation_inputs),
            ("limits.max_moderation_queue", limits.max_moderation_queue),
            ("connections.max_connections", connections.max_connections),
        ] {
            if number == 0 {
                return bad(key, "must be at least 1");
            }
        }
        for (key, seconds) in [
            ("limits.request_seconds", limits.request_seconds),
            ("connections.header_seconds", connections.header_seconds),
            ("connections.body_seconds", connections.body_seconds),
            ("connections.write_seconds", connections.write_seconds),
            ("connections.grace_seconds", connections.grace_seconds),
        ] {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                return bad(key, "must be above 0 and at most 86400 seconds");
            }
        }
        if limits.max_choices > engine.max_batch_size + limits.max_queue {
            return bad("limits.max_choices", "must be at most max_batch_size + max_queue");
        }
        let thresholds = self.guard.thresholds.values().chain([&self.guard.threshold]);
        if thresholds.into_iter().any(|threshold| !(*threshold > 0.0 && *threshold <= 1.0)) {
            return bad("guard.threshold", "and those of the classes must be above 0, at most 1");
        }
        Ok(())
    }
}

impl EngineConfig {
    /// As the engine of a model with a context of `context` tokens takes them.
    pub(crate) fn limits(&self, context: usize) -> EngineLimits {
        EngineLimits {
            max_batch_size: self.max_batch_size,
            max_length: self.max_length.min(context),
            max_prefill_tokens: self.max_prefill_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let change = |change: fn(&mut ServeConfig)| {
            let mut config = ServeConfig::default();
            change(&mut config);
            config.check().map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!(change(|_| ()), "");
        assert!(change(|c| c.engine.max_batch_size = 0).contains("engine.max_batch_size"));
        assert!(change(|c| c.limits.request_seconds = f64::NAN).contains("request_seconds"));
        assert!(change(|c| c.limits.max_choices = 1000).contains("max_choices"));
        assert!(change(|c| c.guard.threshold = 0.0).contains("guard.threshold"));
        assert!(serde_json::from_str::<ServeConfig>(r#"{"port": 3}"#).is_err());
    }
}
