//! Goals from files that others made: a column, or a key, of one of a few names.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::rows::{Row, read_rows};

/// Columns and keys that hold a goal, in order of preference; case does not count.
const NAMES: [&str; 4] = ["goal", "behavior", "prompt", "text"];

/// Reads one text for each record of a CSV, JSON or JSONL file. The column or key is `goal`, `behavior`,
/// `prompt` or `text`, the first of these that there is.
///
/// # Errors
/// [`Error::Data`] when the file cannot be read, [`Error::Input`] when it holds no such text.
pub fn read_goals(path: &Path) -> Result<Vec<String>> {
    let goal = |(i, row): (usize, &Row)| {
        let place = format!("{}, record {}", path.display(), i + 1);
        let named = |wanted: &&str| row.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        match NAMES.iter().find_map(named).map(|(_, value)| value) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
            Some(_) => {
                let reason = "the goal is empty; give its words or take the record out";
                Err(Error::input(place, reason))
            }
            None => {
                let (wanted, names) = (NAMES.join(", "), row.keys().cloned().collect::<Vec<_>>());
                let reason = format!("has no text under {wanted}; it has {}", names.join(", "));
                Err(Error::input(place, reason))
            }
        }
    };
    read_rows(path)?.iter().enumerate().map(goal).collect()
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
        for bad in ["x,y\n1,2\n", "goal\n \n"] {
            let message = read_goals(&write("b.csv", bad)).unwrap_err().to_string();
            assert!(message.contains("goal"), "{message}");
        }
    }
}
