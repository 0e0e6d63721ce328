//! The user's folder of weights: which files are in it, and how they get there without a network.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zip::ZipArchive;

use crate::settings;
use crate::weights::WeightsError;
use crate::weights::digest::{Algorithm, Digests};
use crate::weights::load;
use crate::weights::registry::{self, Contents, File, FileHash, Place, Source};

/// A folder of files under their published names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub dir: PathBuf,
}

impl Cache {
    /// The user's own.
    pub fn of_user() -> Self {
        Self { dir: settings::weights_dir() }
    }

    /// Where a file is or would be.
    pub fn path(&self, file: &File) -> PathBuf {
        self.dir.join(file.name)
    }

    /// A source's file that is there; one with the classifier serves for the backbone alone too.
    pub fn find(&self, source: &Source, contents: Contents) -> Option<(&'static File, PathBuf)> {
        let fitting = |file: &&File| file.contents == contents || file.contents == Contents::WithTop;
        let mut there: Vec<&'static File> = source.files.iter().filter(fitting).collect();
        there.retain(|file| self.path(file).is_file());
        there.sort_by_key(|file| file.contents != contents);
        there.first().map(|file| (*file, self.path(file)))
    }

    /// Takes a file, or the package's archive that it is in, into the folder, once its hash was checked.
    ///
    /// `source` says whose it is; without one it must be a file whose hash the registry has.
    pub fn add(&self, path: &Path, source: Option<&Source>) -> Result<(&'static Source, &'static File), WeightsError> {
        let archived = registry::all().find_map(|source| Some((source, archived_in(path, source)?)));
        if let Some((source, (file, member))) = archived {
            self.take(file, &path.display().to_string(), |to| extract(path, member, to))?;
            return Ok((source, file));
        }
        let digests = match source {
            Some(source) => {
                let hashes = source.files.iter().filter_map(|file| file.hash);
                Digests::of_file(path, hashes.map(FileHash::algorithm))?
            }
            None => Digests::of_file(path, published_algorithms(path)?)?,
        };
        let (source, file) = match source {
            Some(source) => of_source(path, source, &digests)?,
            None => by_hash(&digests).ok_or_else(|| WeightsError::Unknown { path: path.to_owned() })?,
        };
        load::check_fits(path, source, file, &path.display().to_string())?;
        self.take(file, &path.display().to_string(), |to| io::copy(&mut fs::File::open(path)?, to).map(drop))?;
        Ok((source, file))
    }

    /// Writes a file under another name, checks it there, and gives it its own name last.
    fn take(
        &self,
        file: &File,
        origin: &str,
        write: impl FnOnce(&mut NamedTempFile<fs::File>) -> io::Result<()>,
    ) -> Result<(), WeightsError> {
        let target = self.path(file);
        let error = |source| WeightsError::Io { what: "write", path: target.clone(), source };
        fs::create_dir_all(&self.dir).map_err(error)?;
        // As any other file is made: a temporary file of the crate's own making could be read by its owner alone.
        let made = tempfile::Builder::new().prefix(".xp-").make_in(&self.dir, |path| fs::File::create_new(path));
        let mut written = made.map_err(error)?;
        write(&mut written).map_err(error)?;
        written.as_file().sync_all().map_err(error)?;
        Digests::checked(written.path(), file, &[], origin)?;
        written.persist(&target).map_err(|failed| error(failed.error))?;
        Ok(())
    }
}

/// How a file must be hashed to tell whether it is one of the registry's: as those are that have its length, or of
/// which no length is known.
pub fn published_algorithms(path: &Path) -> Result<Vec<Algorithm>, WeightsError> {
    let metadata = fs::metadata(path);
    let n_bytes = metadata.map_err(|source| WeightsError::Io { what: "read", path: path.to_owned(), source })?.len();
    let files = registry::all().flat_map(|source| source.files);
    let possible = files.filter(|file| file.n_bytes.is_none_or(|expected| expected == n_bytes));
    Ok(possible.filter_map(|file| file.hash).map(FileHash::algorithm).collect())
}

/// The source and file with a hash; of torchvision's the first digits must do.
pub fn by_hash(digests: &Digests) -> Option<(&'static Source, &'static File)> {
    registry::all().find_map(|source| {
        let file = source.files.iter().find(|file| file.hash.is_some_and(|hash| hash.is_of(digests)))?;
        Some((source, file))
    })
}

/// Which of a source's files this is, by its hash, or by its name where the publisher gives no hash.
fn of_source(
    path: &Path,
    source: &Source,
    digests: &Digests,
) -> Result<(&'static Source, &'static File), WeightsError> {
    let source = registry::by_name(source.name).expect("every source is the registry's");
    let files = source.files;
    let hashed = files.iter().find(|file| file.hash.is_some_and(|hash| hash.is_of(digests)));
    let named = || files.iter().find(|file| path.file_name().is_some_and(|name| name == file.name));
    if let Some(file) = hashed.or_else(|| named().filter(|file| file.hash.is_none())) {
        return Ok((source, file));
    }
    // Its name says which hash it should have.
    match named().or(files.first().filter(|_| files.len() == 1)) {
        Some(file) => digests.check(file, &path.display().to_string()).map(|()| (source, file)),
        None => Err(WeightsError::OfAnother { path: path.to_owned(), source_name: source.name }),
    }
}

/// The file of a source that a package's archive holds, and its path there.
fn archived_in(path: &Path, source: &'static Source) -> Option<(&'static File, &'static str)> {
    source.files.iter().find_map(|file| match file.place {
        Place::Package { archive, member, .. } => {
            path.file_name().filter(|name| *name == archive).map(|_| (file, member))
        }
        _ => None,
    })
}

/// Copies one member of a zip archive, no more of it than the archive says.
fn extract(path: &Path, member: &str, to: &mut NamedTempFile<fs::File>) -> io::Result<()> {
    let mut archive = ZipArchive::new(fs::File::open(path)?).map_err(io::Error::other)?;
    let member = archive.by_name(member).map_err(io::Error::other)?;
    let n_bytes = member.size();
    io::copy(&mut io::Read::take(member, n_bytes), to).map(drop)
}
