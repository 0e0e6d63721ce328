//! The experiment spec: YAML in, one valid and complete [`schema::Spec`] out.
//!
//! Nothing here looks at folders, networks or devices; what needs those is checked later and reported
//! through the same [`problem::Problem`]s, so that every message points at the line it is about.

pub mod effect;
pub mod fingerprint;
mod input;
pub mod json_schema;
pub mod keys;
pub mod node;
pub mod overrides;
pub mod parse;
mod plan_epochs;
pub mod problem;
pub mod schema;
pub mod short_forms;
pub mod starter;
pub mod stretches;
pub mod structure;
pub mod wandb;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::spec::node::Node;
use crate::spec::problem::{Problem, SpecError};
use crate::spec::schema::Spec;

/// Largest spec file that is read; real ones are a few kilobytes.
const MAX_SPEC_BYTES: u64 = 1 << 20;

/// Problems whose places are looked up.
const MAX_LOCATED: usize = 200;

/// A spec together with what is needed to point at its text.
#[derive(Debug)]
pub struct LoadedSpec {
    pub path: PathBuf,
    pub text: String,
    pub spec: Spec,
    node: Node,
    out_of_range: Vec<Problem>,
}

impl LoadedSpec {
    /// Reads a spec file and applies `--set` arguments to it.
    ///
    /// Errors: the first structural error. Values out of range wait for [`Self::out_of_range`], so that one report
    /// has them together with what does not fit the images or the network.
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
        plan_epochs::fill_in(&mut node);
        let (spec, mut out_of_range) =
            structure::spec_from_node(&node).map_err(|problem| invalid(&text, locate(&node, vec![problem])))?;
        out_of_range.extend(input::problems(&spec, &node));
        Ok(Self { path: path.to_owned(), text, spec, node, out_of_range })
    }

    /// Reads a spec that was recorded with all of its keys; those that came later mean what was done before there were any.
    pub fn from_record(path: &Path, text: String, sets: &[String]) -> Result<Self, SpecError> {
        let recorded: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let data = &recorded["data"];
        let is_older = data["image_size"] != serde_json::Value::Null && data["decode"] == serde_json::Value::Null;
        let older: Vec<String> = is_older.then(|| "data.decode=plain".to_owned()).into_iter().collect();
        Self::from_text(path, text, &[&older[..], sets].concat())
    }

    /// The values that are out of their range, and keys that do not fit what the data are. With any of them the spec may be checked further, but not used.
    pub fn out_of_range(&self) -> &[Problem] {
        &self.out_of_range
    }

    /// Whether the value at a dotted key is within its range.
    pub fn in_range(&self, key: &str) -> bool {
        !self.out_of_range.iter().any(|problem| problem.key == key)
    }

    /// Whether a value stands at a dotted key, apart from what is filled in for it.
    pub fn is_written(&self, key: &str) -> bool {
        input::is_written(&self.node, key)
    }

    /// Whether the spec says, at a dotted key, what `--set key=value` would make it say.
    pub fn holds(&self, key: &str, value: &serde_json::Value) -> bool {
        let value = parse::node_from_yaml(&value.to_string());
        value.is_ok_and(|value| overrides::holds(&self.node, key, &value))
    }

    /// Whether the spec still says what a `--set` argument made it say.
    pub fn holds_argument(&self, set: &str) -> bool {
        set.split_once('=').is_none_or(|(key, text)| {
            parse::node_from_yaml(text).is_ok_and(|value| overrides::holds(&self.node, key, &value))
        })
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
        let mut problems = locate(&self.node, problems);
        // A value that stands for two, such as `image_size: 96`, is wrong once.
        problems.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        SpecError::Invalid { path: self.path.clone(), text: self.text.clone(), problems }
    }
}

/// Reads a file whose length need not be known, such as a pipe.
fn read_limited(path: &Path) -> io::Result<String> {
    refuse_named_pipe(path)?;
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SPEC_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SPEC_BYTES {
        return Err(io::Error::other(format!("it is longer than a spec may be, {} MiB", MAX_SPEC_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("it is not UTF-8 text: line {} has bytes that are no character", line + 1))
    })?;
    // Some editors put a byte order mark before the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// A pipe with a name blocks until someone writes into it; those of `<(…)` have one that is already open.
#[cfg(unix)]
fn refuse_named_pipe(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;

    let is_open = path.starts_with("/dev") || path.starts_with("/proc");
    if fs::metadata(path)?.file_type().is_fifo() && !is_open {
        return Err(io::Error::other("it is a named pipe, not a file"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_named_pipe(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(|_| ())
}

/// Finds the places of the first problems; of more than anyone reads only the number matters.
fn locate(node: &Node, problems: Vec<Problem>) -> Vec<Problem> {
    let located = |problem: Problem| {
        let (_, place, key) = node.find(&problem.key);
        Problem { key, place: problem.place.or(Some(place)), ..problem }
    };
    let one = |(i, problem)| if i < MAX_LOCATED { located(problem) } else { problem };
    problems.into_iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::schema::data::Decode;

    const SPEC: &str =
        "{ name: a, data: { train: t, valid: v, image_size: 8 }, model: { backbone: vgg_tiny }, epochs: 1 }";

    /// A run of a time before the key goes on with the pixels that it saw; `--set` has the last word.
    #[test]
    fn a_record_from_before_a_key_means_what_was_done_then() {
        let decode = |text: &str, sets: &[String]| {
            LoadedSpec::from_record(Path::new("a.yaml"), text.to_owned(), sets).unwrap().spec.data.decode
        };
        let spec = LoadedSpec::from_text(Path::new("a.yaml"), SPEC.to_owned(), &[]).unwrap().spec;
        assert_eq!(spec.data.decode, Decode::LibjpegTurbo);
        let mut record = fingerprint::resolved(&spec);
        assert_eq!(decode(&record.to_string(), &[]), Decode::LibjpegTurbo);
        record["data"].as_object_mut().unwrap().remove("decode");
        assert_eq!(decode(&record.to_string(), &[]), Decode::Plain);
        assert_eq!(decode(&record.to_string(), &["data.decode=libjpeg_turbo".to_owned()]), Decode::LibjpegTurbo);
    }
}
