//! `xp features`: a backbone's output for every image of a spec, as files for NumPy, Keras and heads alone.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread;

use clap::Args;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::{Lines, Progress};
use crate::cli::run::stop_on_signals;
use crate::launch::Watcher;
use crate::run::panic;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::short_forms::DeviceChoice;
use crate::train::channel::Events;
use crate::train::extract::folder::Overwrite;
use crate::train::extract::{Extracted, Extraction};
use crate::train::plan::{Plan, plan};
use crate::train::{Completion, TrainError, device};

/// Run a spec's backbone over its images and save the features.
///
/// Writes train.npy, valid.npy and test.npy, (n, height, width, channels) of float32, each with its labels and the list
/// of its images; classes.json; and manifest.json, which says what they were made of. Images are read as in training,
/// without augmentation. Killed or stopped, the same command goes on where it was.
#[derive(Debug, Args)]
pub(crate) struct FeaturesArgs {
    /// The spec file; what it says of the head and of training has no effect.
    spec: PathBuf,
    /// The folder to write into: a new one, or one of an earlier `xp features` of the same.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The row whose output is saved, as `xp summary` names it; by default the backbone's last.
    #[arg(long, value_name = "ROW")]
    layer: Option<String>,
    /// Replace features of other images or another network that lie in the folder.
    #[arg(long)]
    force: bool,
    /// Replace a value: --set data.image_size=96. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N; short for --set device=…
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// Threads that read and decode images; by default one a core. They do not change the result.
    #[arg(long, env = "XP_LOADER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    loader_threads: Option<u16>,
    /// Print the manifest as JSON when it is done, and no lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn features(args: &FeaturesArgs) -> Result<(), Failure> {
    let plan = planned(args)?;
    output::say_of_plan(&plan);
    let device = device::of_spec(&plan.spec)?;
    let stop = stop_on_signals()?;
    let lines = if args.json { Lines::Hidden } else { Lines::Printed };
    let backbone = plan.network.layout.name.to_owned();
    let mut progress = Progress::new(lines, device.description.clone(), backbone, 0);
    let extracted = thread::scope(|scope| {
        let (sender, events) = sync_channel(64);
        let (plan, device) = (&plan, &device);
        let extracting = scope.spawn(move || {
            let overwrite = if args.force { Overwrite::Always } else { Overwrite::Never };
            let resources = Resources::new(args.loader_threads.map(usize::from));
            let events = Events::new(sender);
            Extraction { plan, spec_path: &args.spec, device, output: &args.output, overwrite, resources, events, stop }
                .run()
        });
        for event in events {
            progress.event(&event);
        }
        extracting.join().unwrap_or_else(|payload| Err(TrainError::Engine(panic::text(&*payload))))
    })?;
    match extracted {
        Completion::Done(extracted) => report(args, &extracted),
        Completion::Stopped => Err(Failure::Unfinished { what: "the features are not complete".to_owned() }),
    }
}

/// The spec with everything frozen up to the layer, which is then what runs outside training.
fn planned(args: &FeaturesArgs) -> Result<Plan, Failure> {
    let mut sets = args.sets.clone();
    sets.extend(args.device.as_ref().map(|device| format!("device={device}")));
    let on_features = LoadedSpec::read(&args.spec, &sets)?.spec.model.backbone.is_none();
    if on_features {
        let what = format!("the data of {} are features already", args.spec.display());
        return Err(Failure::Usage { what, hint: "name a spec whose data are images".to_owned() });
    }
    sets.push(match &args.layer {
        Some(row) => format!("model.frozen_layers={{ through: {row:?} }}"),
        None => "model.frozen_layers=all".to_owned(),
    });
    let plan = plan(&LoadedSpec::read(&args.spec, &sets)?)?;
    match &args.layer {
        Some(row) if plan.cut() != row => Err(Failure::Usage {
            what: format!("the output of {row} is not all that goes on: another branch passes beside it"),
            hint: format!("{} is the last row before it after which a single tensor passes", plan.cut()),
        }),
        _ => Ok(plan),
    }
}

fn report(args: &FeaturesArgs, extracted: &Extracted) -> Result<(), Failure> {
    let Extracted { record, n_computed } = extracted;
    if args.json {
        return output::print_json(&json!({
            "schema": 1,
            "folder": args.output,
            "n_computed": n_computed,
            "manifest": record,
        }));
    }
    let lines = record.splits.iter().map(|files| {
        let shape = files.features.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        format!("{} ({shape})\n", output::from_here(&args.output.join(&files.features.name)).display())
    });
    let n_rows: u64 = record.splits.iter().map(|files| files.features.shape[0]).sum();
    output::print(&format!("{}{n_computed} of {n_rows} rows computed\n", lines.collect::<String>()))
}
