//! Tensors by name as safetensors, which outlives any library that computes with them.

use std::collections::{BTreeMap, HashMap};

use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Dtype, TensorView, serialize};
use burn::tensor::{DType, TensorData};

/// Named tensors of f32, or of i64 where they count something.
pub type Tensors = BTreeMap<String, TensorData>;

/// What the header says of the file itself. A second entry would make the bytes depend on the order of a hash map.
const FORMAT: (&str, &str) = ("format", "xp-tensors-1");

/// The bytes of a file; the same tensors give the same bytes.
pub fn to_bytes(tensors: &Tensors) -> Result<Vec<u8>, String> {
    let views = tensors.iter().map(|(name, data)| {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::I64 => Dtype::I64,
            other => return Err(format!("{name} holds {other:?} values")),
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).map_err(|e| e.to_string())?;
        Ok((name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    let format = HashMap::from([(FORMAT.0.to_owned(), FORMAT.1.to_owned())]);
    serialize(views, Some(format)).map_err(|error| error.to_string())
}

/// Reads what [`to_bytes`] wrote.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    match metadata.metadata().as_ref().and_then(|entries| entries.get(FORMAT.0)) {
        Some(format) if format == FORMAT.1 => {}
        Some(format) => return Err(format!("it is of the format {format}, and this xp reads {}", FORMAT.1)),
        None => return Err("it does not say what its format is".to_owned()),
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors = file.iter().map(|(name, view)| {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I64 => DType::I64,
            other => return Err(format!("{name} holds {other:?} values")),
        };
        Ok((name.to_owned(), TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype)))
    });
    tensors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_to_the_bit_and_the_same_ones_make_the_same_bytes() {
        let odd = [f32::NAN, -0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY];
        let tensors = Tensors::from([
            ("b.weight".to_owned(), TensorData::new(odd.to_vec(), [2, 2])),
            ("a.steps".to_owned(), TensorData::new(vec![1_i64 << 40], Vec::<usize>::new())),
            ("empty".to_owned(), TensorData::new(Vec::<f32>::new(), [0, 3])),
        ]);
        let bytes = to_bytes(&tensors).unwrap();
        let read = from_bytes(&bytes).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a.steps", "b.weight", "empty"]);
        for (name, data) in &tensors {
            assert_eq!((data.as_bytes(), data.shape()), (read[name].as_bytes(), read[name].shape()), "{name}");
        }
        assert_eq!(to_bytes(&read).unwrap(), bytes);
    }

    #[test]
    fn what_is_not_of_this_format_is_refused() {
        assert!(from_bytes(b"nothing").is_err());
        let values = 1.0_f32.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &values).unwrap();
        let foreign = serialize([("a", view)], None).unwrap();
        assert_eq!(from_bytes(&foreign).unwrap_err(), "it does not say what its format is");
    }
}
