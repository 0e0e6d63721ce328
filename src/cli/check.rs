//! `xp check`: reads a spec and says everything that is wrong with it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::tried;
use crate::spec::{LoadedSpec, fingerprint};
use crate::sweep::specs::Specs;
use crate::train::device;
use crate::train::plan::{Plan, plan};

/// Names that a line has room for.
const MAX_CLASSES_SHOWN: usize = 8;

/// Check a spec without running it.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The spec file.
    spec: PathBuf,
    /// Replace a value: --set optimizer.adam.learning_rate=1e-4.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the complete spec, defaults filled in, as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = LoadedSpec::read(&args.spec, &args.sets)?;
    let plan = plan(&loaded)?;
    device::of_spec(&loaded.spec)?;
    if loaded.spec.sweep.is_some() {
        let tried = tried::read(&loaded, None)?;
        tried::checked(&loaded, &tried, &Specs::of_text(&loaded.path, &loaded.text, &args.sets, &tried.section))?;
    }
    if args.json {
        output::print_json(&fingerprint::resolved(&plan.spec))
    } else {
        output::say_of_plan(&plan);
        output::print(&found(&args.spec, &plan))
    }
}

/// What a valid spec will train, so that a wrong folder is seen.
fn found(path: &Path, plan: &Plan) -> String {
    let splits = plan.listings.iter().map(|(split, listing)| format!("{} {split}", listing.images.len()));
    let splits = splits.collect::<Vec<_>>().join(", ");
    let classes = plan.classes();
    let shown = classes.iter().take(MAX_CLASSES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if classes.len() > MAX_CLASSES_SHOWN { ", …" } else { "" };
    let network = &plan.network;
    format!(
        "{} is valid\n  {} classes: {shown}{more}\n  images: {splits}\n  {}: {} of {} rows frozen\n",
        path.display(),
        classes.len(),
        network.layout.name,
        network.freeze.n_rows,
        network.layout.n_rows(),
    )
}
