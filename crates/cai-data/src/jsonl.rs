//! Records in files, one JSON object per line: `.jsonl`, or `.jsonl.gz` by the name's ending.
//!
//! Blank lines are skipped; a byte order mark, CRLF line ends and a missing final newline are
//! accepted. A gzip file may have several members, as `cat a.gz b.gz` makes.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::AtomicFile;
use crate::{Error, Result};

const BUFFER: usize = 1 << 16;
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<T> {
    /// The line, counted from 1; blank lines count.
    pub number: usize,
    /// The record.
    pub value: T,
}

/// Reads records one by one. A malformed line is an error item, after which the next line follows;
/// after an error of the file itself the iterator ends.
pub struct Reader<T> {
    path: PathBuf,
    source: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    number: usize,
    ended: bool,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Reader<T> {
    /// Opens a file; nothing is read yet.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Reader {
            path: path.to_owned(),
            source: source(path)?,
            buffer: Vec::new(),
            number: 0,
            ended: false,
            record: PhantomData,
        })
    }

    /// The next line that is not blank, without its line end; `None` at the end.
    fn next_line(&mut self) -> std::io::Result<Option<&[u8]>> {
        loop {
            self.buffer.clear();
            if self.source.read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number == 1 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.drain(..BYTE_ORDER_MARK.len());
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some(self.buffer.trim_ascii_end()));
            }
        }
    }
}

impl<T: DeserializeOwned> Iterator for Reader<T> {
    type Item = Result<Line<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let parsed = match self.next_line() {
            Ok(Some(line)) => parse(line),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(source) => {
                self.ended = true;
                return Some(Err(Error::Io { path: self.path.clone(), source }));
            }
        };
        let number = self.number;
        Some(parsed.map(|value| Line { number, value }).map_err(|reason| Error::Malformed {
            path: self.path.clone(),
            line: number,
            reason,
        }))
    }
}

/// Reads all records of a file. A file without records gives an empty list.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Malformed`] for the first line that is no
/// `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    Reader::open(path)?.map(|line| line.map(|line| line.value)).collect()
}

/// Writes records to a file, whole or not at all.
///
/// # Errors
/// [`Error::Write`] or [`Error::NotJson`]; an earlier file at `path` is then unchanged.
pub fn write<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    let mut writer = Writer::create(path)?;
    for record in records {
        writer.write(&record)?;
    }
    writer.finish()
}

/// Writes records one by one to a file that appears at [`finish`](Writer::finish). Dropped before
/// that, it leaves nothing behind.
pub struct Writer {
    path: PathBuf,
    sink: Sink,
    line: Vec<u8>,
}

enum Sink {
    Plain(AtomicFile),
    // Boxed: an encoder is several times larger than a plain file.
    Gzip(Box<BufWriter<GzEncoder<AtomicFile>>>),
}

impl Writer {
    /// Starts a file. Missing folders are made.
    ///
    /// # Errors
    /// [`Error::Write`] when the folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let sink = if is_gzip(path) {
            // The encoder writes neither name nor time, so same records give same bytes.
            let encoder = GzEncoder::new(file, Compression::default());
            Sink::Gzip(Box::new(BufWriter::with_capacity(BUFFER, encoder)))
        } else {
            Sink::Plain(file)
        };
        Ok(Writer { path: path.to_owned(), sink, line: Vec::new() })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Write`], or [`Error::NotJson`] for a map whose keys are not strings.
    pub fn write<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record)
            .map_err(|source| Error::NotJson { path: self.path.clone(), source })?;
        self.line.push(b'\n');
        match &mut self.sink {
            Sink::Plain(file) => file.write_all(&self.line),
            Sink::Gzip(encoder) => encoder.write_all(&self.line),
        }
        .map_err(Error::write(&self.path))
    }

    /// Makes the file appear, with all records.
    ///
    /// # Errors
    /// [`Error::Write`]; an earlier file of that name is then unchanged.
    pub fn finish(self) -> Result<()> {
        let file = match self.sink {
            Sink::Plain(file) => file,
            Sink::Gzip(buffered) => {
                let encoder = buffered.into_inner().map_err(|error| error.into_error());
                encoder.and_then(GzEncoder::finish).map_err(Error::write(&self.path))?
            }
        };
        file.commit()
    }
}

/// The bytes of a file, decompressed if its name ends in `.gz`.
pub(crate) fn source(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::read(path))?);
    Ok(match is_gzip(path) {
        true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
        false => Box::new(file),
    })
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// The record on a line, or what is wrong with it.
fn parse<T: DeserializeOwned>(line: &[u8]) -> std::result::Result<T, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    // serde counts lines within the text it was given, which is one line here.
    serde_json::from_str(text).map_err(|error| without_place(&error))
}

/// What serde found wrong, with the column alone: the line stands before the message.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    format!("{what} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use std::fs;

    fn with_bytes<T>(name: &str, bytes: &[u8], read: impl Fn(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn line_ends_blank_lines_and_a_byte_order_mark_make_no_difference() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\r\n  \n{\"a\":2}\n[\"\xc3\xa9\"]";
        let lines: Vec<Line<Value>> =
            with_bytes("a.jsonl", text, |path| Reader::open(path).unwrap().collect::<Result<_>>())
                .unwrap();
        let line = |number, value| Line { number, value };
        let expected = [line(1, json!({"a": 1})), line(4, json!({"a": 2})), line(5, json!(["é"]))];
        assert_eq!(lines, expected);
        assert_eq!(with_bytes("a.jsonl", b"", read::<Value>).unwrap(), [] as [Value; 0]);
    }

    #[test]
    fn a_malformed_line_is_named_and_the_next_one_follows() {
        let text = b"{\"a\":1}\n{\"a\":\n\xff{}\n{\"a\":\"x\"}\n{\"a\":4}\n";
        type Record = std::collections::BTreeMap<String, i32>;
        let lines: Vec<Result<Line<Record>>> =
            with_bytes("a.jsonl", text, |path| Reader::open(path).unwrap().collect());
        let messages: Vec<String> =
            lines.iter().filter_map(|line| line.as_ref().err().map(Error::to_string)).collect();
        assert_eq!((lines.len(), messages.len()), (5, 3));
        assert!(messages[0].contains("a.jsonl:2: EOF") && messages[0].contains("column 5"));
        assert!(messages[1].contains("a.jsonl:3: not UTF-8 from byte 1"), "{}", messages[1]);
        assert!(messages[2].contains("a.jsonl:4: invalid type: string"), "{}", messages[2]);
        assert_eq!(lines[4].as_ref().unwrap().number, 5);
        assert!(with_bytes("a.jsonl", text, read::<Record>).is_err());
    }

    #[test]
    fn a_gzip_file_may_have_several_members() {
        let bytes = [gzip(b"1\n2"), gzip(b"3\n4\n"), gzip(b"5")].concat();
        let values = with_bytes("a.jsonl.gz", &bytes, read::<i32>).unwrap();
        assert_eq!(values, [1, 23, 4, 5]);
    }

    #[test]
    fn a_damaged_gzip_file_is_one_error_with_a_remedy() {
        let mut whole = gzip(b"1\n2\n3\n");
        whole.truncate(whole.len() - 6);
        let error = with_bytes("a.jsonl.gz", &whole, read::<i32>).unwrap_err().to_string();
        assert!(error.contains("a.jsonl.gz") && error.contains("truncated"), "{error}");
        let error =
            with_bytes("a.jsonl.gz", b"\"plain text\"\n", read::<i32>).unwrap_err().to_string();
        assert!(error.contains("not what its name says"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read::<i32>(Path::new("/no/such.jsonl")).unwrap_err().to_string();
        assert!(error.contains("/no/such.jsonl") && error.contains("check the path"), "{error}");
    }

    #[test]
    fn same_records_give_same_bytes_and_an_unfinished_file_does_not_appear() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "a.jsonl.gz"] {
            let [one, two] = ["one", "two"].map(|sub| folder.path().join(sub).join(name));
            write(&one, [json!({"b": 1, "a": "x"})]).unwrap();
            write(&two, [json!({"b": 1, "a": "x"})]).unwrap();
            assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());

            let mut writer = Writer::create(&one).unwrap();
            writer.write(&1).unwrap();
            drop(writer);
            assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        }
    }

    proptest! {
        // Every case syncs a file to disk.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_reads_back(
            records in prop::collection::vec((any::<String>(), any::<f64>()), 0..8),
            compressed in any::<bool>(),
        ) {
            let records: Vec<Map<String, Value>> = records
                .into_iter()
                .map(|(text, number)| {
                    let number = if number.is_finite() { number } else { 0.0 };
                    Map::from_iter([("text".into(), text.into()), ("number".into(), number.into())])
                })
                .collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(if compressed { "a.jsonl.gz" } else { "a.jsonl" });
            write(&path, &records).unwrap();
            prop_assert_eq!(read::<Map<String, Value>>(&path).unwrap(), records);
        }
    }
}
