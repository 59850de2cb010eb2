//! Records of files that others made: CSV with a header, a JSON array, or JSONL.

use std::path::Path;

use cai_data::jsonl;
use polars::prelude::{CsvReadOptions, SerReader};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A record: columns or keys, and their values. Those of CSV are all text.
pub type Row = Map<String, Value>;

/// Reads a file by its ending: `.csv` and `.json`, else JSONL (`.jsonl`, `.jsonl.gz`).
///
/// # Errors
/// [`Error::Data`] when the file cannot be read, [`Error::Input`] when it is not what its ending says or
/// holds no record.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let rows = match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if ending.eq_ignore_ascii_case("csv") => from_csv(path)?,
        Some(ending) if ending.eq_ignore_ascii_case("json") => from_json(path)?,
        Some(ending) if ending.eq_ignore_ascii_case("parquet") => {
            let reason = "is Parquet, which is not read; convert it to JSONL";
            return Err(Error::input(path.display().to_string(), reason));
        }
        _ => jsonl::read(path)?,
    };
    if rows.is_empty() {
        return Err(Error::input(
            path.display().to_string(),
            "holds no records; give at least one",
        ));
    }
    Ok(rows)
}

fn from_json(path: &Path) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(cai_data::Error::read(path))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("is not a JSON array of objects: {error}");
        Error::input(path.display().to_string(), reason)
    })
}

fn from_csv(path: &Path) -> Result<Vec<Row>> {
    let unreadable = |error: polars::prelude::PolarsError| {
        Error::input(path.display().to_string(), format!("cannot be read as CSV: {error}"))
    };
    // No types are inferred: every value is the text that stands there.
    let table = CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0))
        .try_into_reader_with_file_path(Some(path.to_owned()))
        .and_then(|reader| reader.finish())
        .map_err(unreadable)?;
    let mut rows = vec![Row::new(); table.height()];
    for column in table.columns() {
        let texts = column.str().map_err(unreadable)?;
        for (row, text) in rows.iter_mut().zip(texts.iter()) {
            row.insert(column.name().to_string(), text.unwrap_or_default().into());
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_by_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read_rows(&path)
        };
        let rows = read("a.csv", "id,text\n007,\"two\nlines, one comma\"\n8,\n").unwrap();
        assert_eq!(
            (&rows[0]["id"], &rows[0]["text"]),
            (&"007".into(), &"two\nlines, one comma".into())
        );
        assert_eq!(rows[1]["text"], "");
        assert_eq!(read("a.json", r#"[{"a": [1, 2]}]"#).unwrap()[0]["a"][1], 2);
        assert_eq!(read("a.jsonl", "{\"a\": 1}\n{\"a\": 2}\n").unwrap().len(), 2);
        for (name, text) in
            [("b.json", "{}"), ("b.jsonl", ""), ("b.csv", "a,b\n"), ("b.parquet", "x")]
        {
            let message = read(name, text).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
