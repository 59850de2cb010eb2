//! Files of this project's own form, and how files build on each other.

use super::{Constitution, Principle, foreign, lines};
use crate::record::{Message, Role};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default = "english")]
    language: String,
    #[serde(default)]
    extends: Extends,
    #[serde(default)]
    few_shot: Vec<Vec<Message>>,
    #[serde(default)]
    principles: Vec<Principle>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Extends {
    #[default]
    Nothing,
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Extends {
    fn paths(&self) -> &[PathBuf] {
        match self {
            Extends::Nothing => &[],
            Extends::One(path) => std::slice::from_ref(path),
            Extends::Several(paths) => paths,
        }
    }
}

fn english() -> String {
    "en".into()
}

/// The constitution of a file, and the files it is made of.
pub(super) fn read(path: &Path) -> Result<(Constitution, Vec<PathBuf>)> {
    let mut files = Vec::new();
    let constitution = read_below(path, &mut Vec::new(), &mut files)?;
    Ok((constitution, files))
}

/// Reads `path`, which the files of `above` extend.
fn read_below(
    path: &Path,
    above: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<Constitution> {
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let place = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        let reason = "is not UTF-8; save the constitution as UTF-8".to_owned();
        Error::Invalid { place: lines::at(&place, Some(line)), reason }
    })?;
    files.push(path.to_owned());
    let written = match foreign::parse(&text, path, &place)? {
        Some(constitution) => return Ok(constitution),
        None => written(&text, &place)?,
    };
    let mut extended = Vec::new();
    for other in written.extends.paths() {
        let other = path.parent().unwrap_or(Path::new("")).join(other);
        let same = |seen: &PathBuf| seen.canonicalize().ok() == other.canonicalize().ok();
        if other.exists() && (above.iter().any(same) || same(&path.to_owned())) {
            let line = lines::containing(&text, "extends");
            let reason = format!("{} extends itself; remove one of the two", other.display());
            return Err(Error::Invalid { place: lines::at(&place, line), reason });
        }
        above.push(path.to_owned());
        extended.push(read_below(&other, above, files)?);
        above.pop();
    }
    merged(written, extended, &text, &place)
}

pub(super) fn parse(text: &str, place: &str) -> Result<Constitution> {
    if let Some(constitution) = foreign::parse(text, Path::new(place), place)? {
        return Ok(constitution);
    }
    let written = written(text, place)?;
    if !written.extends.paths().is_empty() {
        let place = lines::at(place, lines::containing(text, "extends"));
        let reason = "extends a file, which only a file can; read it from its path".to_owned();
        return Err(Error::Invalid { place, reason });
    }
    merged(written, Vec::new(), text, place)
}

/// Parses and checks what stands in one file.
fn written(text: &str, place: &str) -> Result<Written> {
    let written: Written = serde_yaml::from_str(text).map_err(|error| Error::Invalid {
        place: lines::at(place, error.location().map(|at| at.line())),
        reason: format!("{error}; mend the constitution there"),
    })?;
    if written.name.trim().is_empty() {
        let place = lines::at(place, lines::containing(text, "name:"));
        let reason = "name is empty; give the constitution a name".to_owned();
        return Err(Error::Invalid { place, reason });
    }
    let mut ids = HashSet::new();
    for (i, principle) in written.principles.iter().enumerate() {
        let mistake = mistake(principle).or_else(|| {
            let twice = !ids.insert(&principle.id);
            let reason = || format!("{} is used twice; give each principle its own", principle.id);
            twice.then(|| ("id", reason()))
        });
        if let Some((field, reason)) = mistake {
            let at = lines::at(place, lines::of_item(text, "principles", i, field));
            let reason = format!("principles[{i}].{field} {reason}");
            return Err(Error::Invalid { place: at, reason });
        }
    }
    for (i, dialogue) in written.few_shot.iter().enumerate() {
        if !alternates(dialogue) {
            let at = lines::at(place, lines::of_item(text, "few_shot", i, ""));
            let reason = format!(
                "few_shot[{i}] must alternate from a user turn to an assistant turn, none of them \
                 empty; mend it"
            );
            return Err(Error::Invalid { place: at, reason });
        }
    }
    Ok(written)
}

/// The first mistake in a principle: the field and what is wrong with it.
fn mistake(principle: &Principle) -> Option<(&'static str, String)> {
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let Principle { id, critique_request, revision_request, preference_question, .. } = principle;
    let empty = || "is empty; write it, or remove the principle".to_owned();
    if id.trim().is_empty() {
        return Some(("id", empty()));
    }
    if blank(critique_request) || (critique_request.is_empty() && !revision_request.is_empty()) {
        return Some(("critique_request", empty()));
    }
    if blank(revision_request) || (revision_request.is_empty() && !critique_request.is_empty()) {
        return Some(("revision_request", empty()));
    }
    if blank(preference_question) || !(principle.criticises() || principle.compares()) {
        return Some(("preference_question", empty()));
    }
    if !(principle.weight.is_finite() && principle.weight > 0.0) {
        return Some(("weight", format!("{} is no number above 0", principle.weight)));
    }
    None
}

/// Whether turns alternate from the user to the assistant and none is empty.
pub(super) fn alternates(dialogue: &[Message]) -> bool {
    let role = |i: usize| if i.is_multiple_of(2) { Role::User } else { Role::Assistant };
    !dialogue.is_empty()
        && dialogue.len().is_multiple_of(2)
        && dialogue
            .iter()
            .enumerate()
            .all(|(i, m)| m.role == role(i) && !m.content.trim().is_empty())
}

/// The file's own principles over those of the files that it extends.
fn merged(
    written: Written,
    extended: Vec<Constitution>,
    text: &str,
    place: &str,
) -> Result<Constitution> {
    let mut principles: Vec<Principle> = Vec::new();
    let mut few_shot = Vec::new();
    for (i, other) in extended.into_iter().enumerate() {
        for principle in other.principles {
            if principles.iter().any(|known| known.id == principle.id) {
                let place = lines::at(place, lines::containing(text, "extends"));
                let reason = format!(
                    "{} stands in two of the extended files (again in number {}); rename one",
                    principle.id,
                    i + 1
                );
                return Err(Error::Invalid { place, reason });
            }
            principles.push(principle);
        }
        few_shot.extend(other.few_shot);
    }
    for principle in written.principles {
        match principles.iter_mut().find(|known| known.id == principle.id) {
            Some(known) => *known = principle,
            None => principles.push(principle),
        }
    }
    if principles.is_empty() {
        let place = lines::at(place, lines::containing(text, "principles"));
        let reason = "principles are none; write at least one".to_owned();
        return Err(Error::Invalid { place, reason });
    }
    few_shot.extend(written.few_shot);
    Ok(Constitution { name: written.name, language: written.language, principles, few_shot })
}
