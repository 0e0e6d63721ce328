//! A file of weights as a network's source of tensors.

use std::path::{Path, PathBuf};

use crate::models::parameters::{Parameters, ParametersError, TensorAddress};
use crate::spec::schema::weights::Selection;
use crate::weights::WeightsError;
use crate::weights::axes;
use crate::weights::format::{self, Convention, Dtype, FormatError, Kind, TensorFile};
use crate::weights::locate::{Located, Stored};
use crate::weights::matching::{self, Matched, Top, Unfit, Wanted};
use crate::weights::registry::{self, Contents, Source};

/// An opened file, asked for tensors by what a network calls them.
#[derive(Debug)]
pub struct FileParameters {
    file: Box<dyn TensorFile>,
    matched: Matched,
    blake3: String,
}

/// Why a file of weights cannot be used for a network.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("read the weights {}: {source}", path.display())]
    Format { path: PathBuf, source: FormatError },
    #[error("use the weights {} for {network}: {}", path.display(), unfit.describe())]
    Unfit { path: PathBuf, network: &'static str, unfit: Box<Unfit> },
    #[error("use the weights {name}: {source}")]
    Parameters { name: &'static str, source: ParametersError },
    #[error("use the weights {name}: they do not give the answers that are known of them")]
    Answers { name: &'static str },
}

impl LoadError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unfit { unfit, .. } => unfit.hint.as_deref(),
            Self::Format { source: FormatError::Damaged(_) | FormatError::WebPage, .. } => {
                Some("bring the file anew: copy, download or save it again")
            }
            Self::Format { source: FormatError::LfsPointer, .. } => Some("run `git lfs pull` where the file is from"),
            Self::Format { .. } => Some(".h5, .weights.h5, .keras, .pth, .safetensors and their indices are read"),
            _ => None,
        }
    }
}

impl FileParameters {
    /// Opens a file whose blake3 is known, and finds the network's tensors in it; what it has beyond them does no harm.
    ///
    /// Errors: it cannot be read; a tensor of the backbone, or of the classifier where one is needed, is missing or has
    /// another shape; or the network is in it several times.
    pub fn open(path: &Path, wanted: Wanted<'_>, selection: &Selection, blake3: String) -> Result<Self, LoadError> {
        Self::of(path, format::open(path), wanted, selection, blake3)
    }

    /// Opens what [`locate`](crate::weights::locate::locate) found.
    pub fn located(located: &Located, wanted: Wanted<'_>) -> Result<Self, LoadError> {
        let blake3 = located.blake3.clone();
        match &located.stored {
            Stored::File(path) => Self::open(path, wanted, &located.selection, blake3),
            Stored::Embedded(bytes) => {
                let name = Path::new(located.source.name);
                Self::of(name, format::from_bytes(bytes), wanted, &located.selection, blake3)
            }
        }
    }

    fn of(
        path: &Path,
        opened: Result<Box<dyn TensorFile>, FormatError>,
        wanted: Wanted<'_>,
        selection: &Selection,
        blake3: String,
    ) -> Result<Self, LoadError> {
        let file = opened.map_err(|source| LoadError::Format { path: path.to_owned(), source })?;
        let matched = matching::matched(&*file, wanted, selection).map_err(|unfit| LoadError::Unfit {
            path: path.to_owned(),
            network: wanted.layout.name,
            unfit: Box::new(unfit),
        })?;
        Ok(Self { file, matched, blake3 })
    }

    pub fn kind(&self) -> Kind {
        self.file.kind()
    }

    /// Whether its modules are called as timm calls those of EfficientNet.
    pub fn has_timm_names(&self) -> bool {
        self.file.kind().convention() == Convention::Torch
            && self.matched.indices.values().any(|i| self.file.tensors()[*i].name.ends_with("conv_stem.weight"))
            && !self.matched.indices.values().any(|i| self.file.tensors()[*i].name.ends_with("_conv_stem.weight"))
    }

    /// A text that was stored beside the tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
    }

    /// Which of its tensors are the network's, and what told so.
    pub fn matched(&self) -> &Matched {
        &self.matched
    }
}

/// Refuses what is no file of weights, where no hash says that it is the published one.
pub fn check_readable(path: &Path, published: &registry::File, origin: &str) -> Result<(), WeightsError> {
    if published.hash.is_some() {
        return Ok(());
    }
    let not_weights =
        |error: FormatError| WeightsError::NotWeights { origin: origin.to_owned(), reason: error.to_string() };
    format::open(path).map(drop).map_err(not_weights)
}

/// Refuses what does not hold a source's network, where no hash says that it is the published file.
pub fn check_fits(path: &Path, source: &Source, published: &registry::File, origin: &str) -> Result<(), WeightsError> {
    if published.hash.is_some() {
        return Ok(());
    }
    let plan = source.whole_network();
    let top = match published.contents {
        Contents::WithTop => Top::Needed(&plan.head),
        Contents::Features => Top::Known(&plan.head),
    };
    let wanted = Wanted { layout: &plan.layout, top };
    let opened = FileParameters::open(path, wanted, &Selection::default(), String::new());
    opened.map(drop).map_err(|error| {
        let reason = match error {
            LoadError::Unfit { unfit, .. } => unfit.describe(),
            LoadError::Format { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        WeightsError::NotWeights { origin: origin.to_owned(), reason }
    })
}

impl Parameters for FileParameters {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let index = self.matched.indices.get(&address.name).copied();
        let index = index.ok_or_else(|| ParametersError::Missing { name: address.name.clone() })?;
        let convention = self.file.kind().convention();
        let tensor = &self.file.tensors()[index];
        let expected = axes::stored_shape(address, convention);
        if tensor.shape != expected {
            let (name, found) = (tensor.name.clone(), tensor.shape.clone());
            return Err(ParametersError::Shape { name, found, expected });
        }
        if let Dtype::Other(dtype) = &tensor.dtype {
            return Err(ParametersError::Type { name: tensor.name.clone(), dtype: dtype.clone() });
        }
        let values = self.file.values(index).map_err(|error| ParametersError::Unreadable(error.to_string()))?;
        Ok(axes::from_stored(values, address, convention))
    }

    fn hash(&self) -> String {
        self.blake3.clone()
    }
}
