//! Keras' files: HDF5 of several ages, and archives of one.
//!
//! What a file calls its layers is kept as it stands; which layer of a network each is decides
//! [`crate::weights::matching`]. Axes stay as they are stored.

mod legacy;
mod model_file;
mod third;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5_pure::{AttrValue, Dataset, Datatype, DatatypeByteOrder, Group};

use crate::weights::format::{Dtype, FormatError, Kind, StoredLayer, StoredTensor, TensorFile, decoded};

pub(super) use model_file::{ModelFile, snake_case};

/// How much larger than its file a tensor may be: compressed zeros.
const MAX_RATIO: u64 = 1000;

#[derive(Debug)]
pub(super) struct Hdf5 {
    kind: Kind,
    files: Vec<hdf5_pure::File>,
    layers: Vec<StoredLayer>,
    tensors: Vec<StoredTensor>,
    /// Which file each of them is in, and where.
    paths: Vec<(usize, String)>,
    metadata: BTreeMap<String, String>,
}

/// A layer before its tensors were looked at.
struct Listed {
    layer: StoredLayer,
    /// What each variable is called, and where it is.
    variables: Vec<(String, String)>,
}

impl Hdf5 {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::open_parts(&[path.to_owned()])
    }

    /// Opens the files that one model's weights are spread over.
    pub fn open_parts(paths: &[PathBuf]) -> Result<Self, FormatError> {
        let mut opened = Self {
            kind: Kind::KerasV3Weights,
            files: Vec::new(),
            layers: Vec::new(),
            tensors: Vec::new(),
            paths: Vec::new(),
            metadata: BTreeMap::new(),
        };
        for path in paths {
            opened.add(path).map_err(|error| match (error, paths.len()) {
                (FormatError::Io(error), 2..) => {
                    FormatError::Unsupported(format!("{} cannot be read: {error}", path.display()))
                }
                (error, _) => error,
            })?;
        }
        if opened.tensors.is_empty() {
            return Err(FormatError::Unsupported("it is an HDF5 file without weights of Keras' layers".to_owned()));
        }
        if paths.len() > 1 {
            if opened.kind.lists_layers() {
                return Err(FormatError::Unsupported("its parts are files that hold a model each".to_owned()));
            }
            let place = |layer: &StoredLayer| -> Vec<_> {
                let path = layer.models.iter().map(|model| &model.group).chain([&layer.group]);
                path.map(|group| third::natural(group)).collect()
            };
            opened.layers.sort_by_cached_key(place);
        }
        Ok(opened)
    }

    fn add(&mut self, path: &Path) -> Result<(), FormatError> {
        let file_bytes = std::fs::metadata(path)?.len();
        let file = hdf5_pure::File::open_streaming(path).map_err(damaged)?;
        let end = file.superblock().eof_address;
        if end > file_bytes {
            return Err(FormatError::Damaged(format!("it has {file_bytes} bytes and should have {end}")));
        }
        let root = file.root();
        let groups = root.groups().map_err(damaged)?;
        let has = |name: &str| groups.iter().any(|group| group == name);
        let (kind, listed) = if legacy::has_layer_names(&root)? {
            (Kind::KerasLegacyWeights, legacy::layers(&root, "")?)
        } else if has("model_weights") {
            let weights = root.group("model_weights").map_err(damaged)?;
            (Kind::KerasLegacyModel, legacy::layers(&weights, "model_weights/")?)
        } else {
            (Kind::KerasV3Weights, third::layers(&root)?)
        };
        self.kind = kind;
        for Listed { mut layer, variables } in listed {
            let group = layer.models.iter().map(|model| model.called()).collect::<Vec<_>>().join("/");
            for (variable, path) in variables {
                let dataset = file.dataset(&path).map_err(damaged)?;
                let name = format!("{}/{variable}", layer.called());
                let tensor = stored(group.clone(), name, &dataset)?;
                check(&tensor, &dataset, file_bytes)?;
                layer.tensors.push(self.tensors.len());
                self.tensors.push(tensor);
                self.paths.push((self.files.len(), path));
            }
            self.layers.push(layer);
        }
        self.files.push(file);
        Ok(())
    }
}

fn damaged(error: hdf5_pure::Error) -> FormatError {
    FormatError::Damaged(error.to_string())
}

fn stored(group: String, name: String, dataset: &Dataset) -> Result<StoredTensor, FormatError> {
    let shape = dataset.shape().map_err(damaged)?;
    let shape = shape.into_iter().map(|len| usize::try_from(len).unwrap_or(usize::MAX)).collect();
    Ok(StoredTensor { group, name, shape, dtype: dtype(dataset)? })
}

/// The type of a dataset's values, by the bits that HDF5 describes.
fn dtype(dataset: &Dataset) -> Result<Dtype, FormatError> {
    Ok(match dataset.datatype().map_err(damaged)? {
        Datatype::FloatingPoint { size: 4, .. } => Dtype::F32,
        Datatype::FloatingPoint { size: 8, .. } => Dtype::F64,
        Datatype::FloatingPoint { size: 2, layout, .. } if layout.exponent_size == 8 => Dtype::Bf16,
        Datatype::FloatingPoint { size: 2, .. } => Dtype::F16,
        // NumPy has no such type of its own, so that h5py stores its two bytes as they are.
        Datatype::Opaque { size: 2, .. } => Dtype::Bf16,
        _ => Dtype::Other(dataset.dtype().map_err(damaged)?.to_string()),
    })
}

/// Refuses what no file of this length can hold, before any of it is read.
fn check(tensor: &StoredTensor, dataset: &Dataset, file_bytes: u64) -> Result<(), FormatError> {
    let of_file = if dataset.is_chunked() { file_bytes.saturating_mul(MAX_RATIO).min(4 << 30) } else { file_bytes };
    let size = dataset.element_size().map_err(damaged)?;
    super::check_size(tensor, usize::try_from(size).unwrap_or(usize::MAX), of_file)
}

/// The strings of an attribute, which is cut into several where it is long; no strings is an empty array of numbers.
fn names(group: &Group, attribute: &str) -> Result<Vec<String>, FormatError> {
    let attributes = group.attrs().map_err(damaged)?;
    if let Some(value) = attributes.get(attribute) {
        return Ok(strings(value));
    }
    let parts = (0..).map_while(|i| attributes.get(&format!("{attribute}{i}")));
    Ok(parts.flat_map(strings).collect())
}

fn strings(value: &AttrValue) -> Vec<String> {
    match value {
        AttrValue::String(text)
        | AttrValue::AsciiString(text)
        | AttrValue::VarLenString(text)
        | AttrValue::VarLenAsciiString(text) => vec![text.clone()],
        AttrValue::StringSized { value, .. } | AttrValue::AsciiStringSized { value, .. } => vec![value.clone()],
        AttrValue::StringArray(texts)
        | AttrValue::AsciiStringArray(texts)
        | AttrValue::VarLenAsciiCharArray(texts)
        | AttrValue::VarLenStringArray(texts)
        | AttrValue::VarLenAsciiStringArray(texts) => texts.clone(),
        AttrValue::StringArraySized { values, .. } | AttrValue::AsciiStringArraySized { values, .. } => values.clone(),
        _ => Vec::new(),
    }
}

impl TensorFile for Hdf5 {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        let tensor = &self.tensors[index];
        let (file, path) = &self.paths[index];
        let dataset = self.files[*file].dataset(path).map_err(damaged)?;
        let values = match tensor.dtype {
            Dtype::F32 | Dtype::F64 => dataset.read_f32().map_err(damaged)?,
            Dtype::F16 | Dtype::Bf16 => {
                let mut bytes = dataset.read_raw().map_err(damaged)?;
                let order = dataset.datatype().map_err(damaged)?;
                if matches!(order, Datatype::FloatingPoint { byte_order: DatatypeByteOrder::BigEndian, .. }) {
                    bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
                }
                decoded(tensor, &bytes)?
            }
            Dtype::Other(_) => decoded(tensor, &[])?,
        };
        let expected: usize = tensor.shape.iter().product();
        if values.len() == expected {
            Ok(values)
        } else {
            Err(FormatError::Damaged(format!("{} has {} values and not {expected}", tensor.name, values.len())))
        }
    }
}
