//! Labelled texts from files of other people's making: JSONL, CSV and Parquet, with the names of
//! their columns and labels.

use std::collections::BTreeMap;
use std::path::Path;

use cai_data::jsonl;
use cai_data::record::LabelledText;
use polars::prelude::{AnyValue, CsvReadOptions, DataFrame, DataType, ParquetReader, SerReader};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::data::{SEPARATOR, classes_of};
use crate::error::{Error, Result};

/// A file of labelled texts and what its columns are called. In a config, a plain path stands for
/// one with the usual names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// `.jsonl`, `.jsonl.gz`, `.csv` or `.parquet`; or `hub:OWNER/NAME/FILE` of a dataset.
    pub path: String,
    /// The texts.
    pub text: String,
    /// The labels.
    pub label: String,
    /// The groups of people that texts are about; may be missing in the file.
    pub group: String,
    /// Where a text comes from; may be missing in the file.
    pub source: String,
    /// What a text's source is where the file does not say.
    pub name: Option<String>,
    /// The file's labels and what they are called here; others stay as they are.
    pub map: BTreeMap<String, String>,
}

/// The fields of [`Source`] as a config gives them.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    path: String,
    text: String,
    label: String,
    group: String,
    source: String,
    name: Option<String>,
    map: BTreeMap<String, String>,
}

impl Default for Fields {
    fn default() -> Self {
        let [text, label, group, source] = ["text", "label", "group", "source"].map(String::from);
        Self { path: String::new(), text, label, group, source, name: None, map: BTreeMap::new() }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // Not an untagged enum: its errors would not name the wrong key.
        let value = Value::deserialize(deserializer)?;
        if let Value::String(path) = value {
            return Ok(Self::new(path));
        }
        let fields: Fields = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
        if fields.path.is_empty() {
            return Err(serde::de::Error::missing_field("path"));
        }
        let Fields { path, text, label, group, source, name, map } = fields;
        Ok(Self { path, text, label, group, source, name, map })
    }
}

impl Source {
    /// A file with the usual names of columns.
    pub fn new(path: impl Into<String>) -> Self {
        let Fields { text, label, group, source, name, map, .. } = Fields::default();
        Self { path: path.into(), text, label, group, source, name, map }
    }

    /// Reads `file`, which is what `path` stands for on this machine.
    ///
    /// # Errors
    /// A file that cannot be read, a column that is missing, or a label that is not one of `labels`,
    /// with file and line.
    pub fn read(&self, file: &Path, labels: &[String]) -> Result<Vec<LabelledText>> {
        let place = |number: usize| format!("{}:{number}", file.display());
        rows(file)?
            .into_iter()
            .map(|(number, row)| self.record(row, labels, &|| place(number)))
            .collect()
    }

    fn record(
        &self,
        mut row: Map<String, Value>,
        labels: &[String],
        place: &dyn Fn() -> String,
    ) -> Result<LabelledText> {
        let mut take = |column: &str| match row.remove(column) {
            Some(Value::String(value)) => Ok(Some(value)),
            Some(Value::Null) | None => Ok(None),
            Some(Value::Number(value)) => Ok(Some(value.to_string())),
            Some(Value::Array(values)) if column == self.label => Ok(Some(joined(&values))),
            Some(_) => {
                Err(Error::Column { place: place(), column: column.into(), problem: "is no text" })
            }
        };
        let missing = |column: &str| Error::Column {
            place: place(),
            column: column.into(),
            problem: "is missing",
        };
        let text = take(&self.text)?.ok_or_else(|| missing(&self.text))?;
        let given = take(&self.label)?.ok_or_else(|| missing(&self.label))?;
        let mapped = |label: &str| self.map.get(label).cloned().unwrap_or_else(|| label.into());
        let label = given.split(SEPARATOR).map(mapped).collect::<Vec<_>>().join(SEPARATOR);
        let group = take(&self.group)?;
        let source = take(&self.source)?.or_else(|| self.name.clone());
        classes_of(&label, labels, place)?;
        let extra = source.map(|source| ("source".to_string(), Value::String(source)));
        Ok(LabelledText { text, label, group, extra: extra.into_iter().collect() })
    }
}

/// The labels of a list as one text.
fn joined(labels: &[Value]) -> String {
    let text = |label: &Value| label.as_str().map_or_else(|| label.to_string(), Into::into);
    labels.iter().map(text).collect::<Vec<String>>().join(SEPARATOR)
}

/// The rows of a file with their line (JSONL) or row number, from 1.
pub(crate) fn rows(file: &Path) -> Result<Vec<(usize, Map<String, Value>)>> {
    let frame = match extension(file) {
        "csv" => read_csv(file)?,
        "parquet" => read_parquet(file)?,
        _ => {
            let line = |line: cai_data::Result<jsonl::Line<Map<String, Value>>>| {
                let line = line?;
                Ok((line.number, line.value))
            };
            return jsonl::Reader::open(file)?.map(line).collect();
        }
    };
    let names: Vec<String> = frame.get_column_names().iter().map(ToString::to_string).collect();
    let cell = |column: usize, row: usize| match frame.columns()[column].get(row) {
        Ok(AnyValue::Null) | Err(_) => Value::Null,
        Ok(AnyValue::String(text)) => Value::String(text.into()),
        Ok(AnyValue::StringOwned(text)) => Value::String(text.to_string()),
        Ok(other) => Value::String(other.to_string()),
    };
    let row = |row: usize| {
        let cells = names.iter().enumerate().map(|(c, name)| (name.clone(), cell(c, row)));
        (row + 1, cells.collect())
    };
    Ok((0..frame.height()).map(row).collect())
}

/// The ending that tells the format.
pub(crate) fn extension(file: &Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn read_csv(file: &Path) -> Result<DataFrame> {
    // Every column is text: a label "1" stays "1".
    CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0))
        .try_into_reader_with_file_path(Some(file.to_path_buf()))
        .and_then(SerReader::finish)
        .map_err(|error| wrong(file, error.to_string()))
}

fn read_parquet(file: &Path) -> Result<DataFrame> {
    let opened = std::fs::File::open(file).map_err(cai_data::Error::read(file))?;
    let frame =
        ParquetReader::new(opened).finish().map_err(|error| wrong(file, error.to_string()))?;
    let nested = |dtype: &DataType| dtype.is_nested();
    match frame.columns().iter().find(|column| nested(column.dtype())) {
        Some(column) => Err(wrong(file, format!("column {} is nested", column.name()))),
        None => Ok(frame),
    }
}

fn wrong(file: &Path, problem: String) -> Error {
    Error::Table { path: file.to_path_buf(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::{NamedFrom, ParquetWriter, Series};

    fn labels() -> Vec<String> {
        vec!["safe".into(), "toxic_content".into()]
    }

    #[test]
    fn columns_and_labels_are_mapped_in_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let source: Source = serde_json::from_str(
            r#"{"path": "x", "text": "tweet", "label": "class", "name": "mine", "map": {"0": "toxic_content", "1": "safe"}}"#,
        )
        .unwrap();
        let csv = dir.path().join("a.csv");
        std::fs::write(&csv, "tweet,class\n\"hello, you\",1\n\"say \"\"no\"\"\",0\n").unwrap();
        let jsonl = dir.path().join("a.jsonl");
        std::fs::write(&jsonl, "{\"tweet\":\"hello, you\",\"class\":\"1\"}\n{\"tweet\":\"say \\\"no\\\"\",\"class\":0}\n").unwrap();
        let parquet = dir.path().join("a.parquet");
        let columns = vec![
            Series::new("tweet".into(), ["hello, you", "say \"no\""]).into(),
            Series::new("class".into(), [1i64, 0]).into(),
        ];
        let mut frame = DataFrame::new(2, columns).unwrap();
        ParquetWriter::new(std::fs::File::create(&parquet).unwrap()).finish(&mut frame).unwrap();
        let read = [&csv, &jsonl, &parquet].map(|file| source.read(file, &labels()).unwrap());
        assert_eq!(read[0], read[1]);
        assert_eq!(read[0], read[2]);
        assert_eq!(
            (read[0][1].text.as_str(), read[0][1].label.as_str()),
            ("say \"no\"", "toxic_content")
        );
        assert_eq!(read[0][0].extra["source"], "mine");
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "text,class\nhello,safe\n").unwrap();
        let error = Source::new("a.csv").read(&file, &labels()).unwrap_err().to_string();
        assert!(error.contains("a.csv:1") && error.contains("label"), "{error}");
        std::fs::write(&file, "text,label\nhello,odd\n").unwrap();
        let error = Source::new("a.csv").read(&file, &labels()).unwrap_err().to_string();
        assert!(error.contains("a.csv:1") && error.contains("\"odd\""), "{error}");
        assert!(serde_json::from_str::<Source>(r#"{"path": "a", "txt": "b"}"#).is_err());
        assert!(serde_json::from_str::<Source>(r#"{"text": "b"}"#).is_err());
    }
}
