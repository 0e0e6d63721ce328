//! Keras' files: weights and models in HDF5 of both ages, and the archive of Keras 3.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder, LibVer};
use serde_json::json;
use zip::write::SimpleFileOptions;

use crate::export::architecture::{self, KerasLayer};
use crate::export::{ExportError, Trained};
use crate::weights::axes::{stored_shape, to_stored};
use crate::weights::format::{Convention, keras_group};

/// What HDF5 1.8 allows for one attribute, less its header; Keras cuts longer lists into several.
const MAX_ATTRIBUTE_BYTES: usize = 64_512;

/// The version that the older files say they are of: Keras 2's readers take files without one for Keras 1's.
const KERAS_VERSION: &str = "2.0.8";

/// `model.save_weights("x.h5")` of Keras 2, which Keras 3 reads too.
pub fn write_legacy_weights(trained: &Trained, path: &Path) -> Result<(), ExportError> {
    let layers = architecture::layers(trained);
    let mut file = builder();
    for (name, value) in legacy_attributes(&layers) {
        file.set_attr(&name, value);
    }
    for group in legacy_groups(trained, &layers, |name| file.create_group(name)) {
        file.add_group(group);
    }
    file.write(path).map_err(hdf5)
}

/// `model.save("x.h5")`: architecture and weights.
pub fn write_legacy_model(trained: &Trained, name: &str, path: &Path) -> Result<(), ExportError> {
    let layers = architecture::layers(trained);
    let mut file = builder();
    file.set_attr("keras_version", AttrValue::AsciiString(KERAS_VERSION.into()));
    file.set_attr("backend", AttrValue::AsciiString("tensorflow".into()));
    file.set_attr("model_config", AttrValue::VarLenString(architecture::json(name, &layers).to_string()));
    let mut weights = file.create_group("model_weights");
    for (name, value) in legacy_attributes(&layers) {
        weights.set_attr(&name, value);
    }
    for group in legacy_groups(trained, &layers, |name| weights.create_group(name)) {
        weights.add_group(group);
    }
    file.add_group(weights.finish());
    file.write(path).map_err(hdf5)
}

/// `model.save_weights("x.weights.h5")` of Keras 3.
pub fn write_weights(trained: &Trained, path: &Path) -> Result<(), ExportError> {
    let layers = architecture::layers(trained);
    let mut file = builder();
    // Readers before Keras 3.6 look for the variables of every object, the model itself among them.
    let of_model = file.create_group("vars").finish();
    file.add_group(of_model);
    let mut of_layers = file.create_group("layers");
    let mut n_of_class: HashMap<String, usize> = HashMap::new();
    for layer in &layers {
        let class = keras_group(layer.class);
        let n = n_of_class.entry(class.clone()).or_insert(0);
        let name = if *n == 0 { class } else { format!("{class}_{n}") };
        *n += 1;
        let mut group = of_layers.create_group(&name);
        let mut variables = group.create_group("vars");
        variables.set_attr("name", AttrValue::VarLenString(layer.name.clone()));
        for (i, (_, shape, values)) in variables_of(trained, layer).into_iter().enumerate() {
            variables.create_dataset(&i.to_string()).with_f32_data(&values).with_shape(&shape);
        }
        group.add_group(variables.finish());
        of_layers.add_group(group.finish());
    }
    file.add_group(of_layers.finish());
    file.write(path).map_err(hdf5)
}

/// `model.save("x.keras")`: an archive of the architecture and Keras 3's weights.
pub fn write_archive(trained: &Trained, name: &str, path: &Path) -> Result<(), ExportError> {
    let weights = tempfile::NamedTempFile::new()?;
    write_weights(trained, weights.path())?;
    let metadata = json!({ "keras_version": "3.0.0", "date_saved": "2024-01-01@00:00:00" });
    let config = architecture::json(name, &architecture::layers(trained));
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path)?);
    // Every member at the same time, so that the same run gives the same bytes.
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    for (member, text) in [("metadata.json", metadata.to_string()), ("config.json", config.to_string())] {
        archive.start_file(member, options)?;
        archive.write_all(text.as_bytes())?;
    }
    archive.start_file("model.weights.h5", options)?;
    std::io::copy(&mut std::fs::File::open(weights.path())?, &mut archive)?;
    archive.finish()?.sync_all()?;
    Ok(())
}

/// Contiguous data that HDF5 1.8 reads, as Keras writes them.
fn builder() -> FileBuilder {
    let mut builder = FileBuilder::new();
    builder.with_libver_bounds(LibVer::Earliest, LibVer::V18);
    builder
}

fn hdf5(error: impl std::fmt::Display) -> ExportError {
    ExportError::Hdf5(error.to_string())
}

fn legacy_attributes(layers: &[KerasLayer]) -> Vec<(String, AttrValue)> {
    let mut attributes = vec![
        ("backend".to_owned(), AttrValue::AsciiString("tensorflow".into())),
        ("keras_version".to_owned(), AttrValue::AsciiString(KERAS_VERSION.into())),
    ];
    attributes.extend(names("layer_names", layers.iter().map(|layer| layer.name.clone()).collect()));
    attributes
}

/// Strings of one length, which every age of h5py reads as bytes; a list that is too long in pieces.
fn names(attribute: &str, names: Vec<String>) -> Vec<(String, AttrValue)> {
    let longest = names.iter().map(String::len).max().unwrap_or(0).max(1);
    let per_piece = (MAX_ATTRIBUTE_BYTES / longest).max(1);
    if names.is_empty() {
        // As Keras' own files have it: no strings are no numbers.
        return vec![(attribute.to_owned(), AttrValue::F64Array(Vec::new()))];
    }
    if names.len() <= per_piece {
        return vec![(attribute.to_owned(), AttrValue::AsciiStringArray(names))];
    }
    let pieces = names.chunks(per_piece).enumerate();
    pieces.map(|(i, piece)| (format!("{attribute}{i}"), AttrValue::AsciiStringArray(piece.to_vec()))).collect()
}

/// A group a layer, with its variables under `<layer>/<variable>:0` in it.
fn legacy_groups(
    trained: &Trained,
    layers: &[KerasLayer],
    mut create: impl FnMut(&str) -> hdf5_pure::GroupBuilder,
) -> Vec<hdf5_pure::FinishedGroup> {
    let finished = layers.iter().map(|layer| {
        let mut group = create(&layer.name);
        let variables = variables_of(trained, layer);
        let weight_names = variables.iter().map(|(variable, ..)| format!("{}/{variable}:0", layer.name));
        for (name, value) in names("weight_names", weight_names.collect()) {
            group.set_attr(&name, value);
        }
        if !variables.is_empty() {
            let mut inner = group.create_group(&layer.name);
            for (variable, shape, values) in variables {
                inner.create_dataset(&format!("{variable}:0")).with_f32_data(&values).with_shape(&shape);
            }
            group.add_group(inner.finish());
        }
        group.finish()
    });
    finished.collect()
}

/// Name, shape and values of a layer's variables as Keras has them.
fn variables_of(trained: &Trained, layer: &KerasLayer) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let of = |address: &crate::models::parameters::TensorAddress| {
        let (_, values) = trained
            .tensors
            .iter()
            .find(|(known, _)| known.name == address.name)
            .expect("every tensor of the network is there");
        let (_, variable) = address.keras.rsplit_once('/').expect("a layer and a variable");
        let shape = stored_shape(address, Convention::Keras).into_iter().map(|len| len as u64).collect();
        (variable.to_owned(), shape, to_stored(values.clone(), address, Convention::Keras))
    };
    layer.tensors.iter().map(of).collect()
}
