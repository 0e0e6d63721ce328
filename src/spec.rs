//! The experiment spec: YAML in, one valid and complete [`schema::Spec`] out.
//!
//! Nothing here looks at folders, networks or devices; what needs those is checked later and reported
//! through the same [`problem::Problem`]s, so that every message points at the line it is about.

pub mod fingerprint;
pub mod json_schema;
pub mod node;
pub mod overrides;
pub mod parse;
pub mod problem;
pub mod schema;
pub mod short_forms;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::spec::node::Node;
use crate::spec::problem::{Problem, SpecError};
use crate::spec::schema::Spec;

/// Largest spec file that is read; real ones are a few kilobytes.
const MAX_SPEC_BYTES: u64 = 1 << 20;

/// A spec together with what is needed to point at its text.
#[derive(Debug)]
pub struct LoadedSpec {
    pub path: PathBuf,
    pub text: String,
    pub spec: Spec,
    node: Node,
}

impl LoadedSpec {
    /// Reads a spec file and applies `--set` arguments to it.
    ///
    /// Errors: the first structural error, or else all value errors together.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, SpecError> {
        let text = read_limited(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SpecError::Missing { path: path.to_owned() },
            _ => SpecError::Unreadable { path: path.to_owned(), reason: error.to_string() },
        })?;
        Self::from_text(path, text, sets)
    }

    /// Reads a spec from text; `path` is what messages and relative folders refer to.
    pub fn from_text(path: &Path, text: String, sets: &[String]) -> Result<Self, SpecError> {
        let invalid =
            |text: &str, problems| SpecError::Invalid { path: path.to_owned(), text: text.to_owned(), problems };
        let mut node = parse::node_from_yaml(&text).map_err(|problem| invalid(&text, vec![problem]))?;
        overrides::apply(&mut node, sets).map_err(|problems| invalid(&text, problems))?;
        match parse::spec_from_node(&node) {
            Ok(spec) => Ok(Self { path: path.to_owned(), text, spec, node }),
            Err(problems) => {
                let mut located = locate(&node, problems);
                // A value that stands for two, such as `image_size: 96`, is wrong once.
                located.dedup_by(|a, b| a.place == b.place && a.message == b.message);
                Err(invalid(&text, located))
            }
        }
    }

    /// A folder named in the spec, relative to the spec file.
    pub fn resolve(&self, folder: &Path) -> PathBuf {
        match self.path.parent() {
            Some(parent) if folder.is_relative() && parent != Path::new("") => parent.join(folder),
            _ => folder.to_owned(),
        }
    }

    /// Turns problems found by later checks into an error that points at the spec's text.
    pub fn error(&self, problems: Vec<Problem>) -> SpecError {
        SpecError::Invalid { path: self.path.clone(), text: self.text.clone(), problems: locate(&self.node, problems) }
    }
}

/// Reads a file whose length need not be known, such as a pipe.
fn read_limited(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SPEC_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SPEC_BYTES {
        return Err(io::Error::other(format!("it is longer than a spec may be, {MAX_SPEC_BYTES} bytes")));
    }
    Ok(text)
}

fn locate(node: &Node, problems: Vec<Problem>) -> Vec<Problem> {
    problems
        .into_iter()
        .map(|problem| {
            let (place, key) = node.find(&problem.key);
            Problem { key, place: problem.place.or(Some(place)), ..problem }
        })
        .collect()
}
