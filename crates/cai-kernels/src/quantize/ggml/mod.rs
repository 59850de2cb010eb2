//! The types in which GGUF files store weights (ggml's), and their values.
//!
//! A row is whole blocks, each with scales of its own: of 32 weights (`block.rs`), or of 256 in
//! sub-blocks whose scales are quantised too (`superblock.rs`, the "K" types). All numbers are little
//! endian. What comes out equals the `gguf` Python package's `quants.dequantize` to the bit.

mod block;
mod superblock;

/// How a tensor of a GGUF file is stored.
#[allow(non_camel_case_types, reason = "as ggml writes them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// The upper halves of 32-bit floats.
    BF16,
    /// 4 bits and a scale per 32 weights.
    Q4_0,
    /// 4 bits, a scale and an offset per 32 weights.
    Q4_1,
    /// 5 bits and a scale per 32 weights.
    Q5_0,
    /// 5 bits, a scale and an offset per 32 weights.
    Q5_1,
    /// 8 bits and a scale per 32 weights.
    Q8_0,
    /// 4 bits per weight; a 6-bit scale and offset per 32, two floats per 256.
    Q4_K,
    /// 5 bits per weight; a 6-bit scale and offset per 32, two floats per 256.
    Q5_K,
    /// 6 bits per weight; an 8-bit scale per 16, a float per 256.
    Q6_K,
}

impl GgmlType {
    /// All types that are supported.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// The type that has this number in GGUF files, if it is supported.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// The type's number in GGUF files.
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::BF16 => 30,
        }
    }

    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Weights in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => block::LEN,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => superblock::LEN,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => block::Q4_0,
            Self::Q4_1 => block::Q4_1,
            Self::Q5_0 => block::Q5_0,
            Self::Q5_1 => block::Q5_1,
            Self::Q8_0 => block::Q8_0,
            Self::Q4_K => superblock::Q4_K,
            Self::Q5_K => superblock::Q5_K,
            Self::Q6_K => superblock::Q6_K,
        }
    }

    /// Bytes of `len` weights, unless these are no whole blocks or more bytes than can be counted.
    pub fn bytes(self, len: usize) -> Option<usize> {
        let whole = len.is_multiple_of(self.block_len());
        (len / self.block_len()).checked_mul(self.block_bytes()).filter(|_| whole)
    }

    /// Writes the values of the blocks `bytes` to `out`.
    ///
    /// # Panics
    ///
    /// Where `bytes` are not the [`bytes`](Self::bytes) of `out.len()` weights.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.bytes(out.len()), Some(bytes.len()), "{} weights of {self}", out.len());
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { dequantize_avx2(self, bytes, out) };
        }
        dequantize(self, bytes, out);
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// [`dequantize`], compiled for vectors of 256 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dequantize_avx2(kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
    dequantize(kind, bytes, out);
}

/// Writes the values of whole blocks, with the vectors of the function that it becomes part of.
#[inline(always)]
pub(super) fn dequantize(kind: GgmlType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        GgmlType::F32 => decode(bytes, out, |bytes, [out]| *out = f32::from_le_bytes(*bytes)),
        GgmlType::F16 => decode(bytes, out, |bytes, [out]| *out = half(*bytes)),
        GgmlType::BF16 => decode(bytes, out, |[low, high], [out]| {
            *out = f32::from_le_bytes([0, 0, *low, *high]);
        }),
        GgmlType::Q4_0 => decode(bytes, out, block::q4_0),
        GgmlType::Q4_1 => decode(bytes, out, block::q4_1),
        GgmlType::Q5_0 => decode(bytes, out, block::q5_0),
        GgmlType::Q5_1 => decode(bytes, out, block::q5_1),
        GgmlType::Q8_0 => decode(bytes, out, block::q8_0),
        GgmlType::Q4_K => decode(bytes, out, superblock::q4_k),
        GgmlType::Q5_K => decode(bytes, out, superblock::q5_k),
        GgmlType::Q6_K => decode(bytes, out, superblock::q6_k),
    }
}

/// Block by block.
#[inline(always)]
fn decode<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

/// The value of a half float, without a branch so that loops over many become vectors.
///
/// The exponent's bias is 15 there and 127 here. So the bits, shifted into an f32's fields, are the
/// value times 2⁻¹¹², subnormal ones included; infinities and NaNs need their exponent filled up.
#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    const TWO_TO_THE_112: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITE: u32 = 0x7f80_0000;
    let bits = u16::from_le_bytes(bytes) as u32;
    let magnitude = (bits & 0x7fff) << 13;
    let exponent = if bits & 0x7c00 == 0x7c00 { INFINITE } else { 0 };
    let sign = (bits & 0x8000) << 16;
    f32::from_bits((f32::from_bits(magnitude) * TWO_TO_THE_112).to_bits() | exponent | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_fit_together() {
        for kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(kind.id()), Some(kind));
            assert_eq!(kind.bytes(3 * kind.block_len()), Some(3 * kind.block_bytes()));
            assert_eq!(kind.bytes(0), Some(0));
        }
        assert_eq!(GgmlType::from_id(10), None);
        assert_eq!(GgmlType::Q4_K.bytes(32), None);
        assert_eq!(GgmlType::F32.bytes(usize::MAX), None);
    }

    #[test]
    fn every_half_float_has_its_value() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half(bits.to_le_bytes()), half::f16::from_bits(bits).to_f32());
            let same = ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
            assert!(same, "{bits:#x}: {ours} for {theirs}");
        }
    }

    #[test]
    #[should_panic = "33 weights of Q8_0"]
    fn parts_of_blocks_are_refused() {
        GgmlType::Q8_0.dequantize(&[0; 34], &mut [0.0; 33]);
    }
}
