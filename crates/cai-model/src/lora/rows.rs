//! Rows of embedding and head that are trained beside the projections, as PEFT's
//! `trainable_token_indices` and `modules_to_save` do.

use burn::tensor::{DType, IndexingUpdateOp, Tensor, TensorData};

use super::config::{LoraConfig, Rows, Table};
use crate::{
    Error, Result,
    decoder::{Decoder, TrainedRows, Weight},
};

/// The end of the name of some rows in PEFT's files; that of a whole module is `weight`.
const SOME: &str = "token_adapter.trainable_tokens_delta";

/// Where trained rows of embedding and head stand.
pub(super) fn slots(decoder: &mut Decoder) -> [&mut Option<TrainedRows>; 2] {
    [&mut decoder.model.embed_tokens.trained, &mut decoder.head_rows]
}

/// Puts the rows that `config` asks for on the model, trainable, with the base's values.
pub(super) fn add(decoder: &mut Decoder, config: &LoraConfig) -> Result<()> {
    for table in Table::ALL {
        let tied = decoder.lm_head.is_none();
        let Some(Rows { ids, head }) = config.rows(table, tied) else { continue };
        let base = base(decoder, table);
        let values = match &ids {
            None => base.to_tensor(),
            Some(ids) => {
                check(ids, base.size()[0])?;
                let index: Vec<i64> = ids.iter().map(|&id| id as i64).collect();
                base.select(Tensor::from_data(index.as_slice(), &base.device())).inner()
            }
        };
        let name = name(table, ids.is_none());
        let rows = TrainedRows::new(&name, values.cast(DType::F32), ids, head);
        put(decoder, table, rows.trainable());
    }
    Ok(())
}

/// Puts rows with the values that `read` gives for a name in PEFT's files and a shape on the model,
/// frozen.
pub(super) fn load(
    decoder: &mut Decoder,
    config: &LoraConfig,
    mut read: impl FnMut(&str, [usize; 2]) -> Result<Tensor<2>>,
) -> Result<()> {
    for table in Table::ALL {
        let tied = decoder.lm_head.is_none();
        let Some(Rows { ids, head }) = config.rows(table, tied) else { continue };
        let [vocabulary, width] = base(decoder, table).size();
        let count = match &ids {
            None => vocabulary,
            Some(ids) => {
                check(ids, vocabulary)?;
                ids.len()
            }
        };
        let name = name(table, ids.is_none());
        let mut values = read(&name, [count, width])?;
        if ids.is_none() && head {
            // One tensor under two names; where they differ PEFT takes the head's.
            values = read(&self::name(Table::Head, true), [count, width])?;
        }
        put(decoder, table, TrainedRows::new(&name, values, ids, head));
    }
    Ok(())
}

/// The rows' values with their names in PEFT's files, without the prefix.
pub(super) fn tensors(decoder: &mut Decoder) -> Vec<(String, TensorData)> {
    let named = Table::ALL.into_iter().zip(slots(decoder));
    let values = named.filter_map(|(table, rows)| {
        let rows = rows.as_ref()?;
        let values = rows.values.val().inner().cast(DType::F32).into_data();
        Some((table, rows.ids.is_none(), rows.head, values))
    });
    let mut all = Vec::new();
    for (table, whole, head, values) in values {
        // PEFT saves one tensor for both under both names.
        if whole && head {
            all.push((name(Table::Head, true), values.clone()));
        }
        all.push((name(table, whole), values));
    }
    all
}

fn name(table: Table, whole: bool) -> String {
    format!("{}.{}", table.path(), if whole { "weight" } else { SOME })
}

/// Puts the rows in their places. `add` hears the number of entries and the largest and the sum of
/// their absolute changes.
pub(super) fn merge(decoder: &mut Decoder, add: &mut impl FnMut(usize, f64, f64)) {
    let change = |before: Tensor<2>, after: Tensor<2>, add: &mut dyn FnMut(usize, f64, f64)| {
        let change = (after - before.cast(DType::F32)).abs();
        let largest = change.clone().max().into_scalar::<f32>() as f64;
        add(change.shape().num_elements(), largest, change.sum().into_scalar::<f32>() as f64);
    };
    let merged = |base: &Weight, rows: &TrainedRows, add: &mut dyn FnMut(usize, f64, f64)| {
        let (table, values) = (base.to_tensor(), rows.values.val().inner());
        let dtype = table.dtype();
        match rows.index(&base.device()) {
            None => {
                change(table, values.clone(), add);
                values.cast(dtype)
            }
            Some(index) => {
                change(table.clone().select(0, index.clone()), values.clone(), add);
                table.select_assign(0, index, values.cast(dtype), IndexingUpdateOp::Assign)
            }
        }
    };
    let head = decoder.head_rows.take().map(|rows| merged(decoder.head().weight, &rows, add));
    // Rows that a tied head does not read leave it as it was: the two part.
    let parts = decoder.lm_head.is_none()
        && decoder.model.embed_tokens.trained.as_ref().is_some_and(|rows| !rows.head);
    let old = decoder.head().weight.clone();
    if let Some(rows) = decoder.model.embed_tokens.trained.take() {
        let table = merged(&decoder.model.embed_tokens.weight, &rows, add);
        decoder.model.embed_tokens.weight = Weight::dense("model.embed_tokens.weight", table);
    }
    match head {
        Some(head) => decoder.set_head(Weight::dense("lm_head.weight", head)),
        None if parts => decoder.set_head(old),
        None => {}
    }
}

/// The base's table; a tied head's is the embedding.
fn base(decoder: &Decoder, table: Table) -> &Weight {
    match table {
        Table::Embedding => &decoder.model.embed_tokens.weight,
        Table::Head => decoder.head().weight,
    }
}

fn put(decoder: &mut Decoder, table: Table, rows: TrainedRows) {
    match table {
        Table::Embedding => decoder.model.embed_tokens.trained = Some(rows),
        Table::Head => decoder.head_rows = Some(rows),
    }
}

fn check(ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= vocabulary) {
        Some(id) => Err(Error::Input(format!(
            "lora.trainable_token_indices: token {id} has no row, the model has {vocabulary}"
        ))),
        None => Ok(()),
    }
}
