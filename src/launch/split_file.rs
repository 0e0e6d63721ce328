//! The list of which image is in which split, kept with a run whose spec draws them.

use std::path::{Path, PathBuf};

use crate::data::manifest;
use crate::launch::LaunchError;
use crate::run::detail::Artifact;
use crate::spec::schema::data::Data;
use crate::spec::schema::source::HeldOutSource;
use crate::train::plan::Plan;

const FILE: &str = "splits.csv";

/// Writes `splits.csv` into a run's folder where a split is a fraction of another.
///
/// It can be used as `{ csv: … }` for every split of another spec, unless the images are parts of an IDX file.
pub(crate) fn write(plan: &Plan, run_dir: &Path) -> Result<Option<Artifact>, LaunchError> {
    if !has_fraction(&plan.spec.data) {
        return Ok(None);
    }
    let path = run_dir.join(FILE);
    let written = || {
        manifest::write(&path, &plan.listings)?;
        let mut hasher = blake3::Hasher::new();
        let n_bytes = std::io::copy(&mut std::fs::File::open(&path)?, &mut hasher)?;
        Ok((n_bytes, hasher.finalize().to_hex().to_string()))
    };
    match written() {
        Ok((n_bytes, hash)) => {
            Ok(Some(Artifact { kind: "split".to_owned(), path: PathBuf::from(FILE), n_bytes, hash }))
        }
        Err(source) => Err(LaunchError::Io { path, source }),
    }
}

fn has_fraction(data: &Data) -> bool {
    let sources = [Some(&data.valid), data.test.as_ref()];
    sources.into_iter().flatten().any(|source| matches!(source, HeldOutSource::Fraction(_)))
}
