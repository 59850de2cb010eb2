//! TensorBoard event files: `Event` messages of tensorboard's `event.proto` and `summary.proto` in
//! TFRecord frames. Only the fields that scalars need.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::Tracker;
use crate::{Error, LogEntry, Result};

/// `SessionLog.SessionStatus.START`: tells TensorBoard to forget later steps of earlier files.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional, so that a 0 is written too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Writes scalars to a new event file. Training metrics are shown under `train/`, evaluation ones
/// under `eval/`, as transformers does.
pub struct TensorBoard {
    path: PathBuf,
    file: File,
}

impl TensorBoard {
    /// A new event file in `folder` for the steps from `next_step` on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] that names the file.
    pub fn create(folder: &Path, next_step: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (seconds, process) = (now() as u64, std::process::id());
        let free = |n: &u64| !folder.join(file_name(seconds, process, *n)).exists();
        let number = (0..u64::MAX).find(free).unwrap_or_default();
        let path = folder.join(file_name(seconds, process, number));
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut writer = Self { path, file };
        writer.write(Event { file_version: Some("brain.Event:2".into()), ..event(0) })?;
        if next_step > 0 {
            let session_log = Some(SessionLog { status: START });
            writer.write(Event { session_log, ..event(next_step) })?;
        }
        Ok(writer)
    }

    fn write(&mut self, event: Event) -> Result<()> {
        self.file.write_all(&frame(&event.encode_to_vec())).map_err(Error::io(&self.path))
    }
}

impl Tracker for TensorBoard {
    fn log(&mut self, entry: &LogEntry) -> Result<()> {
        let scalar = |(name, value): (&String, &f64)| {
            let tag = match name.strip_prefix("eval_") {
                Some(name) => format!("eval/{name}"),
                None => format!("train/{name}"),
            };
            Value { tag, simple_value: Some(*value as f32) }
        };
        let summary = Some(Summary { value: entry.metrics.iter().map(scalar).collect() });
        self.write(Event { summary, ..event(entry.step) })
    }
}

fn file_name(seconds: u64, process: u32, number: u64) -> String {
    format!("events.out.tfevents.{seconds:010}.cai.{process}.{number}")
}

fn event(step: usize) -> Event {
    Event { wall_time: now(), step: step as i64, ..Event::default() }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A TFRecord: length, its checksum, the data, its checksum; all little-endian.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(data);
    frame.extend(masked_crc(data).to_le_bytes());
    frame
}

/// CRC-32C, rotated and offset as the TFRecord format demands.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(path: &Path) -> Vec<Event> {
        let bytes = fs::read(path).unwrap();
        let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
            assert_eq!(rest[12 + length..16 + length], masked_crc(data).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn the_checksum_is_masked_crc32c() {
        // CRC-32C of "123456789" is e3069283 (RFC 3720); rotated by 15 and offset, this.
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn a_frame_is_the_one_of_the_format() {
        // An Event by hand: field 1 (double 1.0), field 2 (7), field 5 { 1 { 1: "a", 2: 0.5 } }.
        let value = Value { tag: "a".into(), simple_value: Some(0.5) };
        let summary = Some(Summary { value: vec![value] });
        let event = Event { wall_time: 1.0, step: 7, summary, ..Default::default() };
        let mut bytes = vec![0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 7, 0x2a, 10, 0x0a, 8];
        bytes.extend([0x0a, 1, b'a', 0x15, 0, 0, 0, 0x3f]);
        assert_eq!(event.encode_to_vec(), bytes);
        let frame = frame(&bytes);
        assert_eq!(frame[..8], [23, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(frame.len(), 23 + 16);
    }

    #[test]
    fn a_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut tracker = TensorBoard::create(folder.path(), 3).unwrap();
        let metrics = BTreeMap::from([("loss".to_owned(), 0.0), ("eval_loss".to_owned(), 2.5)]);
        tracker.log(&LogEntry { step: 4, epoch: 1.0, metrics }).unwrap();
        let events = read(&tracker.path);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].session_log.clone().unwrap().status), (3, START));
        let values = &events[2].summary.as_ref().unwrap().value;
        let values: Vec<_> = values.iter().map(|v| (v.tag.as_str(), v.simple_value)).collect();
        assert_eq!(values, [("eval/loss", Some(2.5)), ("train/loss", Some(0.0))]);
        let second = TensorBoard::create(folder.path(), 0).unwrap();
        assert_ne!(second.path, tracker.path);
    }
}
