//! A `.keras` file: a zip archive of the weights and of what the layers are called.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::weights::format::archive::{Archive, Member};
use crate::weights::format::keras::Hdf5;
use crate::weights::format::{FormatError, Kind, StoredLayer, StoredTensor, TensorFile};

/// Members of an archive besides the weights are text.
const MAX_CONFIG_BYTES: u64 = 64 << 20;
/// How much larger than the archive its weights may be.
const MAX_RATIO: u64 = 100;
/// Models within models whose names are looked for.
const MAX_DEPTH: usize = 16;

#[derive(Debug)]
pub(in crate::weights::format) struct ModelFile {
    weights: Hdf5,
    /// The weights' own file for as long as they are read.
    _unpacked: NamedTempFile,
}

impl ModelFile {
    /// `weights` is the archive's member.
    pub fn open(archive: &Archive, weights: &Member, file_bytes: u64) -> Result<Self, FormatError> {
        let mut unpacked = NamedTempFile::new()?;
        archive.copy(weights, file_bytes.saturating_mul(MAX_RATIO), &mut unpacked)?;
        let mut opened = Hdf5::open(unpacked.path())?;
        opened.kind = Kind::KerasV3Model;
        if let Some(config) = archive.member("config.json") {
            let text = archive.read(config, MAX_CONFIG_BYTES)?;
            let config = serde_json::from_slice(&text)
                .map_err(|error| FormatError::Damaged(format!("its config.json: {error}")))?;
            name_layers(&mut opened, &config);
        }
        Ok(Self { weights: opened, _unpacked: unpacked })
    }
}

/// Gives layers and the models they lie in their own names, which the weights of some versions do not have.
fn name_layers(weights: &mut Hdf5, config: &Value) {
    let mut names = HashMap::new();
    collect(config, &mut Vec::new(), &mut names);
    for layer in &mut weights.layers {
        let mut path: Vec<String> = Vec::new();
        for model in &mut layer.models {
            path.push(model.group.clone());
            model.name = model.name.take().or_else(|| names.get(&path).cloned());
        }
        path.push(layer.group.clone());
        layer.name = layer.name.take().or_else(|| names.get(&path).cloned());
        let group = layer.models.iter().map(|model| model.called()).collect::<Vec<_>>().join("/");
        for &i in &layer.tensors {
            let tensor = &mut weights.tensors[i];
            tensor.group.clone_from(&group);
            if let Some((_, variable)) = tensor.name.rsplit_once('/') {
                tensor.name = format!("{}/{variable}", layer.called());
            }
        }
    }
}

/// Every layer's name by the groups that lead to it: its class in snake case, numbered among the model's layers.
fn collect(model: &Value, path: &mut Vec<String>, names: &mut HashMap<Vec<String>, String>) {
    if path.len() > MAX_DEPTH {
        return;
    }
    let mut n_of_class: HashMap<String, usize> = HashMap::new();
    for layer in model["config"]["layers"].as_array().into_iter().flatten() {
        let (Some(class), Some(name)) = (layer["class_name"].as_str(), layer["config"]["name"].as_str()) else {
            continue;
        };
        let class = snake_case(class);
        let n = n_of_class.entry(class.clone()).or_insert(0);
        path.push(if *n == 0 { class } else { format!("{class}_{n}") });
        *n += 1;
        names.insert(path.clone(), name.to_owned());
        collect(layer, path, names);
        path.pop();
    }
}

/// As Keras does it: `Conv2D` is `conv2d`, `BatchNormalization` is `batch_normalization`.
///
/// Source: `to_snake_case` in keras/src/utils/naming.py.
pub(in crate::weights) fn snake_case(class: &str) -> String {
    let characters: Vec<char> = class.chars().collect();
    let mut out = String::new();
    for (i, c) in characters.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| characters[i]);
        let lower_follows = characters.get(i + 1).is_some_and(char::is_ascii_lowercase);
        let begins =
            c.is_ascii_uppercase() && before.is_some_and(|before| before.is_ascii_lowercase() || lower_follows);
        if begins {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl TensorFile for ModelFile {
    fn kind(&self) -> Kind {
        self.weights.kind()
    }

    fn tensors(&self) -> &[StoredTensor] {
        self.weights.tensors()
    }

    fn layers(&self) -> &[StoredLayer] {
        self.weights.layers()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.weights.metadata()
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        self.weights.values(index)
    }
}
