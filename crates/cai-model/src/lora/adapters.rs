use std::{collections::BTreeMap, path::Path};

use crate::{Error, Result, model::LanguageModel};

/// Several named adapters on one base. The base's weights are there once: tensors are reference
/// counted, and every model here shares them. Changing the active adapter is choosing another
/// model, which costs nothing.
pub struct Adapters {
    base: LanguageModel,
    named: BTreeMap<String, LanguageModel>,
}

impl Adapters {
    /// No adapter yet; one that is on `model` is taken off.
    pub fn new(model: LanguageModel) -> Self {
        let base = model.without_adapter();
        Self { base, named: BTreeMap::new() }
    }

    /// Adds the adapter of a PEFT folder, frozen.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the name is taken; else see [`super::load_adapter`].
    pub fn load(&mut self, name: &str, dir: &Path) -> Result<()> {
        if self.named.contains_key(name) {
            return Err(Error::Input(format!("there is an adapter '{name}' already")));
        }
        let model = self.base.clone().with_adapter(dir)?;
        self.named.insert(name.into(), model);
        Ok(())
    }

    /// The names of all adapters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The base without any adapter.
    pub fn base(&self) -> &LanguageModel {
        &self.base
    }

    /// The model with the adapter `name`; the base for `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when there is none of that name.
    pub fn active(&self, name: Option<&str>) -> Result<&LanguageModel> {
        let Some(name) = name else {
            return Ok(&self.base);
        };
        self.named.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.names().collect();
            Error::Input(format!("no adapter '{name}'; there are: {}", known.join(", ")))
        })
    }
}
