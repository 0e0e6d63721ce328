//! `xp doctor`: whether everything a run needs is there.

use clap::Args;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::spec::short_forms::DeviceChoice;
use crate::store::connect::Store;
use crate::store::sqlite::{self, MIN_VERSION};
use crate::train::device;

/// Check what a run needs: the home folder, the database, the devices.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
struct Check {
    name: &'static str,
    found: String,
    good: bool,
}

pub(crate) fn doctor(args: &DoctorArgs, context: &Context) -> Result<(), Failure> {
    let mut checks = vec![
        Check { name: "xp", found: env!("CARGO_PKG_VERSION").to_owned(), good: true },
        Check { name: "cuda", found: cuda(), good: true },
        Check { name: "device", found: device(), good: true },
        Check { name: "git", found: git(), good: true },
    ];
    checks.push(sqlite(context));
    checks.push(home(context));
    checks.extend(context.network_warning().map(|found| Check { name: "home", found, good: false }));
    checks.extend(database(context));
    let n_bad = checks.iter().filter(|check| !check.good).count();
    if args.json {
        let list = checks.iter().map(|check| json!({ "name": check.name, "found": check.found, "good": check.good }));
        output::print_json(&json!({ "schema": 1, "checks": list.collect::<Vec<_>>() }))?;
    } else {
        let line =
            |check: &Check| format!("{} {:9} {}\n", if check.good { "ok  " } else { "BAD " }, check.name, check.found);
        output::print(&checks.iter().map(line).collect::<String>())?;
    }
    if n_bad == 0 { Ok(()) } else { Err(Failure::Unsound { n_bad }) }
}

fn cuda() -> String {
    if cfg!(feature = "cuda") {
        device::open(DeviceChoice::Cuda(0)).map_or_else(|error| error.to_string(), |device| device.description)
    } else {
        "not built in; `cargo build --release --features cuda` does".to_owned()
    }
}

fn device() -> String {
    let auto = device::open(DeviceChoice::Auto);
    auto.map_or_else(|error| error.to_string(), |device| format!("auto takes {}", device.description))
}

fn git() -> String {
    let output = std::process::Command::new("git").arg("--version").output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "not found; runs will not record the commit".to_owned(),
    }
}

fn sqlite(context: &Context) -> Check {
    match context.wait(sqlite::version()) {
        Ok(version) if version >= MIN_VERSION => Check { name: "sqlite", found: version.to_string(), good: true },
        Ok(version) => {
            let found =
                format!("{version}, which can damage a database that two processes write; {MIN_VERSION} cannot");
            Check { name: "sqlite", found, good: false }
        }
        Err(error) => Check { name: "sqlite", found: error.to_string(), good: false },
    }
}

/// Whether a run's folder could be made here; makes nothing that stays.
fn home(context: &Context) -> Check {
    let path = &context.home.path;
    let nearest = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    match tempfile::tempfile_in(nearest) {
        Ok(_) if path.is_dir() => Check { name: "home", found: path.display().to_string(), good: true },
        Ok(_) => Check { name: "home", found: format!("{}, made by the first run", path.display()), good: true },
        Err(error) => {
            Check { name: "home", found: format!("cannot write {}: {error}", nearest.display()), good: false }
        }
    }
}

fn database(context: &Context) -> Vec<Check> {
    let bad = |error: &dyn std::fmt::Display| Check { name: "database", found: error.to_string(), good: false };
    let store = match context.wait(Store::open_existing(&context.home.database())) {
        Ok(Some(store)) => store,
        Ok(None) if context.home.n_lost_runs() > 0 => {
            let found = format!("gone; {} folders of runs lie beside where it was", context.home.n_lost_runs());
            return vec![Check { name: "database", found, good: false }];
        }
        Ok(None) => {
            return vec![Check { name: "database", found: "none yet; the first run makes it".into(), good: true }];
        }
        Err(error) => return vec![bad(&error)],
    };
    let schema = match context.wait(store.schema_version()) {
        Ok(version) => Check { name: "schema", found: version.to_string(), good: true },
        Err(error) => bad(&error),
    };
    let sound = match context.wait(store.integrity_check()) {
        Ok(problems) if problems.is_empty() => {
            Check { name: "database", found: context.home.database().display().to_string(), good: true }
        }
        Ok(problems) => bad(&problems.join("; ")),
        Err(error) => bad(&error),
    };
    vec![sound, schema]
}
