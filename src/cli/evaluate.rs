//! `xp evaluate`: measures a run's checkpoint on images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::behind::Behind;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::progress::{Lines, Progress};
use crate::data::feature_cache::FeatureCache;
use crate::data::features;
use crate::data::listing::Listing;
use crate::data::source;
use crate::launch::Watcher;
use crate::launch::environment::SPEC_PATH;
use crate::report::json;
use crate::report::number::metric_text;
use crate::run::detail::RunDetail;
use crate::run::event::{Event, SavedCheckpoint, SkippedInput, SplitFacts};
use crate::run::look::{self, Look, LookedBy};
use crate::run::metric::{MetricKey, Point, Split};
use crate::run::panic;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::schema::data::Data;
use crate::spec::schema::source::{CsvSource, FeatureSource, ImageSource};
use crate::spec::short_forms::DeviceChoice;
use crate::store::connect::Store;
use crate::train::channel::Events;
use crate::train::evaluate::{Evaluation, Measured};
use crate::train::plan::{Plan, plan_evaluation_through};
use crate::train::{Completion, TrainError, device, listings};

/// Measure a run's checkpoint on its test images, or on others.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// A run, as `xp show` takes it.
    run: String,
    /// A folder with the run's class folders, or a .csv file with paths and labels; for a run on features, a folder of
    /// `xp features`, whose test.npy or else valid.npy is measured, or a .npy file beside its labels. By default the
    /// spec's test images, else its valid images.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Measure so many batches of the images only, each class in its proportion, the same ones every time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    steps: Option<u32>,
    /// Which checkpoint: best, last or an epoch.
    #[arg(long, default_value = "best")]
    checkpoint: CheckpointChoice,
    /// Of a run on features that is measured on images: what made the features, a folder of `xp features` or the spec it
    /// was given. By default the folder that the features lie in.
    #[arg(long, value_name = "DIR|SPEC", requires = "data")]
    behind: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N; by default as the run did.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A checkpoint as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointChoice {
    Best,
    Last,
    Epoch(u32),
}

impl std::str::FromStr for CheckpointChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            "last" => Ok(Self::Last),
            epoch => epoch.parse().map(Self::Epoch).map_err(|_| "expected best, last or an epoch".to_owned()),
        }
    }
}

pub(crate) fn evaluate(args: &EvaluateArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    let checkpoint = choose(&run, args.checkpoint)?;
    let loaded = spec_of_checkpoint(&run, checkpoint, args.device)?;
    let behind = behind(&run, &loaded, args)?;
    let loaded = behind.as_ref().map_or(&loaded, |behind| &behind.loaded);
    let (split, listing) = listing(&run, loaded, args.data.as_deref())?;
    let data = Measurable { split, origin: listing.origin.clone(), is_part: listing.is_part };
    let last_row = behind.as_ref().and_then(|behind| behind.last_row.as_deref());
    let plan = plan_evaluation_through(loaded, last_row, split, listing, args.steps)?;
    behind.as_ref().map_or(Ok(()), |behind| behind.check(&run.summary.name, &plan))?;
    let weights_hash = match &behind {
        Some(behind) => behind.weights_hash.as_deref(),
        None => weights_hash(&run),
    };
    let recorded = run.data.as_ref().filter(|_| args.data.is_none());
    let recorded = recorded.and_then(|data| data.of(split));
    let (measured, facts, notes) =
        measure(context, &run, checkpoint, &plan, (weights_hash, recorded), StopFlag::default())?;
    // Images that the run trained or chose with are no test, however they are named.
    let own = run.data.iter().flat_map(|data| &data.splits).find(|split| split.hash == facts.hash);
    let is_test = split == Split::Test && own.is_none_or(|own| own.split == Split::Test);
    let look = if is_test { looked_at(context, &store, &run, &facts.hash)? } else { None };
    report(
        args,
        &Evaluated { run: &run, epoch: checkpoint.epoch, data, measured, n_split_images: facts.n_images, look, notes },
    )
}

/// The weights that a run began with.
fn weights_hash(run: &RunDetail) -> Option<&str> {
    run.model.as_ref().map(|model| model.weights_hash.as_str())
}

/// Records that someone looked at test images; which look at them that was. A home that cannot be written is told.
fn looked_at(context: &Context, store: &Store, run: &RunDetail, hash: &str) -> Result<Option<usize>, Failure> {
    let look = Look {
        at_ms: jiff::Timestamp::now().as_millisecond(),
        run: Some(run.summary.id.clone()),
        split_hash: hash.to_owned(),
        by: LookedBy::Evaluate,
    };
    if let Err(error) = context.wait(store.add_look(&look)) {
        output::say(&format!("warning: this look at the test images is not recorded: cannot {error}\n"));
        return Ok(None);
    }
    Ok(Some(look::count(&context.wait(store.looks(hash))?)))
}

/// Measures a run's best epoch on its own test images, where it has any.
pub(crate) fn measure_test(
    context: &Context,
    run: &RunDetail,
    stop: &StopFlag,
) -> Result<Option<Vec<(MetricKey, Point)>>, Failure> {
    let Some(recorded) = run.data.as_ref().and_then(|data| data.of(Split::Test)) else { return Ok(None) };
    let checkpoint = choose(run, CheckpointChoice::Best)?;
    let loaded = spec_of_checkpoint(run, checkpoint, None)?;
    let (split, listing) = listing(run, &loaded, None)?;
    let plan = plan_evaluation_through(&loaded, None, split, listing, None)?;
    let inputs = (weights_hash(run), Some(recorded));
    let (measured, facts, _) = measure(context, run, checkpoint, &plan, inputs, stop.clone())?;
    if facts.hash != recorded.hash {
        return Err(Failure::NotThere {
            what: format!("the test images of the run {} are no longer those that it was made with", run.summary.name),
            hint: "bring them back, and `xp sweep resume` measures them; `xp evaluate` measures others".to_owned(),
        });
    }
    Ok(Some(measured.points(Split::Test, checkpoint.epoch, checkpoint.step)))
}

/// Measures a checkpoint on the images of a plan; tells which there are and what was said of them.
fn measure(
    context: &Context,
    run: &RunDetail,
    checkpoint: &SavedCheckpoint,
    plan: &Plan,
    (weights_hash, recorded): (Option<&str>, Option<&SplitFacts>),
    stop: StopFlag,
) -> Result<(Measured, SplitFacts, Notes), Failure> {
    let device = device::open(plan.spec.device)?;
    let mut progress = Progress::new(Lines::Hidden, device.description.clone(), String::new(), 0);
    let run_dir = context.home.run_dir(&run.summary.id);
    let mut notes = Notes::default();
    let measured = thread::scope(|scope| {
        let (sender, events) = sync_channel(64);
        let (device, run_dir) = (&device, &run_dir);
        let cache = FeatureCache::of_spec(&plan.spec.cache, context.home.feature_cache_dir());
        let measuring = scope.spawn(move || {
            let (events, resources) = (Events::new(sender), Resources::new(None));
            let split = recorded;
            Evaluation { plan, device, run_dir, checkpoint, weights_hash, split, resources, cache, events, stop }
                .measure()
        });
        for event in events {
            if !matches!(event, Event::Warning(_)) {
                progress.event(&event);
            }
            notes.take(event);
        }
        measuring.join().unwrap_or_else(|payload| Err(TrainError::Measure(panic::text(&*payload))))
    })?;
    match measured {
        Completion::Done((measured, facts)) => Ok((measured, facts, notes)),
        Completion::Stopped => Err(Failure::Interrupted { name: run.summary.name.clone() }),
    }
}

/// A run that was trained on features, and is to be measured on images.
fn behind(run: &RunDetail, loaded: &LoadedSpec, args: &EvaluateArgs) -> Result<Option<Behind>, Failure> {
    let is_images = |path: &Path| {
        let has_features = ["test.npy", "valid.npy"].iter().any(|name| path.join(name).is_file());
        path.is_dir() && !has_features || path.extension().is_some_and(|extension| extension == "csv")
    };
    let sees_images = args.behind.is_some() || args.data.as_deref().is_some_and(is_images);
    match (on_features(&loaded.spec.data), sees_images) {
        (true, true) => Behind::of(run, loaded, args.behind.as_deref()).map(Some),
        (false, _) if args.behind.is_some() => Err(Failure::Usage {
            what: format!("the run {} has a backbone of its own", run.summary.name),
            hint: "`--behind` is for runs that were trained on features".to_owned(),
        }),
        _ => Ok(None),
    }
}

/// What was said while measuring.
#[derive(Debug, Default)]
struct Notes {
    skipped: Vec<SkippedInput>,
    warnings: Vec<String>,
}

impl Notes {
    fn take(&mut self, event: Event) {
        match event {
            Event::Skipped(input) => self.skipped.push(input),
            Event::Warning(text) => self.warnings.push(text),
            _ => {}
        }
    }

    /// As lines for people.
    fn lines(&self) -> Vec<String> {
        let skipped = (!self.skipped.is_empty()).then(|| format!("{} images skipped", self.skipped.len()));
        self.warnings.iter().cloned().chain(skipped).collect()
    }
}

/// Which images are measured.
struct Measurable {
    split: Split,
    origin: PathBuf,
    is_part: bool,
}

impl std::fmt::Display for Measurable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_part {
            write!(f, "the {} images of ", self.split)?;
        }
        write!(f, "{}", self.origin.display())
    }
}

/// All that there is to report.
struct Evaluated<'a> {
    run: &'a RunDetail,
    epoch: u32,
    data: Measurable,
    measured: Measured,
    /// Images that there are, of which a part may have been measured.
    n_split_images: u64,
    /// Which look at these test images it was, if they are.
    look: Option<usize>,
    notes: Notes,
}

/// A run's spec as it was in a checkpoint's epoch, on another device where one is asked for.
pub(crate) fn spec_of_checkpoint(
    run: &RunDetail,
    checkpoint: &SavedCheckpoint,
    device: Option<DeviceChoice>,
) -> Result<LoadedSpec, Failure> {
    let sets: Vec<String> = device.iter().map(|device| format!("device={device}")).collect();
    let mut loaded = loaded_spec(run, &sets)?;
    loaded.spec = loaded.spec.in_epoch(checkpoint.epoch);
    Ok(loaded)
}

/// The checkpoint asked for, if its files are still there.
pub(crate) fn choose(run: &RunDetail, choice: CheckpointChoice) -> Result<&SavedCheckpoint, Failure> {
    let kept: Vec<&SavedCheckpoint> = run.checkpoints.iter().filter(|c| !c.deleted).map(|c| &c.saved).collect();
    let monitor = run.summary.params.get("checkpoint.monitor").and_then(Value::as_str);
    let best = monitor.and_then(|monitor| run.summary.metrics.get(monitor)?.best_epoch);
    let last = kept.last().map(|checkpoint| checkpoint.epoch);
    let epoch = match choice {
        CheckpointChoice::Best => best.or(last),
        CheckpointChoice::Last => last,
        CheckpointChoice::Epoch(epoch) => Some(epoch),
    };
    kept.iter().find(|checkpoint| Some(checkpoint.epoch) == epoch).copied().ok_or_else(|| Failure::NotThere {
        what: format!("the run {} has no such checkpoint", run.summary.name),
        hint: match kept.as_slice() {
            [] => "it ended before its first epoch did".to_owned(),
            kept => format!("it kept those of epochs {:?}", kept.iter().map(|c| c.epoch).collect::<Vec<_>>()),
        },
    })
}

/// The spec as the run resolved it, its folders relative to where it was.
pub(crate) fn loaded_spec(run: &RunDetail, sets: &[String]) -> Result<LoadedSpec, Failure> {
    let path = run.environment.get(SPEC_PATH).map_or_else(PathBuf::new, PathBuf::from);
    Ok(LoadedSpec::from_record(&path, run.resolved_json.clone(), sets)?)
}

/// The images to measure, with the classes that were trained.
fn listing(run: &RunDetail, loaded: &LoadedSpec, named: Option<&Path>) -> Result<(Split, Listing), Failure> {
    let data = &loaded.spec.data;
    let trained = run.data.as_ref().map(|data| data.classes.as_slice()).unwrap_or_default();
    let (split, listed) = match (named, &data.test) {
        (Some(path), _) => (Split::Test, source::list(&named_source(path, data, trained), Split::Test, Path::to_owned)),
        (None, Some(test)) => (Split::Test, listings::of_split(loaded, Split::Test, test)),
        (None, None) => (Split::Valid, listings::of_split(loaded, Split::Valid, &data.valid)),
    };
    let mut listing = listed.map_err(|error| Failure::NotThere {
        what: format!("cannot {error}"),
        hint: match named {
            Some(_) if on_features(data) => {
                "this run's data are features: `--data` takes a folder of `xp features`, or NAME.npy beside \
                 NAME_labels.npy"
                    .into()
            }
            Some(_) => "`--data` takes a folder that holds a folder of images for each class, or a .csv file".into(),
            None => error.hint().into(),
        },
    })?;
    listing.take_classes_of(trained).map_err(|_| Failure::Usage {
        what: format!("{} does not hold the classes the run was trained on", listing.origin.display()),
        hint: format!("they are {}", trained.join(", ")),
    })?;
    Ok((split, listing))
}

fn on_features(data: &Data) -> bool {
    matches!(data.train, ImageSource::Features(_))
}

/// A features file with the labels beside it, as `xp features` names them. Where no names of classes lie there, labels
/// count the run's.
fn named_features(path: &Path, trained: &[String]) -> ImageSource {
    let in_folder = ["test.npy", "valid.npy"].map(|name| path.join(name));
    let features = match path.is_dir() {
        true => in_folder.iter().find(|file| file.is_file()).unwrap_or(&in_folder[0]).clone(),
        false => path.to_owned(),
    };
    let stem = features.file_stem().unwrap_or_default().to_string_lossy();
    let labels = features.with_file_name(format!("{stem}_labels.npy"));
    let classes = features::names_file(&labels).is_none().then(|| trained.to_vec());
    ImageSource::Features(FeatureSource { features, labels, classes })
}

fn named_source(path: &Path, data: &Data, trained: &[String]) -> ImageSource {
    if on_features(data) {
        return named_features(path, trained);
    }
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) && path.is_file();
    let path = path.to_owned();
    if is_csv { ImageSource::Csv(CsvSource { csv: path }) } else { ImageSource::Folder(path) }
}

fn report(args: &EvaluateArgs, evaluated: &Evaluated<'_>) -> Result<(), Failure> {
    let Evaluated { run, epoch, data, measured: Measured { means, n_images }, n_split_images, look, notes } = evaluated;
    if args.json {
        let metrics: BTreeMap<String, Value> =
            means.iter().map(|(measure, value)| (measure.to_string(), json::number(Some(*value)))).collect();
        let skipped = notes.skipped.iter().map(json::skipped).collect::<Vec<_>>();
        return output::print_json(&json!({
            "schema": 1,
            "run": run.summary.id,
            "name": run.summary.name,
            "epoch": epoch,
            "data": data.origin,
            "metrics": metrics,
            "n_images": n_images,
            "n_split_images": n_split_images,
            "look": look,
            "skipped": skipped,
            "warnings": notes.warnings,
        }));
    }
    for line in notes.lines() {
        output::say(&format!("warning: {line}\n"));
    }
    let values = means.iter().map(|(measure, value)| {
        let name = measure.to_string();
        format!("{name} {}", metric_text(&name, Some(*value)))
    });
    let counted =
        if n_images < n_split_images { format!("{n_images} of {n_split_images}") } else { n_images.to_string() };
    let look =
        look.filter(|look| *look > 1).map_or(String::new(), |look| format!("look {look} at these test images\n"));
    output::print(&format!(
        "{}, epoch {epoch}, on {data}: {}, {counted} images\n{look}",
        run.summary.name,
        values.collect::<Vec<_>>().join(" "),
    ))
}
