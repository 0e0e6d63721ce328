//! `xp lr-find`: which learning rate a spec can bear.

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
use crate::report::json::number;
use crate::report::rates;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::short_forms::DeviceChoice;
use crate::train::channel::Events;
use crate::train::plan::plan;
use crate::train::rate_finder::{Range, find, suggestion};
use crate::train::{Completion, device};

/// Train for some steps with a growing learning rate, and suggest one.
///
/// Nothing is recorded and nothing is kept.
#[derive(Debug, Args)]
pub(crate) struct LrFindArgs {
    /// The spec file.
    spec: PathBuf,
    /// Replace a value: --set model.frozen_layers=15. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to train: auto, cpu, cuda or cuda:N; short for --set device=…
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// The rate of the first step.
    #[arg(long, default_value_t = 1e-7, value_name = "RATE")]
    min: f64,
    /// The rate of the last step, unless the loss explodes before.
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    max: f64,
    /// Steps; the images are gone through again where there are more.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    steps: u32,
    /// Print all steps as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn lr_find(args: &LrFindArgs) -> Result<(), Failure> {
    let range = Range { min: args.min, max: args.max, n_steps: args.steps };
    if !(range.min > 0.0 && range.min < range.max && range.max.is_finite()) {
        return Err(Failure::Usage {
            what: format!("no rates lie between {} and {}", range.min, range.max),
            hint: "--min is above 0 and below --max".to_owned(),
        });
    }
    let mut sets = args.sets.clone();
    sets.extend(args.device.as_ref().map(|device| format!("device={device}")));
    let loaded = LoadedSpec::read(&args.spec, &sets)?;
    let plan = plan(&loaded)?;
    output::say_of_plan(&plan);
    let device = device::of_spec(&loaded.spec)?;
    let stop = stop_on_signals()?;
    let mut progress = Progress::new(Lines::Hidden, String::new(), String::new(), 1);
    let found = thread::scope(|scope| {
        let (sender, events) = sync_channel(64);
        let (plan, device, stop) = (&plan, &device, &stop);
        let finding = scope.spawn(move || find(plan, device, Resources::new(None), range, &Events::new(sender), stop));
        for event in events {
            progress.event(&event);
        }
        progress.ended();
        finding.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })?;
    let Completion::Done(steps) = found else {
        return Err(Failure::Unfinished { what: "no rate was found; nothing is kept".to_owned() });
    };
    let suggested = suggestion(&steps);
    if args.json {
        let step = |step: &crate::train::rate_finder::RateStep| json!({ "rate": step.rate, "loss": number(Some(step.loss)), "smoothed": number(Some(step.smoothed)) });
        return output::print_json(&json!({
            "schema": 1,
            "steps": steps.iter().map(step).collect::<Vec<_>>(),
            "valley": suggested.map(|suggested| suggested.valley),
            "minimum_tenth": suggested.map(|suggested| suggested.minimum_tenth),
        }));
    }
    let losses: Vec<(f64, f64)> = steps.iter().map(|step| (step.rate, step.smoothed)).collect();
    output::print(&rates::chart(&losses, output::width()))?;
    match suggested {
        Some(suggested) => output::print(&format!(
            "the middle of its longest fall: {:.1e}; a tenth of its lowest point: {:.1e}\n\
             try --set optimizer.{}.learning_rate={:.1e}\n",
            suggested.valley,
            suggested.minimum_tenth,
            plan.spec.optimizer.name(),
            suggested.valley,
        )),
        None => output::print("the loss never fell; try a smaller --min, or more --steps\n"),
    }
}
