//! A frozen base as blocks of a few bits per weight: this crate's own 8 and 4 bits, or as a GGUF file
//! stores it. For inference, and for training an adapter on it (QLoRA, Dettmers et al.,
//! arXiv 2305.14314).
//!
//! Only the blocks stay in memory; dense rows exist a tile at a time, inside a product, forward and
//! backward. The products are written for the CPU; on other devices the whole matrix is made dense
//! for each product, which is right but slow.
//!
//! A format is a size of block and a function that decodes blocks: `block.rs` and `ggml/` have them,
//! `format.rs` names them all.

mod block;
mod format;
mod ggml;
mod matrix;
mod ops;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use format::Format;
pub use ggml::GgmlType;
pub use matrix::{QuantMatrix, SharedBytes};
pub use ops::{dense, matmul, matmul_transposed};

/// Width of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// 255 even steps from −1 to 1 times the block's largest absolute weight.
    Eight,
    /// The 16 levels of NF4 (QLoRA, appendix E) times the block's largest absolute weight.
    Four,
}

impl Bits {
    /// 8 or 4.
    pub fn number(self) -> u8 {
        match self {
            Bits::Eight => 8,
            Bits::Four => 4,
        }
    }
}

impl std::str::FromStr for Bits {
    type Err = String;

    /// `8` or `4`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "8" => Ok(Bits::Eight),
            "4" => Ok(Bits::Four),
            _ => Err(format!("'{text}' bits are not supported; use 8 or 4")),
        }
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer)?.to_string().parse().map_err(D::Error::custom)
    }
}
