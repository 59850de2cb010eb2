//! Goals from files that others made: CSV with a column, or JSONL with a key, of one of a few names.

use std::path::Path;

use cai_data::jsonl;
use polars::prelude::{CsvReadOptions, SerReader};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Columns and keys that hold a goal, in order of preference; case does not count.
const NAMES: [&str; 4] = ["goal", "behavior", "prompt", "text"];

/// Reads one text for each record: of CSV (ending `.csv`, with a header), else of JSONL. The column or
/// key is `goal`, `behavior`, `prompt` or `text`, the first of these that there is.
///
/// # Errors
/// [`Error::Data`] when the file cannot be read, [`Error::Input`] when it holds no such text.
pub fn read_goals(path: &Path) -> Result<Vec<String>> {
    let goals = match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        true => from_csv(path)?,
        false => from_jsonl(path)?,
    };
    let place = path.display().to_string();
    if goals.is_empty() {
        return Err(Error::input(place, "holds no goals; give at least one"));
    }
    if let Some(i) = goals.iter().position(|goal| goal.trim().is_empty()) {
        let reason = "the goal is empty; give its words or take the record out";
        return Err(Error::input(format!("{place}, record {}", i + 1), reason));
    }
    Ok(goals)
}

fn from_csv(path: &Path) -> Result<Vec<String>> {
    let unreadable = |error: polars::prelude::PolarsError| {
        Error::input(path.display().to_string(), format!("cannot be read as CSV: {error}"))
    };
    let table = CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(None)
        .try_into_reader_with_file_path(Some(path.to_owned()))
        .and_then(|reader| reader.finish())
        .map_err(unreadable)?;
    let columns: Vec<String> = table.get_column_names().iter().map(|n| n.to_string()).collect();
    let named = |wanted: &&str| columns.iter().find(|name| name.eq_ignore_ascii_case(wanted));
    let Some(name) = NAMES.iter().find_map(named) else {
        let reason = format!("has no column {}; it has {}", NAMES.join(", "), columns.join(", "));
        return Err(Error::input(path.display().to_string(), reason));
    };
    let column = table.column(name).map_err(unreadable)?;
    let texts = column.str().map_err(unreadable)?;
    Ok(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn from_jsonl(path: &Path) -> Result<Vec<String>> {
    let records: Vec<Map<String, Value>> = jsonl::read(path)?;
    let goal = |(i, record): (usize, &Map<String, Value>)| {
        let found = NAMES.iter().find_map(|name| record.get(*name)?.as_str());
        found.map(str::to_owned).ok_or_else(|| {
            let place = format!("{}, record {}", path.display(), i + 1);
            Error::input(place, format!("has no text under {}", NAMES.join(", ")))
        })
    };
    records.iter().enumerate().map(goal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_come_from_csv_and_jsonl() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let csv = write("a.csv", ",Goal,Target\n0,\"One, two\",x\n1,Three,y\n");
        assert_eq!(read_goals(&csv).unwrap(), ["One, two", "Three"]);
        let lines =
            write("a.jsonl", "{\"prompt\": \"One\"}\n{\"goal\": \"Two\", \"prompt\": \"x\"}\n");
        assert_eq!(read_goals(&lines).unwrap(), ["One", "Two"]);
        for bad in [write("b.csv", "x,y\n1,2\n"), write("b.jsonl", "{\"x\": 1}\n")] {
            let message = read_goals(&bad).unwrap_err().to_string();
            assert!(message.contains("goal"), "{message}");
        }
    }
}
