//! The header of a GGUF file: metadata, and what is known of each tensor.
//!
//! Everything is checked against the file's length before it is believed; nothing is allocated by a
//! count that the file merely claims.

use std::collections::HashSet;

use crate::quantize::GgmlType;

use super::value::{Array, Value};

/// Where tensors begin, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;
/// Arrays of arrays, at most.
const DEPTH: usize = 4;
/// ggml's limit.
const DIMENSIONS: u32 = 4;

/// What a file says of itself.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Entry>,
}

/// A tensor: where its bytes lie in the file, if its type is known.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Of a type that is not supported: its number.
    pub kind: Result<GgmlType, u32>,
    /// First byte in the file, and the number of bytes (0 where the type is not known).
    pub start: usize,
    pub len: usize,
}

type Result<T, E = String> = std::result::Result<T, E>;

/// Reads the header of the file `bytes`.
///
/// # Errors
///
/// What is wrong, in words.
pub(super) fn read(bytes: &[u8]) -> Result<Header> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4).ok() != Some(b"GGUF") {
        return Err("not a GGUF file: it does not begin with 'GGUF'".into());
    }
    match reader.u32()? {
        2 | 3 => {}
        1 => return Err("GGUF of version 1 is not supported; convert the model again".into()),
        version if version.swap_bytes() <= 3 => {
            return Err("a big-endian GGUF is not supported; take the little-endian one".into());
        }
        version => return Err(format!("GGUF of version {version} is not supported; use 3")),
    }
    let (tensors, keys) = (reader.u64()?, reader.u64()?);
    let metadata = reader.metadata(keys)?;
    let alignment = alignment(&metadata)?;
    let infos = reader.infos(tensors)?;
    // There may be no tensors, and then nothing after the header.
    let start = (reader.at as u64).next_multiple_of(alignment).min(bytes.len() as u64) as usize;
    let tensors = infos.into_iter().map(|info| {
        let name = info.name.clone();
        info.locate(alignment, start, bytes.len())
            .map_err(|reason| format!("tensor '{name}': {reason}"))
    });
    Ok(Header { metadata, tensors: tensors.collect::<Result<_>>()? })
}

fn alignment(metadata: &[(String, Value)]) -> Result<u64> {
    match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => Ok(ALIGNMENT),
        Some((_, Value::Unsigned(n))) if n.is_power_of_two() && *n <= 1 << 20 => Ok(*n),
        Some((key, value)) => Err(format!("{key} is {value:?}; it must be a power of two")),
    }
}

/// A tensor as the file describes it.
struct Info {
    name: String,
    /// Innermost first: the length of a row, the number of rows, ….
    dimensions: Vec<u64>,
    kind: u32,
    /// From the first tensor's.
    offset: u64,
}

impl Info {
    fn locate(self, alignment: u64, data: usize, end: usize) -> Result<Entry> {
        let count = self.dimensions.iter().try_fold(1u64, |count, n| count.checked_mul(*n));
        let Some(count @ 1..) = count.filter(|count| *count <= isize::MAX as u64) else {
            return Err(format!("dimensions {:?} are not those of a tensor", self.dimensions));
        };
        if !self.offset.is_multiple_of(alignment) {
            return Err(format!("its offset {} is no multiple of {alignment}", self.offset));
        }
        let kind = GgmlType::from_id(self.kind).ok_or(self.kind);
        let len = match kind {
            Err(_) => 0,
            // Rows are whole blocks.
            Ok(kind) => kind
                .bytes(self.dimensions[0] as usize)
                .and_then(|_| kind.bytes(count as usize))
                .ok_or_else(|| format!("rows of {} {kind} weights", self.dimensions[0]))?,
        };
        let available = (end - data) as u64;
        if self.offset.checked_add(len as u64).is_none_or(|last| last > available) {
            return Err(format!(
                "its {len} bytes from {} are beyond the file's end; the file is cut off or \
                 damaged: copy or download it again",
                self.offset
            ));
        }
        let shape = self.dimensions.iter().rev().map(|n| *n as usize).collect();
        Ok(Entry { name: self.name, shape, kind, start: data + self.offset as usize, len })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            format!(
                "the header asks for {len} bytes from {} where {} are left; the file is cut off or \
                 damaged: copy or download it again",
                self.at,
                rest.len()
            )
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<String> {
        let len = self.u64()?.try_into().unwrap_or(usize::MAX);
        let at = self.at;
        let bytes = self.take(len)?;
        let text = str::from_utf8(bytes).map_err(|_| format!("the text at {at} is not UTF-8"))?;
        Ok(text.into())
    }

    fn metadata(&mut self, count: u64) -> Result<Vec<(String, Value)>> {
        let mut seen = HashSet::new();
        let mut metadata = Vec::new();
        for _ in 0..count {
            let key = self.string()?;
            let kind = self.u32()?;
            let value = self.value(kind).map_err(|reason| format!("key '{key}': {reason}"))?;
            if !seen.insert(key.clone()) {
                return Err(format!("key '{key}' is there twice"));
            }
            metadata.push((key, value));
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            STRING => Value::String(self.string()?),
            ARRAY => Value::Array(self.values(1)?),
            // One value is an array of one.
            _ => match self.numbers(kind, 1)? {
                Array::Unsigned(n) => Value::Unsigned(n[0]),
                Array::Signed(n) => Value::Signed(n[0]),
                Array::Float(n) => Value::Float(n[0]),
                Array::Bool(b) => Value::Bool(b[0]),
                Array::String(_) | Array::Array(_) => return Err(unknown(kind)),
            },
        })
    }

    /// An array: the type of its values, their number, the values.
    fn values(&mut self, depth: usize) -> Result<Array> {
        if depth > DEPTH {
            return Err(format!("arrays within arrays, deeper than {DEPTH}"));
        }
        let kind = self.u32()?;
        let count = self.u64()?;
        match kind {
            STRING => Ok(Array::String((0..count).map(|_| self.string()).collect::<Result<_>>()?)),
            ARRAY => {
                Ok(Array::Array((0..count).map(|_| self.values(depth + 1)).collect::<Result<_>>()?))
            }
            _ => self.numbers(kind, count),
        }
    }

    /// As many numbers, or truth values, of the type `kind`.
    fn numbers(&mut self, kind: u32, count: u64) -> Result<Array> {
        let bytes = |reader: &mut Self, size: usize| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            reader.take(count.saturating_mul(size))
        };
        /// The values of type `$from`, each made one of type `$to`.
        macro_rules! read {
            ($array:ident, $from:ty, $to:ty) => {{
                let chunks = bytes(self, size_of::<$from>())?.as_chunks().0;
                Array::$array(chunks.iter().map(|b| <$from>::from_le_bytes(*b) as $to).collect())
            }};
        }
        Ok(match kind {
            0 => read!(Unsigned, u8, u64),
            1 => read!(Signed, i8, i64),
            2 => read!(Unsigned, u16, u64),
            3 => read!(Signed, i16, i64),
            4 => read!(Unsigned, u32, u64),
            5 => read!(Signed, i32, i64),
            6 => read!(Float, f32, f64),
            7 => Array::Bool(bytes(self, 1)?.iter().map(|b| *b != 0).collect()),
            10 => read!(Unsigned, u64, u64),
            11 => read!(Signed, i64, i64),
            12 => read!(Float, f64, f64),
            _ => return Err(unknown(kind)),
        })
    }

    fn infos(&mut self, count: u64) -> Result<Vec<Info>> {
        let mut seen = HashSet::new();
        let mut infos = Vec::new();
        for _ in 0..count {
            let name = self.string()?;
            let dimensions = self.u32()?;
            if !(1..=DIMENSIONS).contains(&dimensions) {
                return Err(format!("tensor '{name}' has {dimensions} dimensions, not 1 to 4"));
            }
            let dimensions = (0..dimensions).map(|_| self.u64()).collect::<Result<_>>()?;
            let (kind, offset) = (self.u32()?, self.u64()?);
            if !seen.insert(name.clone()) {
                return Err(format!("tensor '{name}' is there twice"));
            }
            infos.push(Info { name, dimensions, kind, offset });
        }
        Ok(infos)
    }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn unknown(kind: u32) -> String {
    format!("values of type {kind}, which GGUF does not have")
}
