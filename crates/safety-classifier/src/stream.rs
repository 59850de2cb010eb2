//! Classifying a file: texts in, one line of JSON out for each, in the same order.

use std::io::{BufRead, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::Task;
use crate::error::{Error, Result};
use crate::predict::SafetyClassifier;
use crate::sources::{extension, rows};

/// Texts that are held in memory at a time; within, they are sorted by length.
const BLOCK: usize = 2048;

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    label: &'a str,
    /// Where a text can have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [String]>,
    scores: Map<String, Value>,
}

/// Classifies the file `input`: CSV and Parquet with a column `text`, else JSONL of `{"text"}`.
/// Returns the number of texts.
///
/// # Errors
/// Those of [`classify_lines`], or a file that cannot be read.
pub fn classify_file(
    classifier: &SafetyClassifier,
    input: &Path,
    output: &mut (impl Write + ?Sized),
) -> Result<usize> {
    let name = input.display().to_string();
    if !matches!(extension(input), "csv" | "parquet") {
        let file = std::fs::File::open(input).map_err(cai_data::Error::read(input))?;
        let reader: Box<dyn BufRead> = match extension(input) {
            "gz" => Box::new(std::io::BufReader::new(flate2::read::MultiGzDecoder::new(file))),
            _ => Box::new(std::io::BufReader::new(file)),
        };
        return classify_lines(classifier, reader, &name, output);
    }
    let texts = rows(input)?
        .into_iter()
        .map(|(number, row)| text(row).map_err(|problem| malformed(&name, number, problem)))
        .collect::<Result<Vec<_>>>()?;
    for block in texts.chunks(BLOCK) {
        classify_block(classifier, block, output)?;
    }
    Ok(texts.len())
}

/// Classifies JSONL of `{"text"}` (other fields are ignored) as it comes, blank lines left out, and
/// writes `{"label", "scores": {class: probability}}` for each text. `name` is what messages call
/// the input. Bytes that are no UTF-8 are read as replacement characters. Returns the number of texts.
///
/// # Errors
/// A line that is no object with a text, with its number; what was classified before it is written.
pub fn classify_lines(
    classifier: &SafetyClassifier,
    mut input: impl BufRead,
    name: &str,
    output: &mut (impl Write + ?Sized),
) -> Result<usize> {
    let (mut block, mut bytes) = (Vec::with_capacity(BLOCK), Vec::new());
    let (mut number, mut total) = (0, 0);
    loop {
        bytes.clear();
        let read = input
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::Data(cai_data::Error::Io { path: name.into(), source }))?;
        number += 1;
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_start_matches('\u{feff}').trim();
        if !line.is_empty() {
            let parsed = serde_json::from_str(line).map_err(|error| error.to_string());
            match parsed.and_then(text) {
                Ok(text) => block.push(text),
                Err(problem) => {
                    classify_block(classifier, &block, output)?;
                    return Err(malformed(name, number, problem));
                }
            }
        }
        if block.len() == BLOCK || read == 0 {
            classify_block(classifier, &block, output)?;
            total += block.len();
            block.clear();
        }
        if read == 0 {
            return Ok(total);
        }
    }
}

fn text(mut row: Map<String, Value>) -> std::result::Result<String, String> {
    match row.remove("text") {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Null) => Ok(String::new()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err("the field text is no text".into()),
        None => Err("there is no field text".into()),
    }
}

fn malformed(name: &str, line: usize, reason: String) -> Error {
    Error::Data(cai_data::Error::Malformed { path: name.into(), line, reason })
}

fn classify_block(
    classifier: &SafetyClassifier,
    block: &[String],
    output: &mut (impl Write + ?Sized),
) -> Result<()> {
    let texts: Vec<&str> = block.iter().map(String::as_str).collect();
    for prediction in classifier.predict(&texts)? {
        // In the order of the labels.
        let score = |label: &String| (label.clone(), Value::from(prediction.probabilities[label]));
        let scores = classifier.labels().iter().map(score).collect();
        let labels = (classifier.task() == Task::MultiLabel).then_some(&*prediction.labels);
        let line = serde_json::to_string(&Line { label: &prediction.label, labels, scores })
            .map_err(|error| Error::Output(error.into()))?;
        writeln!(output, "{line}").map_err(Error::Output)?;
    }
    Ok(())
}
