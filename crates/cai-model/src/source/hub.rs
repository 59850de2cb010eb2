//! Models and datasets from the Hugging Face hub, kept in the cache that its own tools use.
//!
//! The environment decides, as it does for `huggingface_hub`: `HF_ENDPOINT` (the hub's address),
//! `HF_HOME` or `HF_HUB_CACHE` (where files are kept), `HF_TOKEN` or the token that
//! `hf auth login` saved, and `HF_HUB_OFFLINE=1` (use only what is in the cache).

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Error, Result};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What every model folder needs beside its weights.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
/// What is taken when the repository has it.
const OPTIONAL: [&str; 2] = ["chat_template.jinja", "generation_config.json"];

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubModel {
    /// The repository, such as `google/gemma-2b-it`.
    pub repo: String,
    /// Branch, tag or commit; `main` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl HubModel {
    /// Fetches config, tokenizer and weights (sharded or not) into the cache, as the environment
    /// says. Files that are in the cache are not fetched again.
    ///
    /// # Errors
    /// [`Error::Hub`] with the remedy: no access, no connection, or offline with files lacking.
    pub fn fetch(&self) -> Result<Snapshot> {
        Hub::from_env()?.model(self)
    }
}

/// Files of one commit of a repository, in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder that holds them under their names in the repository.
    pub folder: PathBuf,
    /// The commit that the revision stood for.
    pub commit: String,
}

/// Fetches `files` of the model `repo` at `revision` (`main` when `None`), as the environment says.
///
/// # Errors
/// [`Error::Hub`] with the remedy.
pub fn fetch(repo: &str, revision: Option<&str>, files: &[&str]) -> Result<Snapshot> {
    Hub::from_env()?.files(RepoType::Model, repo, revision, files)
}

/// Fetches one file of the dataset `repo` at `revision` (`main` when `None`), as the environment
/// says. Returns its path in the cache and the commit.
///
/// # Errors
/// [`Error::Hub`] with the remedy.
pub fn fetch_dataset(repo: &str, revision: Option<&str>, file: &str) -> Result<(PathBuf, String)> {
    let snapshot = Hub::from_env()?.files(RepoType::Dataset, repo, revision, &[file])?;
    Ok((snapshot.folder.join(file), snapshot.commit))
}

/// A hub and the local cache of its files.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The hub's address.
    pub endpoint: String,
    /// The cache: `HF_HOME/hub`.
    pub cache: PathBuf,
    /// The token that is sent, for repositories that need one.
    pub token: Option<String>,
    /// Whether only the cache is used.
    pub offline: bool,
    /// Whether downloads show a progress bar.
    pub progress: bool,
}

impl Hub {
    /// What the environment says.
    ///
    /// # Errors
    /// [`Error::Input`] when neither `HF_HOME` nor a home folder says where the cache is.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = match set("HF_HOME") {
            Some(home) => PathBuf::from(home),
            None => env::home_dir()
                .ok_or_else(|| Error::Input("there is no home folder; set HF_HOME".into()))?
                .join(".cache/huggingface"),
        };
        let cache = set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let saved_token = || fs::read_to_string(home.join("token")).ok();
        let token = set("HF_TOKEN").or_else(saved_token).map(|token| token.trim().to_owned());
        let offline = set("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
        });
        Ok(Hub {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            cache,
            token: token.filter(|token| !token.is_empty()),
            offline,
            progress: true,
        })
    }

    /// See [`HubModel::fetch`].
    ///
    /// # Errors
    /// As there.
    pub fn model(&self, model: &HubModel) -> Result<Snapshot> {
        let visit = self.visit(RepoType::Model, &model.repo, model.revision.as_deref())?;
        visit.get(&REQUIRED)?;
        let present: Vec<&str> = OPTIONAL.into_iter().filter(|file| visit.has(file)).collect();
        visit.get(&present)?;
        // As when the folder is read, the index decides where both are there.
        if !visit.has(INDEX) {
            return visit.get(&[WEIGHTS]);
        }
        let snapshot = visit.get(&[INDEX])?;
        let shards = shards(&snapshot.folder.join(INDEX)).map_err(|reason| {
            visit.error(reason, "the repository's index is damaged; choose another revision")
        })?;
        visit.get(&shards.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Fetches `files` of a repository at `revision` (`main` when `None`).
    ///
    /// # Errors
    /// [`Error::Hub`] with the remedy.
    pub fn files(
        &self,
        kind: RepoType,
        repo: &str,
        revision: Option<&str>,
        files: &[&str],
    ) -> Result<Snapshot> {
        self.visit(kind, repo, revision)?.get(files)
    }

    /// Finds out which commit `revision` stands for and which files it has.
    fn visit(&self, kind: RepoType, repo: &str, revision: Option<&str>) -> Result<Visit<'_>> {
        let plain = |name: &str| is_plain(name) && !name.contains(['?', '#', '%', '\\']);
        let revision = revision.unwrap_or("main");
        let problem = |reason: &str, remedy: String| Error::Hub {
            repo: repo.to_owned(),
            reason: reason.to_owned(),
            remedy,
        };
        if !plain(repo) || repo.split('/').count() > 2 || !plain(revision) {
            let reason = format!("repository or revision '{revision}' is not a valid name");
            return Err(problem(&reason, "write it as owner/name".to_owned()));
        }
        let named = Repo::with_revision(repo.to_owned(), kind, revision.to_owned());
        let cached = Cache::new(self.cache.clone()).repo(named.clone());
        let repo_folder = self.cache.join(named.folder_name());
        let mut visit = Visit {
            hub: self,
            kind,
            repo: repo.to_owned(),
            commit: revision.to_owned(),
            folder: PathBuf::new(),
            remote: None,
        };
        if self.offline {
            // The commit that the branch or tag stood for when it was last fetched.
            let reference = repo_folder.join("refs").join(revision);
            if let Ok(commit) = fs::read_to_string(reference) {
                visit.commit = commit.trim().to_owned();
            }
        } else {
            let api = self.api().map_err(|error| visit.api_error("the hub", error))?;
            let info =
                api.repo(named).info().map_err(|error| visit.api_error("the repository", error))?;
            if !is_plain(&info.sha) || info.sha.contains('/') {
                let remedy = format!("check HF_ENDPOINT, {}", self.endpoint);
                return Err(problem("the hub's answer names no commit", remedy));
            }
            cached
                .create_ref(&info.sha)
                .map_err(|source| Error::Io { path: repo_folder.clone(), source })?;
            visit.commit = info.sha.clone();
            visit.remote = Some((api, info));
        }
        visit.folder = repo_folder.join("snapshots").join(&visit.commit);
        Ok(visit)
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .with_retries(3)
            .build()
    }
}

/// One commit of a repository, while files of it are fetched.
struct Visit<'a> {
    hub: &'a Hub,
    kind: RepoType,
    repo: String,
    commit: String,
    /// Where the cache keeps the commit's files.
    folder: PathBuf,
    /// The hub and what it says about the commit; `None` when offline.
    remote: Option<(Api, RepoInfo)>,
}

impl Visit<'_> {
    /// Whether the commit has `file`; offline, whether the cache has it.
    fn has(&self, file: &str) -> bool {
        match &self.remote {
            Some((_, info)) => info.siblings.iter().any(|sibling| sibling.rfilename == file),
            None => self.folder.join(file).is_file(),
        }
    }

    /// Fetches those of `files` that the cache does not have.
    fn get(&self, files: &[&str]) -> Result<Snapshot> {
        if let Some(file) = files.iter().find(|file| !is_plain(file)) {
            let remedy = "file names are relative to the repository, without `..`";
            return Err(self.error(format!("'{file}' is not the name of a file in it"), remedy));
        }
        let lacking: Vec<&str> =
            files.iter().copied().filter(|file| !self.folder.join(file).is_file()).collect();
        match &self.remote {
            None if !lacking.is_empty() => return Err(self.lacking_offline(&lacking)),
            None => {}
            Some((api, _)) => {
                let absent: Vec<&str> =
                    lacking.iter().copied().filter(|file| !self.has(file)).collect();
                if !absent.is_empty() {
                    let reason = format!("commit {} has no {}", self.commit, absent.join(", "));
                    let remedy = "choose a repository or revision that has it; a model must be a \
                                  Hugging Face folder with safetensors weights and tokenizer.json";
                    return Err(self.error(reason, remedy));
                }
                // By commit, so that all files are of one commit even if the branch moves on.
                let repo = Repo::with_revision(self.repo.clone(), self.kind, self.commit.clone());
                let repo = api.repo(repo);
                for file in lacking {
                    tracing::info!(repo = self.repo, file, "fetching from the hub");
                    repo.download(file).map_err(|error| self.api_error(file, error))?;
                }
            }
        }
        Ok(Snapshot { folder: self.folder.clone(), commit: self.commit.clone() })
    }

    fn lacking_offline(&self, lacking: &[&str]) -> Error {
        let reason = format!(
            "HF_HUB_OFFLINE is set and the cache lacks {} (looked in {})",
            lacking.join(", "),
            self.folder.display()
        );
        self.error(reason, "unset HF_HUB_OFFLINE once, or set HF_HOME to a cache that has them")
    }

    fn error(&self, reason: String, remedy: impl Into<String>) -> Error {
        Error::Hub { repo: self.repo.clone(), reason, remedy: remedy.into() }
    }

    /// Says what an error of the hub means and what helps. `what` was asked for.
    fn api_error(&self, what: &str, error: ApiError) -> Error {
        let endpoint = self.hub.endpoint.trim_end_matches('/');
        let page = match self.kind {
            RepoType::Model => format!("{endpoint}/{}", self.repo),
            RepoType::Dataset => format!("{endpoint}/datasets/{}", self.repo),
            RepoType::Space => format!("{endpoint}/spaces/{}", self.repo),
        };
        let cache = self.hub.cache.display();
        let token = match self.hub.token {
            Some(_) => "a token was sent",
            None => "no token was sent",
        };
        match status(&error) {
            Some(code @ (401 | 403)) => self.error(
                format!(
                    "the hub refuses {what} ({code}, {token}): the repository is gated, private, \
                     or does not exist"
                ),
                format!(
                    "accept its licence at {page} with your account, make a read token at \
                     {endpoint}/settings/tokens and set HF_TOKEN to it"
                ),
            ),
            Some(404) => self.error(
                format!("the hub has not got {what} at '{}'", self.commit),
                format!("check the repository's name and revision at {page}"),
            ),
            Some(416) => self.error(
                format!("the hub cannot continue the download of {what}"),
                format!("delete the *.part files of this repository in {cache} and try again"),
            ),
            Some(429) => self.error(
                format!("the hub asks for fewer requests (429, {token})"),
                "wait some minutes; with HF_TOKEN set the limit is higher",
            ),
            _ => self.error(
                format!("{what} could not be fetched: {error}"),
                format!(
                    "check the connection to {endpoint} and the free space in {cache}; a second \
                     try goes on where this one stopped; HF_HUB_OFFLINE=1 uses the cache alone"
                ),
            ),
        }
    }
}

/// The HTTP status that ended a request.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// The files that an index of sharded weights names.
fn shards(index: &Path) -> std::result::Result<BTreeSet<String>, String> {
    let text = fs::read_to_string(index).map_err(|error| format!("{INDEX}: {error}"))?;
    let json: Json = serde_json::from_str(&text).map_err(|error| format!("{INDEX}: {error}"))?;
    let map = json["weight_map"].as_object().ok_or(format!("{INDEX} has no weight_map"))?;
    Ok(map.values().filter_map(Json::as_str).map(str::to_owned).collect())
}

/// Whether `name` stays inside the folder that it is joined to.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components().peekable();
    components.peek().is_some() && components.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
