//! Keras' files: HDF5 of several ages, and archives of one.
//!
//! A tensor is named `<layer>/<variable>` whatever the file calls it. Axes stay as they are stored.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hdf5_pure::{AttrValue, DType, Dataset, Group};
use tempfile::NamedTempFile;

use crate::weights::format::{Dtype, FormatError, Kind, StoredTensor, TensorFile};

/// How much larger than its file a tensor may be: compressed zeros.
const MAX_RATIO: u64 = 1000;
/// Groups within groups that are looked into.
const MAX_DEPTH: usize = 16;
/// Members of an archive besides the weights are text.
const MAX_CONFIG_BYTES: u64 = 64 << 20;

/// The variables of a batch norm, in order.
const NORM_VARIABLES: [&str; 4] = ["gamma", "beta", "moving_mean", "moving_variance"];

#[derive(Debug)]
pub struct Hdf5 {
    kind: Kind,
    file: hdf5_pure::File,
    tensors: Vec<StoredTensor>,
    /// Where in the file each of them is.
    paths: Vec<String>,
    metadata: BTreeMap<String, String>,
}

impl Hdf5 {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let file_bytes = std::fs::metadata(path)?.len();
        let file = hdf5_pure::File::open_streaming(path).map_err(damaged)?;
        let end = file.superblock().eof_address;
        if end > file_bytes {
            return Err(FormatError::Damaged(format!("it has {file_bytes} bytes and should have {end}")));
        }
        let root = file.root();
        let groups = root.groups().map_err(damaged)?;
        let has = |name: &str| groups.iter().any(|group| group == name);
        let (kind, named_paths) = if has_layer_names(&root)? {
            (Kind::KerasLegacyWeights, legacy(&root, "")?)
        } else if has("model_weights") {
            let weights = root.group("model_weights").map_err(damaged)?;
            (Kind::KerasLegacyModel, legacy(&weights, "model_weights/")?)
        } else if has("layers") || has("_layer_checkpoint_dependencies") {
            let mut found = Vec::new();
            third_version(&root, "", 0, &mut found)?;
            (Kind::KerasV3Weights, found)
        } else {
            return Err(FormatError::Damaged("it holds no weights of Keras' layers".to_owned()));
        };
        let mut opened =
            Self { kind, tensors: Vec::new(), paths: Vec::new(), metadata: BTreeMap::new(), file: file.clone() };
        for (name, path) in named_paths {
            let dataset = file.dataset(&path).map_err(damaged)?;
            let tensor = stored(name, &dataset)?;
            check(&tensor, &dataset, file_bytes)?;
            opened.tensors.push(tensor);
            opened.paths.push(path);
        }
        Ok(opened)
    }
}

fn damaged(error: hdf5_pure::Error) -> FormatError {
    FormatError::Damaged(error.to_string())
}

fn stored(name: String, dataset: &Dataset) -> Result<StoredTensor, FormatError> {
    let shape = dataset.shape().map_err(damaged)?;
    let shape = shape.into_iter().map(|len| usize::try_from(len).unwrap_or(usize::MAX)).collect();
    let dtype = match (dataset.dtype().map_err(damaged)?, dataset.element_size().map_err(damaged)?) {
        (DType::F32, _) => Dtype::F32,
        (DType::F64, _) => Dtype::F64,
        // Half precision is no type of its own here; read as f32 it is right.
        (DType::Other(_), 2) => Dtype::F16,
        (other, _) => Dtype::Other(other.to_string()),
    };
    Ok(StoredTensor { name, shape, dtype })
}

/// Refuses what no file of this length can hold, before any of it is read.
fn check(tensor: &StoredTensor, dataset: &Dataset, file_bytes: u64) -> Result<(), FormatError> {
    let of_file = if dataset.is_chunked() { file_bytes.saturating_mul(MAX_RATIO).min(4 << 30) } else { file_bytes };
    let size = dataset.element_size().map_err(damaged)?;
    super::check_size(tensor, usize::try_from(size).unwrap_or(usize::MAX), of_file)
}

/// Every tensor of a group with `layer_names`, with its path.
fn legacy(group: &Group, prefix: &str) -> Result<Vec<(String, String)>, FormatError> {
    let mut found = Vec::new();
    let mut layers = names(group, "layer_names")?;
    layers.extend(["top_level_model_weights".to_owned()]);
    for layer in layers {
        let Ok(of_layer) = group.group(&layer) else {
            if layer == "top_level_model_weights" {
                continue;
            }
            return Err(FormatError::Damaged(format!("the layer {layer} is listed and not there")));
        };
        for weight in names(&of_layer, "weight_names")? {
            let parts: Vec<&str> = weight.split('/').collect();
            let variable = parts.last().copied().unwrap_or_default();
            let variable = variable.split(':').next().unwrap_or(variable);
            // A layer within a model that is a layer itself is named in the weight's own name.
            let of = if parts.len() > 1 { parts[parts.len() - 2] } else { layer.as_str() };
            found.push((format!("{of}/{variable}"), format!("{prefix}{layer}/{weight}")));
        }
    }
    Ok(found)
}

fn has_layer_names(group: &Group) -> Result<bool, FormatError> {
    let attributes = group.attrs().map_err(damaged)?;
    Ok(attributes.contains_key("layer_names") || attributes.contains_key("layer_names0"))
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

/// Every tensor below a group of a Keras 3 file, with its path: `layers/conv2d_1/vars/0`.
fn third_version(
    group: &Group,
    path: &str,
    depth: usize,
    found: &mut Vec<(String, String)>,
) -> Result<(), FormatError> {
    if depth > MAX_DEPTH {
        return Err(FormatError::Damaged(format!("its groups are nested more than {MAX_DEPTH} deep")));
    }
    for name in group.groups().map_err(damaged)? {
        let child = group.group(&name).map_err(damaged)?;
        let child_path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if name != "vars" {
            third_version(&child, &child_path, depth + 1, found)?;
            continue;
        }
        let of_class = path.rsplit('/').next().unwrap_or_default();
        let named = names(&child, "name")?.into_iter().next();
        let layer = named.unwrap_or_else(|| of_class.to_owned());
        let mut variables = child.datasets().map_err(damaged)?;
        variables.sort_by_key(|variable| variable.parse::<usize>().unwrap_or(usize::MAX));
        let is_norm = variables.len() == NORM_VARIABLES.len();
        for (i, variable) in variables.into_iter().enumerate() {
            let meaning = match (is_norm, i) {
                (true, _) => NORM_VARIABLES[i],
                (false, 0) => "kernel",
                (false, 1) => "bias",
                _ => variable.as_str(),
            };
            found.push((format!("{layer}/{meaning}"), format!("{child_path}/{variable}")));
        }
    }
    Ok(())
}

impl TensorFile for Hdf5 {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        let tensor = &self.tensors[index];
        if let Dtype::Other(dtype) = &tensor.dtype {
            return Err(FormatError::Type { name: tensor.name.clone(), dtype: dtype.clone() });
        }
        let dataset = self.file.dataset(&self.paths[index]).map_err(damaged)?;
        let values = dataset.read_f32().map_err(damaged)?;
        let expected: usize = tensor.shape.iter().product();
        if values.len() == expected {
            Ok(values)
        } else {
            Err(FormatError::Damaged(format!("{} has {} values and not {expected}", tensor.name, values.len())))
        }
    }
}

/// A `.keras` file: a zip archive of the weights and of what the layers are called.
#[derive(Debug)]
pub struct Archive {
    weights: Hdf5,
    /// The weights' own file for as long as they are read.
    _unpacked: NamedTempFile,
}

impl Archive {
    /// `None` where the archive is not one of Keras.
    pub fn open(path: &Path) -> Result<Option<Self>, FormatError> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let zip_damaged = |error: zip::result::ZipError| FormatError::Damaged(error.to_string());
        let mut archive = zip::ZipArchive::new(file).map_err(zip_damaged)?;
        if archive.index_for_name("model.weights.h5").is_none() {
            return Ok(None);
        }
        let mut unpacked = NamedTempFile::new()?;
        let member = archive.by_name("model.weights.h5").map_err(zip_damaged)?;
        let most = file_bytes.saturating_mul(4);
        let n_copied = io::copy(&mut member.take(most + 1), &mut unpacked)?;
        if n_copied > most {
            return Err(FormatError::Damaged("its weights are packed more tightly than weights can be".to_owned()));
        }
        let config = archive.by_name("config.json").map_err(zip_damaged)?;
        let mut text = String::new();
        config.take(MAX_CONFIG_BYTES).read_to_string(&mut text)?;
        let mut weights = Hdf5::open(unpacked.path())?;
        weights.kind = Kind::KerasV3Model;
        let of_class = layer_names(&text)?;
        for tensor in &mut weights.tensors {
            if let Some((layer, variable)) = tensor.name.split_once('/')
                && let Some(name) = of_class.get(layer)
            {
                tensor.name = format!("{name}/{variable}");
            }
        }
        Ok(Some(Self { weights, _unpacked: unpacked }))
    }
}

/// The layers' own names by what their groups are called: the class in snake case, numbered.
fn layer_names(config: &str) -> Result<HashMap<String, String>, FormatError> {
    let config: serde_json::Value =
        serde_json::from_str(config).map_err(|error| FormatError::Damaged(format!("its config.json: {error}")))?;
    let mut n_of_class: HashMap<String, usize> = HashMap::new();
    let mut by_group = HashMap::new();
    for layer in config["config"]["layers"].as_array().into_iter().flatten() {
        let (Some(class), Some(name)) = (layer["class_name"].as_str(), layer["config"]["name"].as_str()) else {
            continue;
        };
        let class = snake_case(class);
        let n = n_of_class.entry(class.clone()).or_insert(0);
        let group = if *n == 0 { class } else { format!("{class}_{n}") };
        *n += 1;
        by_group.insert(group, name.to_owned());
    }
    Ok(by_group)
}

/// As Keras does it: `Conv2D` is `conv2d`, `BatchNormalization` is `batch_normalization`.
pub fn snake_case(class: &str) -> String {
    let characters: Vec<char> = class.chars().collect();
    let mut out = String::new();
    for (i, c) in characters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| characters[i]);
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                let lower_follows = characters.get(i + 1).is_some_and(char::is_ascii_lowercase);
                before.is_ascii_lowercase() || (before.is_ascii_uppercase() && lower_follows)
            });
        if begins {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl TensorFile for Archive {
    fn kind(&self) -> Kind {
        self.weights.kind()
    }

    fn tensors(&self) -> &[StoredTensor] {
        self.weights.tensors()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.weights.metadata()
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        self.weights.values(index)
    }
}
