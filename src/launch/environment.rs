//! What a run ran in: versions, the machine, and the code that lay around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::models::runner::vector_unit;
use crate::run::engine::{ENGINE, ENGINE_VERSION};
use crate::train::device::TrainDevice;

const BURN_VERSION: &str = "0.22.1";

/// A longer patch is cut here; a marker line says so.
const MAX_PATCH_BYTES: usize = 256 << 10;

/// Where the spec was read, absolute: the folders it names are relative to it.
pub const SPEC_PATH: &str = "spec.path";

/// What the features were made of that a run was trained on, as JSON, where their folder says so.
pub const FEATURES_MADE_OF: &str = "features.made_of";

/// The id of the run whose record was repeated.
pub const RERUN_OF: &str = "rerun_of";

/// Names and values, for people and for later questions.
pub fn collect(device: &TrainDevice, loader_threads: usize, working_dir: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("xp".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("burn".to_owned(), BURN_VERSION.to_owned()),
        (ENGINE.to_owned(), ENGINE_VERSION.to_string()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("cpus".to_owned(), std::thread::available_parallelism().map_or(1, usize::from).to_string()),
        ("arithmetic_threads".to_owned(), rayon::current_num_threads().to_string()),
        ("vectors".to_owned(), vector_unit().to_owned()),
        ("loader_threads".to_owned(), loader_threads.to_string()),
        ("device".to_owned(), device.class.to_owned()),
        ("device.name".to_owned(), device.description.clone()),
        ("command".to_owned(), command_line()),
        ("working_dir".to_owned(), working_dir.display().to_string()),
    ]);
    facts.extend(git(working_dir));
    facts
}

fn command_line() -> String {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The commit of the working directory and what differs from it; nothing outside a repository or without git.
fn git(working_dir: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let Some(commit) = git_output(working_dir, &["rev-parse", "HEAD"]) else { return facts };
    facts.insert("git.commit".to_owned(), commit.trim().to_owned());
    if let Some(patch) = git_output(working_dir, &["diff", "HEAD"]).filter(|patch| !patch.is_empty()) {
        facts.insert("git.patch".to_owned(), shortened(patch));
    }
    facts
}

fn git_output(working_dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(working_dir).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shortened(mut patch: String) -> String {
    if patch.len() > MAX_PATCH_BYTES {
        let n_bytes = patch.len();
        patch.truncate(patch.floor_char_boundary(MAX_PATCH_BYTES));
        patch += &format!("\n[cut: {n_bytes} bytes in all]\n");
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_version_of_burn_is_the_one_that_is_built_in() {
        let lock = include_str!("../../Cargo.lock").replace('\r', "");
        assert!(lock.contains(&format!("name = \"burn\"\nversion = \"{BURN_VERSION}\"\n")));
    }

    #[test]
    fn a_long_patch_is_cut_and_says_so() {
        assert_eq!(shortened("a".to_owned()), "a");
        let cut = shortened("é".repeat(MAX_PATCH_BYTES));
        assert!(cut.len() < MAX_PATCH_BYTES + 100 && cut.ends_with("[cut: 524288 bytes in all]\n"));
    }
}
