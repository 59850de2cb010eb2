//! The tensors of a GGUF file under the names of a Hugging Face checkpoint, and as they are there:
//! norms without the 1 that Gemma's are stored with, Llama's query and key rows in the order of
//! rotated halves.

use std::{collections::BTreeSet, sync::Arc};

use burn::tensor::{DType, Tensor, TensorData};
use cai_data::hash;
use half::bf16;
use rayon::prelude::*;

use super::{Gguf, TensorInfo};
use crate::{
    Error, Result,
    decoder::{AttentionSpec, Decoder, DecoderSpec, TensorSource, Weight},
    quantize::{QuantMatrix, SharedBytes},
    source::{Held, Quantize},
};

/// Values that one thread converts at a time, about.
const CHUNK: usize = 1 << 16;
/// Tensors that are about the model and not of it.
const BESIDE: [&str; 1] = ["rope_freqs.weight"];

/// Loads the weights of a file, held as `held` says: every tensor of the model is filled exactly
/// once.
///
/// # Errors
///
/// [`Error::Weights`] for a tensor that is missing, of another shape, of a type that is not
/// supported, not finite, or without a place in the model.
pub fn load(file: &Gguf, spec: &DecoderSpec, held: &Held) -> Result<Decoder> {
    let permuted = file.architecture()? == "llama";
    let mut source = Tensors { file, spec, held, permuted, used: BTreeSet::new() };
    let decoder = Decoder::load(spec, &mut source)?;
    let used = source.used;
    let left =
        file.names().into_iter().find(|name| !used.contains(*name) && !BESIDE.contains(name));
    match left {
        Some(name) => Err(Error::Weights {
            path: file.path().into(),
            reason: format!("tensor '{name}' has no place in a model of its architecture"),
        }),
        None => Ok(decoder),
    }
}

impl Gguf {
    /// A hash (sha256) of all tensors: names, types, shapes and bytes, whatever the files are that
    /// hold them.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] for a tensor of a type that is not supported.
    pub fn fingerprint(&self) -> Result<String> {
        let mut names = self.names();
        names.sort_unstable();
        let line = |name: &&str| {
            let info = self.tensor(name)?;
            let line = info.as_ref().map(|TensorInfo { kind, shape, bytes, .. }| {
                format!("{name} {kind} {shape:?} {}\n", hash::bytes(bytes))
            });
            info.into_iter().for_each(TensorInfo::release);
            Ok(line)
        };
        let lines: Vec<Option<String>> = names.par_iter().map(line).collect::<Result<_>>()?;
        let lines: String = lines.into_iter().flatten().collect();
        Ok(hash::bytes(lines.as_bytes()))
    }
}

struct Tensors<'a> {
    file: &'a Gguf,
    spec: &'a DecoderSpec,
    held: &'a Held,
    /// Whether rows of query and key are in the order of rotated pairs.
    permuted: bool,
    used: BTreeSet<String>,
}

impl<'a> Tensors<'a> {
    /// The tensor that a checkpoint calls `name`, of exactly `shape`.
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<TensorInfo<'a>> {
        let fail = |reason| Error::Weights { path: self.file.path().into(), reason };
        let Some(own) = gguf_name(name, self.spec) else {
            return Err(fail(format!("GGUF has no name for the tensor '{name}'")));
        };
        let Some(found) = self.file.tensor(&own)? else {
            return Err(fail(format!("tensor '{own}' is missing")));
        };
        if found.shape != shape {
            return Err(fail(format!(
                "tensor '{own}' is {:?} where the metadata asks for {shape:?}",
                found.shape
            )));
        }
        self.used.insert(own);
        Ok(found)
    }

    /// The row of the file that is row `i` of the checkpoint's tensor `name`.
    fn row(&self, name: &str, i: usize) -> usize {
        let of = |attention: &AttentionSpec| {
            let pairs = attention.head_dim / 2;
            let (head, within) = (i / attention.head_dim, i % attention.head_dim);
            head * attention.head_dim + 2 * (within % pairs) + within / pairs
        };
        let rotated = self.permuted && (name.contains(".q_proj.") || name.contains(".k_proj."));
        match self.spec.attentions().next().filter(|_| rotated) {
            Some(attention) => of(attention),
            None => i,
        }
    }

    /// Writes row `i` of the tensor `name`.
    fn write_row(&self, name: &str, info: &TensorInfo, i: usize, out: &mut [f32]) {
        let bytes = info.bytes.len() / info.shape[..info.shape.len() - 1].iter().product::<usize>();
        let start = self.row(name, i) * bytes;
        info.kind.dequantize(&info.bytes[start..start + bytes], out);
    }

    /// The matrix `name` in its blocks: where they lie in the file, or a copy whose rows are in the
    /// checkpoint's order.
    fn stored(&self, name: &str, info: &TensorInfo, size: [usize; 2]) -> Result<QuantMatrix> {
        let [rows, width] = size;
        let finite = (0..rows).into_par_iter().with_min_len(64).map_init(
            || vec![0f32; width],
            |values, i| {
                self.write_row(name, info, i, values);
                values.iter().all(|value| value.is_finite())
            },
        );
        if !finite.reduce(|| true, |a, b| a && b) {
            return Err(self.not_finite(name));
        }
        let (bytes, range) = match (0..rows).all(|i| self.row(name, i) == i) {
            true => info.shared(),
            false => {
                let row = info.bytes.len() / rows.max(1);
                let of = |i| &info.bytes[self.row(name, i) * row..][..row];
                let ordered: Vec<u8> = (0..rows).flat_map(of).copied().collect();
                let whole = 0..ordered.len();
                (Arc::new(ordered) as SharedBytes, whole)
            }
        };
        QuantMatrix::stored(info.kind, size, bytes, range).map_err(|reason| {
            let reason = format!("tensor '{name}': {reason}");
            Error::Weights { path: self.file.path().into(), reason }
        })
    }

    fn not_finite(&self, name: &str) -> Error {
        let reason = format!("tensor '{name}': a value is not finite; the file is damaged");
        Error::Weights { path: self.file.path().into(), reason }
    }
}

impl TensorSource for Tensors<'_> {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let info = self.find(name, &shape)?;
        let width = if D == 1 { 1 } else { shape[D - 1] };
        let total: usize = shape.iter().product();
        let mut values = vec![0f32; total];
        if D == 1 {
            let mut stored = vec![0f32; total];
            info.kind.dequantize(info.bytes, &mut stored);
            let offset =
                if name.ends_with("norm.weight") { self.spec.norm.offset as f32 } else { 0.0 };
            for (i, value) in values.iter_mut().enumerate() {
                *value = stored[self.row(name, i)] - offset;
            }
        } else {
            let rows = (CHUNK / width).max(1);
            values.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, out)| {
                for (i, out) in out.chunks_mut(width).enumerate() {
                    self.write_row(name, &info, chunk * rows + i, out);
                }
            });
        }
        info.release();
        if values.par_iter().any(|value| !value.is_finite()) {
            return Err(self.not_finite(name));
        }
        let data = match self.held.dtype {
            DType::BF16 => {
                let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
                TensorData::new(values, shape)
            }
            _ => TensorData::new(values, shape),
        };
        Ok(Tensor::from_data(data, (&self.held.device, self.held.dtype)))
    }

    fn weight(&mut self, name: &str, size: [usize; 2]) -> Result<Weight> {
        let Some(quantize) = self.held.quantize else {
            return Ok(Weight::dense(name, self.tensor(name, size)?));
        };
        let info = self.find(name, &size)?;
        let matrix = match (quantize, self.held.bits_of(name)) {
            (Quantize::To(bits), chosen) => {
                QuantMatrix::quantize(chosen.unwrap_or(bits), size, |i, out| {
                    self.write_row(name, &info, i, out);
                    match out.iter().all(|value| value.is_finite()) {
                        true => Ok(()),
                        false => Err(self.not_finite(name)),
                    }
                })?
            }
            (Quantize::Stored, _) => self.stored(name, &info, size)?,
        };
        if quantize != Quantize::Stored {
            info.release();
        }
        Ok(Weight::Quantized(matrix, self.held.device.clone()))
    }
}

/// The name in a GGUF file of what a checkpoint calls `name`.
fn gguf_name(name: &str, spec: &DecoderSpec) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, end) = part.rsplit_once('.')?;
    let sandwich = spec.layers.first()?.output_norms;
    let own = match part {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if sandwich => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{own}.{end}"))
}
