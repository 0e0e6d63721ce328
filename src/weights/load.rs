//! A file of weights as a network's source of tensors: which of its tensors is which, and how its axes lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::models::backbone;
use crate::models::head::{HeadPlan, dense_tensors};
use crate::models::layout::Layout;
use crate::models::parameters::{Parameters, ParametersError, TensorAddress};
use crate::weights::axes;
use crate::weights::efficientnet_names;
use crate::weights::format::{self, Convention, Dtype, FormatError, Kind, TensorFile};
use crate::weights::locate::{Located, Stored};

/// Tensors that a message names; more are only counted.
const MAX_LISTED: usize = 10;

/// An opened file, asked for tensors by what a network calls them.
#[derive(Debug)]
pub struct FileParameters {
    path: PathBuf,
    file: Box<dyn TensorFile>,
    by_name: BTreeMap<String, usize>,
    blake3: String,
}

/// How the tensors of a file fit a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// The network's names for what the file does not have.
    pub missing: Vec<String>,
    /// What has another shape than the network's.
    pub misshaped: Vec<Misshaped>,
    /// The file's names for what the network does not have.
    pub unused: Vec<String>,
}

/// A tensor of another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshaped {
    /// The file's name for it.
    pub name: String,
    /// In the file's order of axes.
    pub found: Vec<usize>,
    pub expected: Vec<usize>,
}

/// Why a file of weights cannot be used for a network.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("read the weights {}: {source}", path.display())]
    Format { path: PathBuf, source: FormatError },
    #[error("use the weights {} for {network}: {}", path.display(), fit.describe())]
    Unfit { path: PathBuf, network: &'static str, fit: Fit },
    #[error("use the weights {name}: {source}")]
    Parameters { name: &'static str, source: ParametersError },
    #[error("use the weights {name}: they do not give the answers that are known of them")]
    Answers { name: &'static str },
}

impl FileParameters {
    /// Opens a file whose blake3 is known.
    pub fn open(path: &Path, blake3: String) -> Result<Self, LoadError> {
        Self::of(path, format::open(path), blake3)
    }

    /// Opens what [`locate`](crate::weights::locate::locate) found.
    pub fn located(located: &Located) -> Result<Self, LoadError> {
        let blake3 = located.blake3.clone();
        let mut opened = match &located.stored {
            Stored::File(path) => Self::open(path, blake3)?,
            Stored::Embedded(bytes) => Self::of(Path::new(located.source.name), format::from_bytes(bytes), blake3)?,
        };
        if opened.by_name.contains_key(efficientnet_names::MARK) {
            let layout = backbone::layout(located.source.backbone, located.source.form);
            opened.rename(&efficientnet_names::modules(&layout));
        }
        Ok(opened)
    }

    /// Lets tensors be asked for by other names of their modules, too.
    fn rename(&mut self, modules: &BTreeMap<String, String>) {
        let ours: BTreeMap<&str, &str> =
            modules.iter().map(|(ours, theirs)| (theirs.as_str(), ours.as_str())).collect();
        let renamed = self.by_name.iter().filter_map(|(name, index)| {
            let (module, field) = name.rsplit_once('.')?;
            Some((format!("{}.{field}", ours.get(module)?), *index))
        });
        let renamed: Vec<(String, usize)> = renamed.collect();
        self.by_name.extend(renamed);
    }

    fn of(path: &Path, opened: Result<Box<dyn TensorFile>, FormatError>, blake3: String) -> Result<Self, LoadError> {
        let file = opened.map_err(|source| LoadError::Format { path: path.to_owned(), source })?;
        let by_name = file.tensors().iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        Ok(Self { path: path.to_owned(), file, by_name, blake3 })
    }

    pub fn kind(&self) -> Kind {
        self.file.kind()
    }

    /// Compares names and shapes with a network's; what the file has beyond it, such as a classifier, does no harm.
    ///
    /// Errors: a tensor of the backbone, or of the classifier where one is asked for, is missing or has another shape.
    pub fn fit(&self, layout: &Layout, top: Option<&HeadPlan>) -> Result<Fit, LoadError> {
        let mut fit = Fit::default();
        let mut used = BTreeSet::new();
        let of_top = top.map(dense_tensors).unwrap_or_default();
        let of_backbone = layout.nodes.iter().flat_map(|node| node.operation.tensors());
        for address in of_backbone.chain(of_top.into_iter().flatten()) {
            let Some(index) = self.index_of(&address) else {
                fit.missing.push(self.name_here(&address));
                continue;
            };
            used.insert(index);
            let tensor = &self.file.tensors()[index];
            let expected = axes::stored_shape(&address, self.file.kind().convention());
            if tensor.shape != expected {
                let (name, found) = (tensor.name.clone(), tensor.shape.clone());
                fit.misshaped.push(Misshaped { name, found, expected });
            }
        }
        // PyTorch counts the batches that a norm has seen; nothing here does.
        let unused = self
            .file
            .tensors()
            .iter()
            .enumerate()
            .filter(|(i, tensor)| !used.contains(i) && !tensor.name.ends_with("num_batches_tracked"));
        fit.unused = unused.map(|(_, tensor)| tensor.name.clone()).collect();
        if fit.missing.is_empty() && fit.misshaped.is_empty() {
            Ok(fit)
        } else {
            Err(LoadError::Unfit { path: self.path.clone(), network: layout.name, fit })
        }
    }

    fn index_of(&self, address: &TensorAddress) -> Option<usize> {
        names(address, self.file.kind().convention()).into_iter().find_map(|name| self.by_name.get(&name).copied())
    }

    /// What a tensor would be called in this file.
    fn name_here(&self, address: &TensorAddress) -> String {
        names(address, self.file.kind().convention()).swap_remove(0)
    }
}

/// The names that a tensor goes by in files of a convention, the usual one first.
fn names(address: &TensorAddress, convention: Convention) -> Vec<String> {
    match convention {
        Convention::Torch => vec![address.torch.clone(), address.name.clone()],
        // Keras 3 has called every kernel by that name.
        Convention::Keras => {
            let renamed = address.keras.replace("/depthwise_kernel", "/kernel");
            vec![address.keras.clone(), renamed]
        }
    }
}

impl Parameters for FileParameters {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let name = self.name_here(address);
        let index = self.index_of(address).ok_or_else(|| ParametersError::Missing { name: name.clone() })?;
        let convention = self.file.kind().convention();
        let tensor = &self.file.tensors()[index];
        let expected = axes::stored_shape(address, convention);
        if tensor.shape != expected {
            return Err(ParametersError::Shape { name, found: tensor.shape.clone(), expected });
        }
        if let Dtype::Other(dtype) = &tensor.dtype {
            return Err(ParametersError::Type { name, dtype: dtype.clone() });
        }
        let values = self.file.values(index).map_err(|error| ParametersError::Unreadable(error.to_string()))?;
        Ok(axes::from_stored(values, address, convention))
    }

    fn hash(&self) -> String {
        self.blake3.clone()
    }
}

impl Fit {
    fn describe(&self) -> String {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("it has no {}", listed(&self.missing)));
        }
        if !self.misshaped.is_empty() {
            let shapes = self
                .misshaped
                .iter()
                .map(|Misshaped { name, found, expected }| format!("{name} of shape {found:?} and not {expected:?}"));
            parts.push(format!("it has {}", listed(&shapes.collect::<Vec<_>>())));
        }
        if !self.missing.is_empty() && !self.unused.is_empty() {
            parts.push(format!("it has also {}", listed(&self.unused)));
        }
        parts.join("; ")
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        n_more => format!("{shown} and {n_more} more"),
    }
}
