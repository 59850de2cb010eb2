//! Named f32 tensors in a safetensors file.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::TensorData;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

/// The file's bytes: the same for the same tensors.
///
/// # Errors
///
/// What safetensors or Burn says.
pub(crate) fn to_bytes(tensors: &BTreeMap<String, TensorData>) -> Result<Vec<u8>, String> {
    fn view<'a>(
        (name, data): (&'a String, &'a TensorData),
    ) -> Result<(&'a String, TensorView<'a>), String> {
        let shape = data.shape().as_slice().to_vec();
        let view = TensorView::new(Dtype::F32, shape, data.as_bytes());
        Ok((name, view.map_err(|error| format!("{name}: {error}"))?))
    }
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

/// The tensors of a file.
///
/// # Errors
///
/// What is wrong with the bytes.
pub(crate) fn from_bytes(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = |(name, view): (String, TensorView<'_>)| match view.dtype() {
        Dtype::F32 => {
            let (words, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            Ok((name, TensorData::new(values, view.shape().to_vec())))
        }
        other => Err(format!("{name} is {other:?}, not F32")),
    };
    file.tensors().into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_and_bytes_repeat() {
        let tensors = BTreeMap::from([
            ("b.weight".to_owned(), TensorData::new(vec![1.0f32, -2.5, 0.1, 4.0], [2, 2])),
            ("a".to_owned(), TensorData::new(vec![f32::MIN_POSITIVE], [1])),
        ]);
        let bytes = to_bytes(&tensors).unwrap();
        assert_eq!(bytes, to_bytes(&tensors).unwrap());
        assert_eq!(from_bytes(&bytes).unwrap(), tensors);
        assert!(from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}
