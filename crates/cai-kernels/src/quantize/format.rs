use super::{Bits, GgmlType, block, ggml};

/// How the rows of a matrix are stored: as blocks of bytes, one after the other, each with its scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// This crate's own, of any width: a short last block is filled up with zeros.
    Own(Bits),
    /// As in a GGUF file: rows of whole blocks.
    Ggml(GgmlType),
}

impl Format {
    /// Weights of a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::Own(_) => block::LEN,
            Self::Ggml(kind) => kind.block_len(),
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Own(bits) => block::bytes(bits),
            Self::Ggml(kind) => kind.block_bytes(),
        }
    }

    /// Bytes of the blocks that hold `len` weights of a row.
    pub fn bytes(self, len: usize) -> usize {
        len.div_ceil(self.block_len()) * self.block_bytes()
    }

    /// Writes the values of blocks to `out`, which may end inside the last one if the format is the
    /// crate's own.
    #[inline(always)]
    pub(super) fn decode(self, blocks: &[u8], out: &mut [f32]) {
        match self {
            Self::Own(bits) => block::decode(bits, blocks, out),
            Self::Ggml(kind) => ggml::dequantize(kind, blocks, out),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Own(bits) => write!(f, "{} bits", bits.number()),
            Self::Ggml(kind) => kind.fmt(f),
        }
    }
}
