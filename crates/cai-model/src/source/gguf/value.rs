//! Metadata values of a GGUF file, and what callers want them as.

/// A value of GGUF's metadata. Numbers of all widths are kept in the widest.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned whole number.
    Unsigned(u64),
    /// A signed whole number.
    Signed(i64),
    /// A float.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// An array of GGUF's metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Unsigned whole numbers.
    Unsigned(Vec<u64>),
    /// Signed whole numbers.
    Signed(Vec<i64>),
    /// Floats.
    Float(Vec<f64>),
    /// True or false.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Arrays, each of a type of its own.
    Array(Vec<Array>),
}

impl Value {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Unsigned(_) | Value::Signed(_) => "a whole number",
            Value::Float(_) => "a float",
            Value::Bool(_) => "true or false",
            Value::String(_) => "a text",
            Value::Array(_) => "an array",
        }
    }
}

/// What a [`Value`] can be read as.
pub trait FromValue<'a>: Sized {
    /// What it must be, in words.
    const KIND: &'static str;

    /// The value, if it is of that kind.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl FromValue<'_> for usize {
    const KIND: &'static str = "a whole number that is not negative";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Unsigned(number) => (*number).try_into().ok(),
            Value::Signed(number) => (*number).try_into().ok(),
            _ => None,
        }
    }
}

impl FromValue<'_> for f64 {
    const KIND: &'static str = "a float";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const KIND: &'static str = "true or false";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const KIND: &'static str = "a text";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [String] {
    const KIND: &'static str = "an array of texts";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [f64] {
    const KIND: &'static str = "an array of floats";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::Float(numbers)) => Some(numbers),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [bool] {
    const KIND: &'static str = "an array of true and false";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::Bool(values)) => Some(values),
            _ => None,
        }
    }
}

impl FromValue<'_> for Vec<usize> {
    const KIND: &'static str = "an array of whole numbers that are not negative";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Array(Array::Unsigned(numbers)) => {
                numbers.iter().map(|number| (*number).try_into().ok()).collect()
            }
            Value::Array(Array::Signed(numbers)) => {
                numbers.iter().map(|number| (*number).try_into().ok()).collect()
            }
            _ => None,
        }
    }
}
