//! Inputs that may be local or on the hub.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cai_model::source::hub::{self, HubModel, fetch_dataset};

/// A local path or something on the hub, with where it came from.
pub struct Input {
    /// The file or folder on this machine.
    pub path: PathBuf,
    /// Hub address with its commit, for the manifest; `None` for local paths.
    pub origin: Option<String>,
}

/// Resolves a model: a folder, a GGUF file, `hub:OWNER/NAME[@REVISION]` or
/// `hub:OWNER/NAME/FILE.gguf[@REVISION]`, which are downloaded.
///
/// # Errors
///
/// A missing folder, or the hub's refusal with what to do.
pub fn model(source: &str) -> Result<Input> {
    let Some(address) = source.strip_prefix("hub:") else {
        let path = PathBuf::from(source);
        if !path.exists() {
            bail!(
                "model {source}: no such folder or file; give a model folder, a GGUF file or \
                 hub:OWNER/NAME"
            );
        }
        return Ok(Input { path, origin: None });
    };
    let (repo, revision) = match address.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision.to_string())),
        None => (address, None),
    };
    if let Some((repo, file)) = split_address(repo) {
        let snapshot = hub::fetch(repo, revision.as_deref(), &[file])?;
        let origin = Some(format!("hub:{repo}@{}/{file}", snapshot.commit));
        return Ok(Input { path: snapshot.folder.join(file), origin });
    }
    let snapshot = HubModel { repo: repo.into(), revision }.fetch()?;
    let origin = Some(format!("hub:{repo}@{}", snapshot.commit));
    Ok(Input { path: snapshot.folder, origin })
}

/// Resolves a data file: a path, or `hub:OWNER/NAME/FILE` of a dataset.
///
/// # Errors
///
/// A missing file, or the hub's refusal with what to do.
pub fn file(source: &str) -> Result<Input> {
    let Some(address) = source.strip_prefix("hub:") else {
        let path = PathBuf::from(source);
        if !path.is_file() {
            bail!("data file {source}: no such file; check the path (or use hub:OWNER/NAME/FILE)");
        }
        return Ok(Input { path, origin: None });
    };
    let (repo, file) =
        split_address(address).with_context(|| format!("{source}: write hub:OWNER/NAME/FILE"))?;
    let (path, commit) = fetch_dataset(repo, None, file)?;
    Ok(Input { path, origin: Some(format!("hub:{repo}@{commit}/{file}")) })
}

/// Splits `OWNER/NAME/FILE` after the second part.
fn split_address(address: &str) -> Option<(&str, &str)> {
    let (slash, _) = address.match_indices('/').nth(1)?;
    Some((&address[..slash], &address[slash + 1..]))
}
