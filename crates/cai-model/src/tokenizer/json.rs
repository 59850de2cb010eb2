//! JSON as Python's `json.dumps` writes it, which is what `tojson` means in chat templates.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The filter of `transformers`: `tojson(ensure_ascii=False, indent=None, separators=None,
/// sort_keys=False)`.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = options
        .get::<Option<Value>>("separators")?
        .map(|pair| Ok::<_, Error>((part(&pair, 0)?, part(&pair, 1)?)))
        .transpose()?;
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;

    let failed =
        |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut json = serde_json::to_value(value).map_err(failed)?;
    if sorted {
        json.sort_all_objects();
    }
    let comma = if indent.is_some() { "," } else { ", " };
    let (comma, colon) = separators.unwrap_or_else(|| (comma.into(), ": ".into()));
    let mut bytes = Vec::new();
    let python = Python { indent, comma, colon, ascii, depth: 0, filled: false };
    json.serialize(&mut Serializer::with_formatter(&mut bytes, python)).map_err(failed)?;
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

fn part(pair: &Value, index: usize) -> Result<String, Error> {
    let part = pair.get_item_by_index(index)?;
    let text = part.as_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "separators must be two strings"))
}

struct Python {
    /// Spaces for each level; without it all is one line.
    indent: Option<usize>,
    comma: String,
    colon: String,
    ascii: bool,
    depth: usize,
    /// Whether the list or object that ends next has anything in it.
    filled: bool,
}

impl Python {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.comma.as_bytes())?;
        }
        self.filled = true;
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{}", " ".repeat(indent * self.depth)),
            None => Ok(()),
        }
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            if self.ascii && !c.is_ascii() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                write!(writer, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value = json!({"b": [1, true, null, "<é'🦀>"], "a": {}, "c": []});
        let value = Value::from_serialize(&value);
        for (options, expected) in [
            ("", r#"{"b": [1, true, null, "<é'🦀>"], "a": {}, "c": []}"#),
            ("(ensure_ascii=false)", r#"{"b": [1, true, null, "<é'🦀>"], "a": {}, "c": []}"#),
            (
                "(ensure_ascii=true, sort_keys=true, separators=(',', ':'))",
                r#"{"a":{},"b":[1,true,null,"<\u00e9'\ud83e\udd80>"],"c":[]}"#,
            ),
            (
                "(indent=2)",
                "{\n  \"b\": [\n    1,\n    true,\n    null,\n    \"<é'🦀>\"\n  ],\n  \"a\": {},\n  \"c\": []\n}",
            ),
        ] {
            let source = format!("{{{{ value | tojson{options} }}}}");
            let text = environment.render_str(&source, context! { value }).unwrap();
            assert_eq!(text, expected, "{options}");
        }
        assert!(environment.render_str("{{ 1 | tojson(sepators=1) }}", ()).is_err());
    }
}
