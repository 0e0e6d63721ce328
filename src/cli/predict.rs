//! `xp predict`: the classes of images.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::json;

use crate::cli::behind::Behind;
use crate::cli::context::Context;
use crate::cli::evaluate::{CheckpointChoice, choose, spec_of_checkpoint};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::data::folder;
use crate::data::listing::{Listing, OtherFiles};
use crate::data::sheet::Sheet;
use crate::report::predictions::{self, Predicted};
use crate::run::detail::RunDetail;
use crate::run::id::RunId;
use crate::run::metric::Split;
use crate::spec::schema::weights::Selection;
use crate::spec::short_forms::DeviceChoice;
use crate::store::StoreError;
use crate::train::device;
use crate::train::plan::{Plan, plan_evaluation, plan_evaluation_through};
use crate::train::predict::{Prediction, Predictor};
use crate::weights::cache::Cache;
use crate::weights::classes;
use crate::weights::load::FileParameters;
use crate::weights::locate::{Located, Stored, how_to_bring, on_this_machine};
use crate::weights::matching::{Top, Wanted};
use crate::weights::registry::{self, Contents, Source};

/// Name the classes of images, by a run or by a backbone as it was trained on ImageNet.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// A run, as `xp show` takes it; a backbone such as efficientnet_lite0; a source of weights, as `xp weights list`
    /// names them; or, with `--as`, a file of weights with ImageNet's classifier.
    subject: String,
    /// Images, folders of images, or patterns such as 'photos/*.jpg'.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// The source whose layout and preprocessing a file of weights has, such as vgg19.keras.
    #[arg(long = "as", value_name = "SOURCE")]
    source: Option<String>,
    /// How many classes of each image are shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// Which checkpoint of a run: best, last or an epoch.
    #[arg(long, default_value = "best")]
    checkpoint: CheckpointChoice,
    /// Of a run that was trained on features: what made them, a folder of `xp features` or the spec it was given. By
    /// default the folder that the features lie in.
    #[arg(long, value_name = "DIR|SPEC")]
    behind: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// Write a page with the pictures and their classes as bars.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn predict(args: &PredictArgs, context: &Context) -> Result<(), Failure> {
    let paths = expanded(&args.images)?;
    let (predictor, names) = predictor(args, context)?;
    let (mut predictions, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        let prediction = fs::read(&path)
            .map_err(|error| format!("read the file: {error}"))
            .and_then(|bytes| predictor.predict(&bytes).map_err(|error| error.to_string()));
        match prediction {
            Ok(prediction) => {
                let predicted = predicted(path, &prediction, &names, args);
                if !args.json {
                    output::print(&predictions::text(&predicted))?;
                }
                predictions.push(predicted);
            }
            Err(reason) => {
                if !args.json {
                    output::say(&format!("warning: {}: cannot {reason}\n", path.display()));
                }
                faults.push((path, reason));
            }
        }
    }
    if args.json {
        let images = predictions.iter().map(|predicted| {
            let top =
                predicted.top.iter().map(|(class, probability)| json!({ "class": class, "probability": probability }));
            json!({ "path": predicted.path, "top": top.collect::<Vec<_>>() })
        });
        let faults = faults.iter().map(|(path, reason)| json!({ "path": path, "reason": reason }));
        output::print_json(&json!({
            "schema": 1,
            "subject": args.subject,
            "images": images.collect::<Vec<_>>(),
            "skipped": faults.collect::<Vec<_>>(),
        }))?;
    }
    if let Some(path) = &args.html {
        let page = predictions::page(&format!("What {} sees", args.subject), &predictions);
        let written = output::write_whole(path, page.as_bytes(), output::Overwrite::Always);
        written.map_err(|source| Failure::Io { what: format!("write {}", path.display()), source })?;
    }
    match faults.len() {
        0 => Ok(()),
        n_bad => Err(Failure::BadImages { n_bad }),
    }
}

/// The most probable classes; of equals the first.
fn predicted(path: PathBuf, prediction: &Prediction, names: &[String], args: &PredictArgs) -> Predicted {
    let mut top: Vec<(String, f64)> = names.iter().cloned().zip(prediction.probabilities.iter().copied()).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1));
    top.truncate(usize::from(args.top));
    Predicted { path, top, picture: args.html.as_ref().and_then(|_| picture(prediction)) }
}

fn picture(prediction: &Prediction) -> Option<String> {
    let seen = &prediction.seen;
    let mut sheet = Sheet::new(seen.height, seen.width, 1, 1).ok()?;
    sheet.put(0, 0, &seen.pixels_hwc);
    Some(BASE64_STANDARD.encode(sheet.png().ok()?))
}

/// The network, and its classes' names by label.
fn predictor(args: &PredictArgs, context: &Context) -> Result<(Predictor, Vec<String>), Failure> {
    if let Some(source) = &args.source {
        return of_file(source, args);
    }
    let of_backbone = registry::all().find(|source| source.backbone.as_str() == args.subject);
    match registry::by_name(&args.subject).or(of_backbone) {
        Some(source) => {
            let otherwise = match registry::by_name(&args.subject) {
                Some(_) => String::new(),
                None => format!(", `{}` the weights", source.name),
            };
            if let Some(run) = context.run_called(&args.subject)? {
                let short = run.short();
                return Err(Failure::Usage {
                    what: format!("{} is ambiguous: weights are called so, and the run {short}", args.subject),
                    hint: format!("`{short}` names the run{otherwise}"),
                });
            }
            of_source(source, args)
        }
        None => of_run(args, context),
    }
}

fn of_source(source: &'static Source, args: &PredictArgs) -> Result<(Predictor, Vec<String>), Failure> {
    let cache = Cache::of_user();
    let found = on_this_machine(source, Contents::WithTop, &cache);
    let located = found.map_err(|error| Failure::Weights { error, hint: None })?.ok_or_else(|| {
        let hint = source.file(Contents::WithTop).map_or_else(
            || "there are no trained weights of it; a run can be named too".to_owned(),
            |file| how_to_bring(source, file).replace("weights fetch", "weights fetch --top"),
        );
        let what = format!("{} with its classifier is not in {}", source.name, cache.dir.display());
        Failure::NotThere { what, hint }
    })?;
    by_imagenet(&located, args)
}

/// A file of the user's own, read as a source's.
fn of_file(source: &str, args: &PredictArgs) -> Result<(Predictor, Vec<String>), Failure> {
    let source = registry::by_name(source).ok_or_else(|| Failure::NotThere {
        what: format!("there are no weights called {source:?}"),
        hint: "`xp weights list` shows the sources".to_owned(),
    })?;
    let path = PathBuf::from(&args.subject);
    if !path.is_file() {
        let hint = "with `--as`, the first argument is a file of weights".to_owned();
        return Err(Failure::NotThere { what: format!("{} is no file", path.display()), hint });
    }
    let (stored, selection) = (Stored::File(path), Selection::default());
    let located = Located { source, stored, blake3: String::new(), published: None, selection };
    let plan = source.whole_network();
    FileParameters::located(&located, Wanted { layout: &plan.layout, top: Top::Needed(&plan.head) }).map_err(
        |error| {
            let hint = error
                .hint()
                .unwrap_or("this takes a file with ImageNet's classifier; a run of yours is named by itself");
            Failure::Usage { what: format!("cannot {error}"), hint: hint.to_owned() }
        },
    )?;
    by_imagenet(&located, args)
}

/// The network of some weights with ImageNet's classifier.
fn by_imagenet(located: &Located, args: &PredictArgs) -> Result<(Predictor, Vec<String>), Failure> {
    let device = device::open(args.device.unwrap_or_default())?;
    let names = classes::imagenet().iter().map(|class| class.name.to_owned()).collect();
    let (predictor, said) = Predictor::of_source(located, &device)?;
    said.iter().for_each(|text| output::say(&format!("warning: {text}\n")));
    Ok((predictor, names))
}

fn of_run(args: &PredictArgs, context: &Context) -> Result<(Predictor, Vec<String>), Failure> {
    let (store, id) = context.find_run(&args.subject).map_err(|failure| match failure {
        Failure::Store(StoreError::NotFound { query }) => Failure::NotThere {
            what: format!("{query:?} is no run, no backbone and no source of weights"),
            hint: "`xp list` shows the runs, `xp weights list` the sources".to_owned(),
        },
        other => other,
    })?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    let network = Network::WithBackbone { behind: args.behind.as_deref() };
    let (predictor, plan) = trained(context, &id, &run, args.checkpoint, args.device, network)?;
    Ok((predictor, plan.classes().to_vec()))
}

/// What of a network is wanted where a run has a head alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network<'a> {
    /// As it was trained.
    AsTrained,
    /// With the backbone before it, whose features it was trained on.
    WithBackbone { behind: Option<&'a Path> },
}

/// The network of a run's checkpoint, and its plan.
pub(crate) fn trained(
    context: &Context,
    id: &RunId,
    run: &RunDetail,
    checkpoint: CheckpointChoice,
    device: Option<DeviceChoice>,
    network: Network<'_>,
) -> Result<(Predictor, Plan), Failure> {
    let checkpoint = choose(run, checkpoint)?;
    let loaded = spec_of_checkpoint(run, checkpoint, device)?;
    let run_dir = context.home.run_dir(id);
    let classes = run.data.as_ref().map(|data| data.classes.clone()).unwrap_or_default();
    let listing =
        Listing { origin: PathBuf::new(), is_part: false, classes, images: Vec::new(), others: OtherFiles::default() };
    let device = device::open(loaded.spec.device)?;
    match (loaded.spec.model.backbone, network) {
        (None, Network::WithBackbone { behind }) => {
            let behind = Behind::of(run, &loaded, behind)?;
            let last_row = behind.last_row.as_deref();
            let plan = plan_evaluation_through(&behind.loaded, last_row, Split::Test, listing, None)?;
            behind.check(&run.summary.name, &plan)?;
            let weights_hash = behind.weights_hash.as_deref();
            let predictor = Predictor::of_run(&plan, &device, &run_dir, checkpoint, weights_hash)?;
            Ok((predictor, plan))
        }
        (Some(_), Network::WithBackbone { behind: Some(_) }) => Err(Failure::Usage {
            what: format!("the run {} has a backbone of its own", run.summary.name),
            hint: "`--behind` is for runs that were trained on features".to_owned(),
        }),
        _ => {
            let plan = plan_evaluation(&loaded, Split::Test, listing, None)?;
            let weights_hash = run.model.as_ref().map(|model| model.weights_hash.as_str());
            let predictor = Predictor::of_run(&plan, &device, &run_dir, checkpoint, weights_hash)?;
            Ok((predictor, plan))
        }
    }
}

/// Folders become the images in them, patterns what they match; a path that is there is itself.
fn expanded(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        if path.is_dir() {
            let found = folder::images_below(path).map_err(|error| Failure::NotThere {
                what: format!("cannot {error}"),
                hint: "this takes images, folders of images and patterns".to_owned(),
            })?;
            all.extend(found);
        } else if path.exists() || !text.contains(['*', '?', '[']) {
            all.push(path.clone());
        } else {
            all.extend(matching(&text)?);
        }
    }
    match all.iter().find(|path| !path.exists()) {
        Some(missing) => Err(Failure::NotThere {
            what: format!("{} is not there", missing.display()),
            hint: "this takes images, folders of images and patterns".to_owned(),
        }),
        None => Ok(all),
    }
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let usage =
        |what: String| Failure::Usage { what, hint: "`*` stands for a part of a name, `**` for folders".into() };
    let paths = glob::glob(pattern).map_err(|error| usage(format!("{pattern:?} is no pattern: {error}")))?;
    let found: Vec<PathBuf> = paths.filter_map(Result::ok).filter(|path| Path::is_file(path)).collect();
    if found.is_empty() {
        let hint = "this takes images, folders of images and patterns".to_owned();
        return Err(Failure::NotThere { what: format!("nothing matches {pattern}"), hint });
    }
    Ok(found)
}
