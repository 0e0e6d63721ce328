//! What a run's network says of its validation images, one by one, in a file: `predictions-valid.safetensors`.
//!
//! Tensors, a row an image in the order of the split: `probabilities` F16 `[n, classes]`; `losses` F32 `[n]`, the cross
//! entropy in nats without smoothing or weights; `predicted` I32 `[n]`, the most probable class; `ranks` I32 `[n]`, how many
//! classes are more probable than the label; `labels` U32 `[n]`; `names` U8, a JSON list of the images' names. Probabilities
//! are rounded; losses, predicted and ranks come from what they were rounded from. −1 stands where a network says NaN. The
//! metadata's one entry, `xp`, is [`Facts`] as JSON.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use serde::{Deserialize, Serialize};

use crate::run::detail::Artifact;
use crate::run::metric::Measure;

/// The file's name in a run's folder.
pub const FILE: &str = "predictions-valid.safetensors";

/// The artifact's kind.
pub const KIND: &str = "predictions";

const FORMAT: u32 = 1;

/// Of what the predictions are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub format: u32,
    /// Whose checkpoint was measured.
    pub epoch: u32,
    /// The split's hash, of which these images may be a part.
    pub split: String,
    /// Hash of the images in their order: what is compared image by image has the same.
    pub images: String,
    /// By label.
    pub classes: Vec<String>,
}

impl Facts {
    pub fn new(epoch: u32, split: String, images: String, classes: Vec<String>) -> Self {
        Self { format: FORMAT, epoch, split, images, classes }
    }
}

/// A row an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    pub facts: Facts,
    pub names: Vec<String>,
    pub labels: Vec<u32>,
    /// In nats.
    pub losses: Vec<f32>,
    /// −1 for NaN.
    pub predicted: Vec<i32>,
    /// From 0; −1 for NaN.
    pub ranks: Vec<i32>,
    /// Layout: `[n, classes]`.
    pub probabilities: Vec<f16>,
}

/// Why a file of predictions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PredictionsError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

impl Predictions {
    /// A measure of every image, whose mean is the split's metric.
    pub fn of(&self, measure: Measure) -> Vec<f32> {
        let in_first = |k: i32| self.ranks.iter().map(|rank| if (0..k).contains(rank) { 1.0 } else { 0.0 }).collect();
        match measure {
            Measure::Loss => self.losses.clone(),
            Measure::Accuracy => in_first(1),
            Measure::TopK(k) => in_first(i32::from(k)),
        }
    }
}

/// Writes a run's predictions in place of older ones; the file is whole under its name or not there.
pub fn write(run_dir: &Path, predictions: &Predictions) -> Result<Artifact, PredictionsError> {
    let path = run_dir.join(FILE);
    let partial = run_dir.join(format!("{FILE}.partial"));
    let written = || {
        serialized(predictions, &partial)?;
        let file = File::open(&partial)?;
        let mut hasher = blake3::Hasher::new();
        let n_bytes = io::copy(&mut &file, &mut hasher)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        if cfg!(unix) {
            File::open(run_dir)?.sync_all()?;
        }
        Ok(Artifact {
            kind: KIND.to_owned(),
            path: PathBuf::from(FILE),
            n_bytes,
            hash: hasher.finalize().to_hex().to_string(),
        })
    };
    written().map_err(|source| {
        let _ = fs::remove_file(&partial);
        PredictionsError::Io { path, source }
    })
}

fn serialized(predictions: &Predictions, path: &Path) -> io::Result<()> {
    let (n, n_classes) = (predictions.labels.len(), predictions.facts.classes.len());
    let names = serde_json::to_vec(&predictions.names)?;
    let tensors: [(&str, Dtype, Vec<usize>, Vec<u8>); 6] = [
        (
            "probabilities",
            Dtype::F16,
            vec![n, n_classes],
            bytes(&predictions.probabilities, |value| value.to_le_bytes()),
        ),
        ("losses", Dtype::F32, vec![n], bytes(&predictions.losses, |value| value.to_le_bytes())),
        ("predicted", Dtype::I32, vec![n], bytes(&predictions.predicted, |value| value.to_le_bytes())),
        ("ranks", Dtype::I32, vec![n], bytes(&predictions.ranks, |value| value.to_le_bytes())),
        ("labels", Dtype::U32, vec![n], bytes(&predictions.labels, |value| value.to_le_bytes())),
        ("names", Dtype::U8, vec![names.len()], names),
    ];
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorView::new(*dtype, shape.clone(), bytes).map(|view| (*name, view)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    // One entry, so that the order of entries cannot differ.
    let metadata = HashMap::from([("xp".to_owned(), serde_json::to_string(&predictions.facts)?)]);
    serialize_to_file(views, Some(metadata), path).map_err(io::Error::other)
}

fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| of(*value)).collect()
}

/// Reads a file of predictions, and hashes its bytes: whether they are those that were recorded is for the caller.
pub fn read(path: &Path) -> Result<(Predictions, blake3::Hash), PredictionsError> {
    let bytes = fs::read(path).map_err(|source| PredictionsError::Io { path: path.to_owned(), source })?;
    let predictions = parsed(&bytes).map_err(|reason| PredictionsError::Damaged { path: path.to_owned(), reason })?;
    Ok((predictions, blake3::hash(&bytes)))
}

fn parsed(bytes: &[u8]) -> Result<Predictions, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let facts = header.metadata().as_ref().and_then(|metadata| metadata.get("xp"));
    let facts: Facts = serde_json::from_str(facts.ok_or("its metadata has no `xp`")?).map_err(|e| e.to_string())?;
    if facts.format != FORMAT {
        return Err(format!("format {} is not {FORMAT}, the one this xp reads", facts.format));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = |name: &str, dtype: Dtype, shape: Option<&[usize]>| {
        let found = tensors.tensor(name).map_err(|error| error.to_string())?;
        let fits = found.dtype() == dtype && shape.is_none_or(|shape| found.shape() == shape);
        fits.then_some(found.data()).ok_or_else(|| format!("{name} is {:?} {:?}", found.dtype(), found.shape()))
    };
    let names: Vec<String> =
        serde_json::from_slice(tensor("names", Dtype::U8, None)?).map_err(|error| error.to_string())?;
    let (n, n_classes) = (names.len(), facts.classes.len());
    let predictions = Predictions {
        labels: values(tensor("labels", Dtype::U32, Some(&[n]))?, u32::from_le_bytes),
        losses: values(tensor("losses", Dtype::F32, Some(&[n]))?, f32::from_le_bytes),
        predicted: values(tensor("predicted", Dtype::I32, Some(&[n]))?, i32::from_le_bytes),
        ranks: values(tensor("ranks", Dtype::I32, Some(&[n]))?, i32::from_le_bytes),
        probabilities: values(tensor("probabilities", Dtype::F16, Some(&[n, n_classes]))?, f16::from_le_bytes),
        facts,
        names,
    };
    let is_class = |class: &i32| *class == -1 || usize::try_from(*class).is_ok_and(|class| class < n_classes);
    let classes = predictions.predicted.iter().chain(&predictions.ranks);
    if predictions.labels.iter().any(|label| *label as usize >= n_classes) || !classes.into_iter().all(is_class) {
        return Err(format!("it names a class beyond the {n_classes} that it has"));
    }
    Ok(predictions)
}

fn values<T, const N: usize>(bytes: &[u8], of: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|bytes| of(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions() -> Predictions {
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        Predictions {
            facts: Facts::new(3, "s".to_owned(), "i".to_owned(), classes),
            names: vec!["a/0.png".to_owned(), "c/\u{e9}\n.png".to_owned()],
            labels: vec![0, 2],
            losses: vec![0.25, f32::NAN],
            predicted: vec![1, -1],
            ranks: vec![1, -1],
            probabilities: [0.3, 0.5, 0.2, f32::NAN, 0.0, 1.0].map(f16::from_f32).to_vec(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = write(folder.path(), &predictions()).unwrap();
        let path = folder.path().join(&artifact.path);
        let (found, hash) = read(&path).unwrap();
        // NaN is not itself.
        assert_eq!(format!("{found:?}"), format!("{:?}", predictions()));
        assert_eq!((artifact.hash, artifact.n_bytes), (hash.to_hex().to_string(), fs::metadata(&path).unwrap().len()));
        let again = write(folder.path(), &predictions()).unwrap();
        assert_eq!(again.hash, hash.to_hex().to_string());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn measures_of_images_are_0_or_1_or_the_loss() {
        let found = predictions();
        assert_eq!(found.of(Measure::Accuracy), [0.0, 0.0]);
        assert_eq!(found.of(Measure::TopK(2)), [1.0, 0.0]);
        assert!(found.of(Measure::Loss)[1].is_nan());
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(matches!(read(&path), Err(PredictionsError::Io { .. })));
        let damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match read(&path) {
                Err(PredictionsError::Damaged { reason, .. }) => reason,
                other => panic!("{other:?}"),
            }
        };
        damaged(b"");
        damaged(&[0xff; 64]);
        write(folder.path(), &predictions()).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            damaged(&whole[..end]);
        }
        let changed = |change: fn(&mut Predictions)| {
            let mut changed = predictions();
            change(&mut changed);
            write(folder.path(), &changed).unwrap();
            damaged(&fs::read(&path).unwrap())
        };
        assert!(changed(|of| of.facts.format = 2).contains("format 2"));
        assert!(changed(|of| of.labels[0] = 3).contains("beyond the 3"));
        assert!(changed(|of| of.ranks[0] = -2).contains("beyond the 3"));
        assert!(changed(|of| of.names.truncate(1)).contains("labels is U32 [2]"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &predictions()).unwrap();
        fs::create_dir(folder.path().join(format!("{FILE}.partial"))).unwrap();
        assert!(write(folder.path(), &Predictions { names: Vec::new(), ..predictions() }).is_err());
        assert!(read(&folder.path().join(FILE)).is_ok());
    }
}
