//! The values of ggml's blocks, as the `gguf` Python package has them (fixtures/ggml.py).

use std::path::Path;

use cai_kernels::quantize::GgmlType;

#[test]
fn blocks_have_the_values_of_the_gguf_package() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ggml.bin");
    let file = std::fs::read(path).unwrap();
    let mut rest = file.as_slice();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let [id, len] = [take(&mut rest, 4), take(&mut rest, 4)].map(number);
        let kind = GgmlType::from_id(id).unwrap();
        let bytes = take(&mut rest, kind.bytes(len as usize).unwrap());
        let mut ours = vec![0.0; len as usize];
        kind.dequantize(bytes, &mut ours);
        let theirs = take(&mut rest, 4 * len as usize).chunks_exact(4).map(number);
        for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let theirs = f32::from_bits(theirs);
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{kind}[{i}]: {ours} for {theirs}");
        }
        seen.push(kind);
    }
    assert_eq!(seen.len(), GgmlType::ALL.len());
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (first, others) = rest.split_at(len);
    *rest = others;
    first
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}
