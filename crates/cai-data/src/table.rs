//! Records of files that others made: CSV with a header, a JSON array of objects, or JSONL, each
//! also compressed (`.gz`).
//!
//! A name that ends in `.csv` is CSV, whose values are all text and may hold line breaks within
//! quotes. In any other file the first character tells: `[` begins an array of objects.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::jsonl::{self, Line, Reader};
use crate::{Error, Result};

/// A record: columns or keys, and their values.
pub type Record = Map<String, Value>;

/// Opens a file of records; they come in order, each with the line on which it begins. A record that
/// is malformed is an error item, after which the next follows where the format allows it (not in an
/// array).
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened, [`Error::Malformed`] for a CSV header that is none,
/// [`Error::Invalid`] for a format that is not read.
pub fn open(path: &Path) -> Result<Box<dyn Iterator<Item = Result<Line<Record>>>>> {
    let name = path.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if name.ends_with(".parquet") {
        return Err(Error::Invalid {
            place: path.display().to_string(),
            reason: "Parquet is not read; convert it to JSONL or CSV".into(),
        });
    }
    if name.ends_with(".csv") {
        return Ok(Box::new(Csv::open(path)?));
    }
    let mut source = jsonl::source(path)?;
    match first_character(&mut source).map_err(Error::read(path))? {
        Some((b'[', line)) => Ok(Box::new(array(path, source, line).into_iter())),
        _ => Ok(Box::new(Reader::<Record>::open(path)?)),
    }
}

/// Reads all records of a file.
///
/// # Errors
/// As [`open`]; [`Error::Malformed`] for the first record that is, [`Error::Empty`] without any.
pub fn read(path: &Path) -> Result<Vec<Line<Record>>> {
    let records = open(path)?.collect::<Result<Vec<_>>>()?;
    if records.is_empty() {
        return Err(Error::Empty { path: path.to_owned(), found: "it has no records".into() });
    }
    Ok(records)
}

/// The first byte that is no white space and no byte order mark, left in `source`, with its line.
fn first_character(source: &mut impl BufRead) -> io::Result<Option<(u8, usize)>> {
    let mut line = 1;
    loop {
        let Some(&first) = source.fill_buf()?.first() else { return Ok(None) };
        if !first.is_ascii_whitespace() && !jsonl::BYTE_ORDER_MARK.contains(&first) {
            return Ok(Some((first, line)));
        }
        line += usize::from(first == b'\n');
        source.consume(1);
    }
}

/// The rows of a CSV file.
struct Csv {
    path: PathBuf,
    header: Vec<String>,
    rows: csv::StringRecordsIntoIter<Box<dyn BufRead + Send>>,
    ended: bool,
}

impl Csv {
    fn open(path: &Path) -> Result<Self> {
        let mut reader = csv::Reader::from_reader(jsonl::source(path)?);
        let header = reader.headers().map_err(|error| wrong_row(path, &error))?;
        let header = header.iter().map(String::from).collect();
        Ok(Csv { path: path.to_owned(), header, rows: reader.into_records(), ended: false })
    }
}

impl Iterator for Csv {
    type Item = Result<Line<Record>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        Some(match self.rows.next()? {
            Ok(row) => {
                let number = row.position().map_or(0, |position| position.line() as usize);
                let values = row.iter().map(Value::from);
                Ok(Line { number, value: self.header.iter().cloned().zip(values).collect() })
            }
            Err(error) => {
                let error = wrong_row(&self.path, &error);
                self.ended = matches!(error, Error::Io { .. });
                Err(error)
            }
        })
    }
}

fn wrong_row(path: &Path, error: &csv::Error) -> Error {
    let path = path.to_owned();
    let line = error.position().map_or(1, |position| position.line() as usize);
    let reason = match error.kind() {
        csv::ErrorKind::Io(source) => {
            let source = io::Error::new(source.kind(), source.to_string());
            return Error::Io { path, source };
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} columns, the header {expected_len}; quotes may be missing")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("not UTF-8 in column {}", err.field() + 1),
        _ => error.to_string(),
    };
    Error::Malformed { path, line, reason }
}

/// The objects of a JSON array that begins on `first`, up to the first that is none.
fn array(path: &Path, source: impl Read, first: usize) -> Vec<Result<Line<Record>>> {
    let line = Rc::new(Cell::new(first));
    let counted = LineCounter { source, line: line.clone() };
    let mut records = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(counted);
    let read = json.deserialize_seq(Array { line: &line, records: &mut records });
    if let Err(error) = read.and_then(|()| json.end()) {
        records.push(Err(match error.is_io() {
            true => Error::Io { path: path.to_owned(), source: error.into() },
            false => Error::Malformed {
                path: path.to_owned(),
                line: first - 1 + error.line(),
                reason: format!("not an array of objects: {}", jsonl::without_place(&error)),
            },
        }));
    }
    records
}

/// Counts line ends. serde reads byte by byte, and no further than the value's first character
/// before it asks for the value: then the count is the line on which it begins.
struct LineCounter<R> {
    source: R,
    line: Rc<Cell<usize>>,
}

impl<R: Read> Read for LineCounter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        let ends = buffer[..read].iter().filter(|byte| **byte == b'\n').count();
        self.line.set(self.line.get() + ends);
        Ok(read)
    }
}

/// Puts the elements of an array into `records`.
struct Array<'a> {
    line: &'a Cell<usize>,
    records: &'a mut Vec<Result<Line<Record>>>,
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<(), A::Error> {
        while let Some(line) = elements.next_element_seed(Element { line: self.line })? {
            self.records.push(Ok(line));
        }
        Ok(())
    }
}

/// An element with the line on which it begins.
struct Element<'a> {
    line: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = Line<Record>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        element: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        let number = self.line.get();
        let value: Record = de::Deserialize::deserialize(element)?;
        Ok(Line { number, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn with_bytes<T>(name: &str, bytes: &[u8], read: impl Fn(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    const CSV: &str = "id,text\n007,\"two\nlines, \"\"one\"\" comma\"\n8,\n";
    const ARRAY: &str = "\n[\n  {\"id\": \"007\",\n   \"text\": \"two\\nlines, \\\"one\\\" comma\"},\n\n  \
                         {\"id\": \"8\", \"text\": \"\"}]\n";
    const LINES: &str = "{\"id\":\"007\",\"text\":\"two\\nlines, \\\"one\\\" comma\"}\n\n{\"id\":\"8\",\"text\":\"\"}\n";

    #[test]
    fn the_same_records_come_from_every_format_with_their_lines() {
        let mut values = Vec::new();
        for (name, text, lines) in [
            ("a.csv", CSV, [2, 4]),
            ("a.json", ARRAY, [3, 6]),
            ("a.jsonl", LINES, [1, 3]),
            ("lines.json", LINES, [1, 3]),
        ] {
            let marked = ["\u{feff}", text].concat();
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            let gzip = gzip.finish().unwrap();
            let plain = with_bytes(name, text.as_bytes(), read).unwrap();
            assert_eq!(plain.iter().map(|line| line.number).collect::<Vec<_>>(), lines, "{name}");
            assert_eq!(with_bytes(name, marked.as_bytes(), read).unwrap(), plain, "{name}");
            assert_eq!(with_bytes(&format!("{name}.gz"), &gzip, read).unwrap(), plain, "{name}");
            values.push(plain.into_iter().map(|line| line.value).collect::<Vec<_>>());
        }
        assert!(values.iter().all(|records| *records == values[0]));
        assert_eq!(values[0][0]["text"], "two\nlines, \"one\" comma");
    }

    #[test]
    fn what_is_wrong_is_named_by_file_and_line() {
        for (name, bytes, parts) in [
            (
                "a.csv",
                &b"a,b\n1,\"2\n\"\n1\n"[..],
                &["a.csv:4: ", "has 1 columns, the header 2"][..],
            ),
            ("a.csv", b"a,b\n1,\xff\n", &["a.csv:2: ", "not UTF-8 in column 2"]),
            ("a.csv", b"a,b\n", &["a.csv", "no records"]),
            ("a.csv", b"", &["a.csv", "no records"]),
            ("a.json", b"[{\"a\": 1},\n 7]", &["a.json:2: ", "array of objects", "column"]),
            ("a.json", b"[{\"a\": 1},\n {\"a\"", &["a.json:2: ", "EOF"]),
            ("a.json", b"[{\"a\": 1}] x", &["a.json:1: ", "trailing"]),
            ("a.json", b"{}{}", &["a.json:1: ", "trailing"]),
            ("a.json", b" ", &["a.json", "no records"]),
            ("a.csv.gz", b"a,b\n1,2\n3,4\n5,6\n", &["a.csv.gz", "not what its name says"]),
            ("a.json.gz", b"[{}, {}, {}, {}]", &["a.json.gz", "not what its name says"]),
            ("a.parquet", b"PAR1", &["a.parquet", "convert it"]),
        ] {
            let message = with_bytes(name, bytes, read).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{part}: {message}");
            }
        }
        assert!(
            read(Path::new("/no/such.csv")).unwrap_err().to_string().contains("check the path")
        );
    }

    #[test]
    fn a_wrong_row_does_not_end_a_csv_file() {
        let rows = with_bytes("a.csv", b"a,b\n1\n3,4\n", |path| {
            open(path).unwrap().map(|row| row.is_ok()).collect::<Vec<_>>()
        });
        assert_eq!(rows, [false, true]);
    }
}
