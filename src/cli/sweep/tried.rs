//! What a sweep is to try, held against the spec before anything is recorded.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::spec::LoadedSpec;
use crate::spec::problem::{Place, Problem, SpecError};
use crate::spec::schema::sweep::{Method, Sweep};
use crate::spec::wandb::{self, WandbSweep};
use crate::sweep::labels::{self, Labels};
use crate::sweep::point::Point;
use crate::sweep::search::{Space, SpaceProblem};
use crate::sweep::specs::Specs;
use crate::train::effect;
use crate::train::plan::{Plan, plan};

/// Points that are held against the images before the first one runs; of more, these stand for the rest.
pub(super) const MAX_CHECKED: usize = 200;

/// What to try, and what should be known of how it was read.
pub(crate) struct Tried {
    pub section: Sweep,
    pub notes: Vec<String>,
    /// The file that it was read from, where that is not the spec.
    origin: Option<Origin>,
}

/// A sweep file of another program, and where it has each key.
pub(super) struct Origin {
    path: PathBuf,
    text: String,
    places: BTreeMap<String, Place>,
}

/// Reads it from the spec's section, or from a sweep file of another program and what its names mean.
pub(crate) fn read(base: &LoadedSpec, file: Option<(&Path, &[String])>) -> Result<Tried, Failure> {
    match (file, &base.spec.sweep) {
        (Some((path, maps)), _) => {
            let failed = |reason| SpecError::Unreadable { path: path.to_owned(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            match wandb::read(&text, maps) {
                Ok(WandbSweep { section, places, notes }) => {
                    let origin = Some(Origin { path: path.to_owned(), text, places });
                    Ok(Tried { section, notes, origin })
                }
                Err(problems) => Err(SpecError::Invalid { path: path.to_owned(), text, problems }.into()),
            }
        }
        (None, Some(section)) => {
            let problems = base.out_of_range();
            if problems.is_empty() {
                Ok(Tried { section: section.clone(), notes: Vec::new(), origin: None })
            } else {
                Err(base.error(problems.to_vec()).into())
            }
        }
        (None, None) => Err(Failure::Usage {
            what: format!("{} has no `sweep:` section", base.path.display()),
            hint: "add one, such as `sweep: { parameters: { model.frozen_layers: { values: [11, 15] } } }`".into(),
        }),
    }
}

/// What can be tried, and what each point comes to.
pub(crate) struct Checked {
    pub space: Space,
    /// The points that are known before anything comes out, and the plans of the first of them.
    pub points: Vec<Point>,
    pub plans: Vec<Plan>,
}

/// Holds every point that is known against the spec, and the first of them against their images.
pub(crate) fn checked(base: &LoadedSpec, tried: &Tried, specs: &Specs) -> Result<Checked, Failure> {
    let Tried { section, origin, .. } = tried;
    let none_wrong = |problems: Vec<SpaceProblem>| match problems.is_empty() {
        true => Ok(()),
        false => Err(refusal(base, origin.as_ref(), problems)),
    };
    let space = Space::new(section).map_err(|problems| refusal(base, origin.as_ref(), problems))?;
    none_wrong(specs.problems(base, section))?;
    plan(base)?;
    let labels = Labels::of(specs.clone());
    let points = space.planned(section, &labels);
    // What TPE will draw is not known, but of which kind it is.
    if section.method == Method::Tpe {
        let sampled = space.sample(section, &labels);
        none_wrong(labels::problems((specs, &labels), section, &space, &sampled)?)?;
        plans(specs, &sampled)?;
    }
    none_wrong(labels::problems((specs, &labels), section, &space, &points)?)?;
    let plans = plans(specs, &points)?;
    // What is drawn may be the same now and then; a grid's combinations are chosen.
    if section.method == Method::Grid {
        none_wrong(same_plans(&points, &plans))?;
    }
    Ok(Checked { space, points, plans })
}

/// What is wrong with what is to be tried, where it was written.
pub(super) fn refusal(base: &LoadedSpec, origin: Option<&Origin>, problems: Vec<SpaceProblem>) -> Failure {
    let located = |SpaceProblem { key, message, hint }: SpaceProblem| {
        let place = |origin: &Origin| origin.places.get(key.strip_prefix("parameters.")?).cloned();
        let spec_key = key.strip_prefix('/').map_or_else(|| format!("sweep.{key}"), str::to_owned);
        let problem = Problem { place: origin.and_then(place), ..Problem::new(&spec_key, message, hint) };
        Problem { hint: problem.hint.filter(|hint| !hint.is_empty()), ..problem }
    };
    let problems = problems.into_iter().map(located).collect();
    match origin {
        None => base.error(problems).into(),
        Some(Origin { path, text, .. }) => {
            SpecError::Invalid { path: path.clone(), text: text.clone(), problems }.into()
        }
    }
}

/// The metric that ranks points decides which epoch is kept; a spec that names another is told so.
pub(super) fn monitor_note(base: &LoadedSpec, section: &Sweep) -> Option<String> {
    let (own, metric) = (base.spec.checkpoint.monitor.key(), section.metric.key());
    (base.is_written("checkpoint.monitor") && own != metric).then(|| {
        format!(
            "trials keep, test and use the epoch with the best {metric}, by which they are ranked, not the best {own}"
        )
    })
}

/// Points whose specs differ, and that train the same.
fn same_plans(points: &[Point], plans: &[Plan]) -> Vec<SpaceProblem> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (place, plan) in plans.iter().enumerate() {
        if let Some(first) = seen.insert(effect::of(plan), place) {
            return labels::same(&points[first], &points[place], plan.spec.plan.is_empty());
        }
    }
    Vec::new()
}

/// The plan of every point, so that a value that does not fit is told before hours are spent on others.
fn plans(specs: &Specs, points: &[Point]) -> Result<Vec<Plan>, Failure> {
    let each = |point: &Point| Ok(plan(&specs.of_point(point)?)?);
    let plans: Vec<Plan> = points.iter().take(MAX_CHECKED).map(each).collect::<Result<_, Failure>>()?;
    output::say_of_plans(&plans);
    Ok(plans)
}
