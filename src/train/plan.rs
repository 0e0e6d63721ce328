//! A spec held against its images' names and its backbone: everything that can be known before the first image is read.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::data::features::{FeatureFile, FeatureShape, FeaturesError};
use crate::data::listing::Listing;
use crate::models::backbone;
use crate::models::classifier::NetworkPlan;
use crate::models::cost;
use crate::models::freeze::{Freeze, FreezeError, freeze};
use crate::models::head::{self, HeadPlan};
use crate::models::layout::Layout;
use crate::models::segment::Norms;
use crate::run::metric::{Measure, Split};
use crate::spec::LoadedSpec;
use crate::spec::problem::{Problem, SpecError};
use crate::spec::schema::data::Resize;
use crate::spec::schema::model::BatchNormMode;
use crate::spec::schema::monitor::Monitor;
use crate::spec::schema::plan::{PlanStep, StepRate};
use crate::spec::schema::schedule::Schedule;
use crate::spec::schema::source::ImageSource;
use crate::spec::schema::{ClassWeights, Loss, Spec};
use crate::train::listings;
use crate::train::pretrained::{located, matched, source};
use crate::train::rate_groups;
use crate::weights::locate::Located;
use crate::weights::preprocessing::PixelTransform;
use crate::weights::registry::Source;

/// A spec that fits its images and its backbone.
#[derive(Clone, Debug)]
pub struct Plan {
    pub spec: Spec,
    /// Train, valid and, where the spec has one, test; their classes are the same.
    pub listings: Vec<(Split, Listing)>,
    pub network: NetworkPlan,
    /// Channels, height and width of an image, or of its features.
    pub input_chw: [usize; 3],
    /// The file of the backbone's weights; `None` where they are drawn, or where there is no backbone.
    pub weights: Option<Located>,
    /// Whose form and preprocessing the backbone has; `None` without a backbone.
    pub source: Option<&'static Source>,
    /// What images go through before they enter the network.
    pub preprocessing: PixelTransform,
    pub filter: Resize,
    /// What the user should know before anything is done.
    pub warnings: Vec<String>,
    /// What was decided for the user.
    pub notes: Vec<String>,
    /// Batches of the test split that are measured; all images when left out.
    pub test_steps: Option<u32>,
    /// Whether any batch norm computes statistics of the batch, in the last step if not before.
    pub trains_norms: bool,
}

impl Plan {
    /// Class names; the index is the label.
    pub fn classes(&self) -> &[String] {
        &self.listings[0].1.classes
    }

    /// As it is in an epoch, counted from 1: with the layers and rates of that step.
    pub fn in_epoch(&self, epoch: u32) -> Cow<'_, Self> {
        if self.spec.plan.is_empty() {
            return Cow::Borrowed(self);
        }
        let spec = self.spec.in_epoch(epoch);
        let freeze = frozen(&spec, &self.network.layout).expect("the layers of every step were checked");
        Cow::Owned(Self { network: NetworkPlan { freeze, ..self.network.clone() }, spec, ..self.clone() })
    }

    /// Channels, height and width of the prefix's output.
    pub fn prefix_chw(&self) -> [usize; 3] {
        let [_, height, width] = self.input_chw;
        self.network.layout.output_chw(self.network.freeze.n_prefix_nodes, height, width)
    }

    /// Multiply-adds of one image: those of the whole backbone, and of its prefix alone.
    pub fn multiply_adds(&self) -> (u64, u64) {
        let [_, height, width] = self.input_chw;
        let costs = cost::multiply_adds(&self.network.layout, height, width);
        (costs.iter().sum(), costs[..self.network.freeze.n_prefix_nodes].iter().sum())
    }

    /// What decides which pixels an image's file comes to.
    pub fn images_json(&self) -> Value {
        let data = &self.spec.data;
        json!({ "size": data.image_size, "resize": self.filter, "exif": data.exif, "decode": data.decode })
    }

    /// The name of the last row of the prefix.
    pub fn cut(&self) -> &str {
        let NetworkPlan { layout, freeze, .. } = &self.network;
        let row = (1..=freeze.n_rows).find(|&n_rows| layout.n_nodes(n_rows) == freeze.n_prefix_nodes);
        row.and_then(|row| layout.row_name(row)).unwrap_or("input")
    }
}

/// Checks a spec against its images' names and its backbone, and reports all that does not fit together.
pub fn plan(loaded: &LoadedSpec) -> Result<Plan, SpecError> {
    let spec = &loaded.spec;
    let mut problems = loaded.out_of_range().to_vec();
    let listings = listings::of_spec(loaded, &mut problems);
    problems.extend(warmup_problem(spec));
    problems.extend(monitor_problems(spec));
    if let Some((Split::Train, train)) = listings.first() {
        problems.extend(class_problems(spec, &train.classes));
    }
    let weights = located(loaded, &mut problems);
    let train = listings.iter().find(|(split, _)| *split == Split::Train).map(|(_, listing)| listing);
    let shape = train.and_then(Listing::feature_shape);
    let layout = layout(spec, weights.as_ref(), shape);
    problems.extend(backbone_problems(spec, &layout));
    let matched = weights.as_ref().and_then(|weights| matched(spec, weights, &layout, &mut problems));
    let freeze =
        frozen(spec, &layout).map_err(|error| problems.push(freeze_problem(&error, &layout, freeze_key(spec, 0)))).ok();
    let input_chw = train.and_then(|_| input_chw(spec, shape));
    // Without an image and without a layer there is nothing to count.
    let countable = loaded.in_range("data.image_size") && loaded.in_range("model.head");
    let counted = train.map(|train| train.classes.len()).zip(input_chw).filter(|_| countable);
    let head = counted.and_then(|(n_classes, input_chw)| head_plan(spec, &layout, n_classes, input_chw, &mut problems));
    match (freeze, head, input_chw) {
        (Some(freeze), Some(head), Some(input_chw)) if problems.is_empty() => {
            let network =
                NetworkPlan { layout, freeze, norms: norms(spec), head, prefix_precision: spec.precision.prefix };
            let problems = step_problems(spec, &network);
            if !problems.is_empty() {
                return Err(loaded.error(problems));
            }
            let mut plan = assemble(spec, listings, network, input_chw, weights);
            if let Some(matched) = matched {
                plan.warnings.extend(matched.warnings.clone());
                plan.warnings.extend(matched.unused_warning());
                // Of a file whose hash is published there is nothing to say.
                let is_own = plan.weights.as_ref().is_some_and(|weights| weights.published.is_none());
                plan.notes.extend(is_own.then(|| matched.note()));
            }
            Ok(plan)
        }
        _ => Err(loaded.error(problems)),
    }
}

/// The network of a run, from the number of classes it was trained on; its images need not be there. Where it was
/// trained on features, their file says what their shape is.
pub fn plan_network(loaded: &LoadedSpec, n_classes: usize) -> Result<(NetworkPlan, [usize; 3]), SpecError> {
    let shape = trained_shape(loaded).map_err(|error| {
        let hint = "the shape of a run's features is in the file that it was trained on";
        loaded.error(vec![Problem::new("data.train.features", format!("cannot {error}"), hint)])
    })?;
    let layout = layout(&loaded.spec, None, shape);
    plan_for(loaded, layout, n_classes, shape)
}

/// The shape of the features that a spec trains on, if it does.
fn trained_shape(loaded: &LoadedSpec) -> Result<Option<FeatureShape>, FeaturesError> {
    match &loaded.spec.data.train {
        ImageSource::Features(source) => Ok(Some(FeatureFile::open(&loaded.resolve(&source.features))?.shape())),
        _ => Ok(None),
    }
}

fn plan_for(
    loaded: &LoadedSpec,
    layout: Layout,
    n_classes: usize,
    shape: Option<FeatureShape>,
) -> Result<(NetworkPlan, [usize; 3]), SpecError> {
    let mut problems = loaded.out_of_range().to_vec();
    let Some(input_chw) = input_chw(&loaded.spec, shape).filter(|_| problems.is_empty()) else {
        return Err(loaded.error(problems));
    };
    problems.extend(backbone_problems(&loaded.spec, &layout));
    let head = head_plan(&loaded.spec, &layout, n_classes, input_chw, &mut problems);
    match (frozen(&loaded.spec, &layout), head) {
        (Ok(freeze), Some(head)) if problems.is_empty() => {
            let (norms, prefix_precision) = (norms(&loaded.spec), loaded.spec.precision.prefix);
            Ok((NetworkPlan { layout, freeze, norms, head, prefix_precision }, input_chw))
        }
        (Err(error), _) => Err(loaded.error(vec![freeze_problem(&error, &layout, freeze_key(&loaded.spec, 0))])),
        (Ok(_), _) => Err(loaded.error(problems)),
    }
}

/// Checks a run's spec against images to measure; they must have the classes that were trained, in their order.
///
/// With `steps`, so many batches are measured, each class in its proportion, as `validation_steps` chooses them.
pub fn plan_evaluation(
    loaded: &LoadedSpec,
    split: Split,
    listing: Listing,
    steps: Option<u32>,
) -> Result<Plan, SpecError> {
    plan_evaluation_through(loaded, None, split, listing, steps)
}

/// The same with a head that stands on an earlier row of the backbone.
pub fn plan_evaluation_through(
    loaded: &LoadedSpec,
    last_row: Option<&str>,
    split: Split,
    listing: Listing,
    steps: Option<u32>,
) -> Result<Plan, SpecError> {
    let shape = listing.feature_shape();
    // Where the file is gone, the checkpoint's tensors tell.
    let trained = trained_shape(loaded).ok().flatten();
    if let Some(problem) = listings::shape_problem(split, shape, trained) {
        return Err(loaded.error(vec![Problem { key: "data.train.features".to_owned(), ..problem }]));
    }
    let mut problems = Vec::new();
    let weights = located(loaded, &mut problems);
    if !problems.is_empty() {
        return Err(loaded.error(problems));
    }
    // Without an image the file that was trained on tells.
    let shape = shape.or(trained);
    let layout = layout(&loaded.spec, weights.as_ref(), shape);
    let layout = match last_row {
        None => layout,
        Some(row) => layout.through(row).ok_or_else(|| {
            let message = format!("{} has no row {row} after which a single tensor passes", layout.name);
            loaded.error(vec![Problem::new("model.backbone", message, "`xp summary` lists the rows")])
        })?,
    };
    let (network, input_chw) = plan_for(loaded, layout, listing.classes.len(), shape)?;
    // Unless asked for, all images are measured, also where an epoch measured a part of them.
    let spec = Spec { validation_steps: steps, ..loaded.spec.clone() };
    Ok(Plan { test_steps: steps, ..assemble(&spec, vec![(split, listing)], network, input_chw, weights) })
}

fn assemble(
    spec: &Spec,
    listings: Vec<(Split, Listing)>,
    network: NetworkPlan,
    input_chw: [usize; 3],
    weights: Option<Located>,
) -> Plan {
    let source = spec.model.backbone.map(|backbone| source(&spec.model.weights, weights.as_ref(), backbone));
    let expected = source.map_or(PixelTransform::RAW, |source| source.preprocessing.pixels);
    let preprocessing = PixelTransform::of(spec.preprocess).unwrap_or(expected);
    let trained_with = source.and_then(|source| source.preprocessing.resize);
    let filter = spec.data.resize.or(trained_with).unwrap_or(Resize::Bilinear);
    let mut spec = spec.clone();
    if let Some(located) = &weights {
        spec.model.weights = spec.model.weights.bound_to(&located.blake3, located.source.name);
    }
    let warnings = source.filter(|_| preprocessing != expected).map(|source| {
        format!(
            "`preprocess: {}` gives the network {preprocessing}, and the weights {} expect {expected}",
            spec.preprocess.as_str(),
            source.name
        )
    });
    let warnings = warnings.into_iter().collect();
    let last = frozen(&spec.in_epoch(u32::MAX), &network.layout);
    let trains_norms = last.is_ok_and(|freeze| NetworkPlan { freeze, ..network.clone() }.trains_norms());
    Plan {
        spec,
        listings,
        network,
        input_chw,
        weights,
        source,
        preprocessing,
        filter,
        warnings,
        notes: Vec::new(),
        test_steps: None,
        trains_norms,
    }
}

/// The backbone's rows; none where the data are features.
fn layout(spec: &Spec, weights: Option<&Located>, features: Option<FeatureShape>) -> Layout {
    match spec.model.backbone {
        Some(backbone) => backbone::layout(backbone, source(&spec.model.weights, weights, backbone).form),
        None => Layout::input_only(features.map_or(3, |shape| shape.channels as usize)),
    }
}

/// What does not fit of the rates, and of the steps of a plan.
fn step_problems(spec: &Spec, network: &NetworkPlan) -> Vec<Problem> {
    let mut problems = Vec::new();
    let starts = spec.step_starts();
    let mut n_rows_before = u64::MAX;
    for (i, start) in starts.iter().enumerate() {
        let (step, in_step) = (spec.plan.get(i), spec.in_epoch(start + 1));
        let key = freeze_key(spec, i);
        let freeze = match frozen(&in_step, &network.layout) {
            Ok(freeze) => freeze,
            Err(error) => {
                problems.push(freeze_problem(&error, &network.layout, key));
                continue;
            }
        };
        if freeze.n_rows > n_rows_before {
            let message = format!("freezes {} rows, and the step before {n_rows_before}", freeze.n_rows);
            problems.push(Problem::new(&key, message, "the steps of a plan unfreeze; what has trained stays free"));
        }
        n_rows_before = freeze.n_rows;
        let has_parts = matches!(step.and_then(|step| step.learning_rate.as_ref()), Some(StepRate::Parts(_)));
        // Parts with a rate in all steps may be frozen in the first ones.
        if has_parts || i + 1 == starts.len() {
            let (_, found) = rate_groups::of(&in_step, &NetworkPlan { freeze, ..network.clone() });
            let key = |problem: &Problem| match problem.key.strip_prefix("learning_rates.") {
                Some(name) if has_parts => format!("plan[{i}].learning_rate.{name}"),
                _ => problem.key.clone(),
            };
            problems.extend(found.into_iter().map(|problem| Problem { key: key(&problem), ..problem }));
        }
    }
    let n_epochs: u64 = spec.plan.iter().map(|step| u64::from(step.epochs)).sum();
    if n_epochs > u64::from(spec.epochs) {
        let message = format!("the steps of the plan have {n_epochs} epochs, more than {}", spec.epochs);
        problems.push(Problem::new("epochs", message, "leave `epochs` out, or let it be their sum or more"));
    }
    problems
}

/// What stays as it is of the backbone, in the first step of a plan; the input of a head alone is no layer that could be frozen.
fn frozen(spec: &Spec, layout: &Layout) -> Result<Freeze, FreezeError> {
    match spec.model.backbone {
        Some(_) => freeze(&spec.in_epoch(1).model.frozen_layers, layout),
        None => Ok(Freeze::NONE),
    }
}

/// Channels, height and width of what enters the network: features as they are, or images of the spec's size.
fn input_chw(spec: &Spec, features: Option<FeatureShape>) -> Option<[usize; 3]> {
    match features {
        Some(shape) => Some([shape.channels, shape.height, shape.width].map(|side| side as usize)),
        None => {
            let size = spec.data.image_size.filter(|_| spec.model.backbone.is_some())?;
            Some([3, size.height as usize, size.width as usize])
        }
    }
}

fn norms(spec: &Spec) -> Norms {
    match spec.model.batch_norm {
        BatchNormMode::Frozen => Norms::Frozen,
        BatchNormMode::Train => Norms::Trained,
    }
}

/// Images too small for a backbone's pools.
fn backbone_problems(spec: &Spec, layout: &Layout) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(size) = spec.data.image_size.filter(|_| spec.model.backbone.is_some()) else { return problems };
    let smallest = layout.smallest_size();
    if (size.height.min(size.width) as usize) < smallest {
        let (name, height, width) = (layout.name, size.height, size.width);
        let message = format!("{name} needs images of at least {smallest}×{smallest}, found {height}×{width}");
        problems.push(Problem::new("data.image_size", message, format!("use `image_size: {smallest}` or more")));
    }
    problems
}

fn head_plan(
    spec: &Spec,
    layout: &Layout,
    n_classes: usize,
    input_chw: [usize; 3],
    problems: &mut Vec<Problem>,
) -> Option<HeadPlan> {
    let [_, height, width] = input_chw;
    let output = layout.output_chw(layout.nodes.len(), height, width);
    let layers = spec.model.head.clone().unwrap_or_else(|| head::default_layers(n_classes));
    match head::plan(&layers, n_classes, output) {
        Ok(plan) => {
            problems.extend(spec.loss.filter(|loss| *loss != plan.loss).map(|_| loss_problem(plan.loss)));
            Some(plan)
        }
        Err(found) => {
            problems.extend(
                found.into_iter().map(|problem| {
                    Problem::new(&format!("model.head.{}", problem.layer), problem.message, problem.hint)
                }),
            );
            None
        }
    }
}

/// A metric that decides something must be measured.
fn monitor_problems(spec: &Spec) -> Vec<Problem> {
    let early = spec.early_stopping.as_ref().map(|stopping| ("early_stopping.monitor", stopping.monitor));
    let plateau = match &spec.schedule {
        Schedule::Plateau(plateau) => Some(("schedule.plateau.monitor", plateau.monitor)),
        _ => None,
    };
    let named = std::iter::once(("checkpoint.monitor", spec.checkpoint.monitor)).chain(early).chain(plateau);
    let missing = |(key, monitor): (&str, Monitor)| match monitor.key().measure {
        Measure::TopK(k) if !spec.top_k.contains(&k) => {
            let message = format!("{} is not measured", monitor.key());
            Some(Problem::new(key, message, format!("add `top_k: [{k}]`")))
        }
        _ => None,
    };
    named.filter_map(missing).collect()
}

/// What names or counts classes must fit those that there are.
fn class_problems(spec: &Spec, classes: &[String]) -> Vec<Problem> {
    let n_classes = classes.len();
    let mut problems = Vec::new();
    for (i, k) in spec.top_k.iter().enumerate().filter(|(_, k)| usize::from(**k) >= n_classes) {
        let message = format!("every label is among the {k} most probable of {n_classes} classes");
        problems.push(Problem::new(&format!("top_k[{i}]"), message, "choose fewer than there are classes"));
    }
    for (i, k) in spec.top_k.iter().enumerate().filter(|(i, k)| spec.top_k[..*i].contains(k)) {
        problems.push(Problem::new(&format!("top_k[{i}]"), format!("{k} stands there twice"), "keep one of the two"));
    }
    if let Some(ClassWeights::ByClass(weights)) = &spec.class_weights {
        for class in weights.keys().filter(|class| !classes.contains(class)) {
            let message = format!("there is no class {class:?}");
            let hint = format!("the classes are {}", classes.join(", "));
            problems.push(Problem::new(&format!("class_weights.{class}"), message, hint));
        }
    }
    problems
}

fn warmup_problem(spec: &Spec) -> Option<Problem> {
    let warmup = spec.schedule.warmup_epochs();
    (warmup >= spec.epochs && warmup > 0).then(|| {
        let message = format!("{warmup} epochs of warm-up leave nothing of {} epochs", spec.epochs);
        Problem::new("schedule", message, "warm up for fewer epochs than there are")
    })
}

fn loss_problem(fitting: Loss) -> Problem {
    let name = match fitting {
        Loss::CrossEntropy => "cross_entropy",
        Loss::BinaryCrossEntropy => "binary_cross_entropy",
    };
    Problem::new("loss", "does not fit the head", format!("this head needs `loss: {name}`, which is also the default"))
}

/// Where the frozen layers of a plan's step are written.
fn freeze_key(spec: &Spec, step: usize) -> String {
    match spec.plan.get(step) {
        Some(PlanStep { frozen_layers: Some(_), .. }) => format!("plan[{step}].frozen_layers"),
        _ => "model.frozen_layers".to_owned(),
    }
}

fn freeze_problem(error: &FreezeError, layout: &Layout, key: String) -> Problem {
    let hint = match error {
        FreezeError::UnknownRow { name, .. } => match closest_row(layout, name) {
            Some(row) => format!("did you mean {row:?}? `xp summary {}` lists the rows", layout.name),
            None => format!("`xp summary {}` lists the rows", layout.name),
        },
        _ => format!("`xp summary {}` lists its rows and stages", layout.name),
    };
    Problem::new(&key, error.to_string(), hint)
}

/// A row that the given name is part of.
fn closest_row<'a>(layout: &'a Layout, name: &str) -> Option<&'a str> {
    layout.rows.iter().map(|row| row.name.as_str()).find(|row| !name.is_empty() && row.contains(name))
}
