//! How the weights of a base are held in memory.

use std::str::FromStr;

use burn::tensor::{DType, Device};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::quantize::Bits;

/// Type and place of a base's weights.
#[derive(Clone, Debug)]
pub struct Held {
    /// Type of dense ones.
    pub dtype: DType,
    /// What matrices are held in where they are not dense.
    pub quantize: Option<Quantize>,
    /// Where they are.
    pub device: Device,
}

impl Held {
    /// Width of the codes of the matrix `name`, if it is to be quantised. Embedding and head stay at
    /// 8 bits where the layers have 4: they are the ends through which every token goes, and one
    /// matrix of many.
    pub(super) fn bits_of(&self, name: &str) -> Option<Bits> {
        let table = ["model.embed_tokens.weight", "lm_head.weight"].contains(&name);
        match self.quantize {
            Some(Quantize::To(bits)) => Some(if table { Bits::Eight } else { bits }),
            _ => None,
        }
    }
}

/// What a base's matrices are held in: `8`, `4`, or `stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantize {
    /// So many bits per weight, made when they are loaded.
    To(Bits),
    /// The blocks of a GGUF file as it stores them.
    Stored,
}

impl Quantize {
    /// As it is written in settings.
    pub fn name(self) -> String {
        match self {
            Self::To(bits) => bits.number().to_string(),
            Self::Stored => "stored".into(),
        }
    }
}

impl FromStr for Quantize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stored" => Ok(Self::Stored),
            _ => match text.parse() {
                Ok(bits) => Ok(Self::To(bits)),
                Err(_) => Err(format!("'{text}' is not supported; use 8, 4 or stored")),
            },
        }
    }
}

impl Serialize for Quantize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::To(bits) => bits.serialize(serializer),
            Self::Stored => serializer.serialize_str("stored"),
        }
    }
}

impl<'de> Deserialize<'de> for Quantize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "8, 4 or stored")]
        enum Either {
            Bits(u8),
            Word(String),
        }
        let text = match Either::deserialize(from)? {
            Either::Bits(bits) => bits.to_string(),
            Either::Word(word) => word,
        };
        text.parse().map_err(D::Error::custom)
    }
}
