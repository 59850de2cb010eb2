//! Matrices that stay as a GGUF file stores them, beside the same matrices made dense.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use cai_data::seed::{Seed, gaussian};
use cai_kernels::quantize::{GgmlType, QuantMatrix, SharedBytes, matmul, matmul_transposed};

/// Half floats for the scales of blocks: ordinary, the smallest, none, the largest.
const SCALES: [u16; 8] = [0x2c00, 0xa866, 0x0001, 0x8400, 0x0000, 0x7bff, 0xfbff, 0x3c00];

/// Scales that keep products within f32's reach, the first of them.
const ORDINARY: usize = 5;

/// Blocks of random codes with some of the `scales`, at an odd place in a larger memory.
fn matrix(kind: GgmlType, size: [usize; 2], scales: &[u16]) -> (QuantMatrix, Vec<f32>) {
    let [rows, width] = size;
    let len = kind.bytes(width).unwrap() * rows;
    let noise = gaussian(len + 1, 1.0, Seed(7).derive(kind.name()));
    let mut bytes: Vec<u8> = noise.iter().map(|x| x.to_bits() as u8).collect();
    let floats: &[usize] = match kind {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => &[],
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
        GgmlType::Q6_K => &[208],
    };
    for (i, block) in bytes[1..].chunks_exact_mut(kind.block_bytes()).enumerate() {
        for (j, &at) in floats.iter().enumerate() {
            block[at..at + 2].copy_from_slice(&scales[(i + j) % scales.len()].to_le_bytes());
        }
        let value = noise[i];
        match kind {
            GgmlType::F32 => block.copy_from_slice(&value.to_le_bytes()),
            GgmlType::F16 => block.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            GgmlType::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => {}
        }
    }
    let mut dense = vec![0.0; rows * width];
    kind.dequantize(&bytes[1..], &mut dense);
    assert!(dense.iter().all(|x| x.is_finite()), "{kind}");
    (QuantMatrix::stored(kind, size, Arc::new(bytes), 1..len + 1).unwrap(), dense)
}

/// Widths of one block, of several pieces, and of a part of a piece behind whole ones.
fn sizes(kind: GgmlType) -> [[usize; 2]; 3] {
    let block = kind.block_len();
    [[5, block], [300, 768], [7, 1024 + block]]
}

#[test]
fn rows_are_those_of_the_dense_matrix() {
    for kind in GgmlType::ALL {
        for size in sizes(kind) {
            let (stored, dense) = matrix(kind, size, &SCALES);
            assert_eq!(stored.rows(0, size[0]), dense, "{kind}");
            let mut row = vec![0.0; size[1]];
            for i in [0, size[0] / 2, size[0] - 1] {
                stored.row(i, &mut row);
                assert_eq!(row, dense[i * size[1]..][..size[1]], "{kind} {i}");
            }
            assert_eq!(Some(stored.num_bytes()), kind.bytes(size[0] * size[1]));
            assert_eq!(stored.clone().size(), size);
            assert_eq!(format!("{stored:?}"), format!("QuantMatrix({kind}, {size:?})"));
        }
    }
}

#[test]
fn products_and_gradients_are_those_of_the_dense_matrix() {
    for kind in GgmlType::ALL {
        for size in sizes(kind) {
            // Decoding and training, each with several tiles in the larger matrix.
            for rows in [1, 3, 9, 130] {
                products(kind, size, rows);
            }
        }
    }
    products(GgmlType::Q8_0, [9000, 1024], 130);
}

fn products(kind: GgmlType, size: [usize; 2], rows: usize) {
    let device = Device::flex();
    let (stored, dense) = matrix(kind, size, &SCALES[..ORDINARY]);
    let dense = Tensor::<2>::from_data(TensorData::new(dense, size), &device);
    let (x, y) = (random("x", [rows, size[1]]), random("y", [rows, size[0]]));
    let tracked = x.clone().autodiff().require_grad();
    let product = matmul_transposed(tracked.clone(), &stored);
    let what = format!("{kind} {size:?}, {rows} rows");
    close(&product.clone().inner(), &x.matmul(dense.clone().transpose()), &what);
    let grads = (product * y.clone().autodiff()).sum().backward();
    let expected = y.clone().matmul(dense);
    close(&tracked.grad(&grads).unwrap(), &expected, &what);
    close(&matmul(y, &stored), &expected, &what);
}

/// A sequence gets the same logits in any batch.
#[test]
fn a_row_is_the_same_among_others() {
    let (stored, _) = matrix(GgmlType::Q4_K, [301, 2304], &SCALES[..ORDINARY]);
    let x = random("x", [9, 2304]);
    let all = matmul_transposed(x.clone(), &stored);
    let one = matmul_transposed(x.narrow(0, 4, 1), &stored);
    assert_eq!(all.narrow(0, 4, 1).into_data(), one.into_data());
}

fn random(name: &str, shape: [usize; 2]) -> Tensor<2> {
    let values = gaussian(shape[0] * shape[1], 1.0, Seed(3).derive(name));
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

#[test]
fn large_scales_multiply_without_overflow_on_the_way() {
    for kind in GgmlType::ALL {
        let (stored, dense) = matrix(kind, [3, 512], &SCALES);
        let device = Device::flex();
        let x = Tensor::<2>::ones([2, 512], &device) * 0.5;
        let out: Vec<f32> = matmul_transposed(x, &stored).into_data().iter().collect();
        for (i, row) in dense.chunks(512).enumerate() {
            let exact: f64 = row.iter().map(|&w| 0.5 * w as f64).sum();
            let size: f64 = row.iter().map(|&w| w.abs() as f64).sum();
            for out in [out[i], out[3 + i]] {
                assert!((out as f64 - exact).abs() <= 1e-5 * size, "{kind}: {out}, not {exact}");
            }
        }
    }
}

#[test]
fn what_is_no_such_matrix_is_refused() {
    let memory: SharedBytes = Arc::new(vec![0u8; 1000]);
    let stored = |size, range| QuantMatrix::stored(GgmlType::Q8_0, size, memory.clone(), range);
    assert!(stored([2, 64], 3..139).is_ok());
    for (size, range, reason) in [
        ([2, 48], 0..102, "no whole blocks of 32"),
        ([2, 64], 0..135, "135 bytes are not a matrix [2, 64] stored as Q8_0"),
        ([usize::MAX, 64], 0..136, "136 bytes are not"),
        ([2, 64], 900..1036, "beyond the end, 1000"),
    ] {
        let error = stored(size, range).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

fn close(ours: &Tensor<2>, theirs: &Tensor<2>, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let scale = theirs.clone().abs().max().into_scalar::<f32>();
    let difference = (ours.clone() - theirs.clone()).abs().max().into_scalar::<f32>();
    assert!(difference <= 1e-5 * scale, "{what}: {difference} of {scale}");
}
