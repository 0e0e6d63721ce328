//! A new sweep: what it will try, held against the spec before anything is recorded.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::{BeginArgs, carry_out};
use crate::report::bill as bill_report;
use crate::run::id::RunId;
use crate::run::sweep::SweepRecord;
use crate::spec::LoadedSpec;
use crate::spec::problem::{Place, Problem, SpecError};
use crate::spec::schema::sweep::{Method, Sweep};
use crate::spec::wandb::{self, WandbSweep};
use crate::store::connect::Store;
use crate::store::runs::RunName;
use crate::sweep::asha;
use crate::sweep::labels::{self, Labels};
use crate::sweep::point::Point;
use crate::sweep::search::{Space, SpaceProblem};
use crate::sweep::specs::Specs;
use crate::train::effect;
use crate::train::plan::{Plan, plan};
use crate::train::sweep_bill;

/// Points that are held against the spec and its images before the first one runs; of more, these stand for the rest.
pub(super) const MAX_CHECKED: usize = 200;

/// Points that `--dry-run` prints as text.
const MAX_PRINTED: usize = 200;

pub(super) fn begin(args: &BeginArgs, context: &Context) -> Result<(), Failure> {
    let path = args.spec.as_ref().expect("clap asks for it where there is no subcommand");
    let base = LoadedSpec::read(path, &args.sets)?;
    let Tried { section, notes, origin } = section(args, &base)?;
    let space = Space::new(&section).map_err(|problems| refusal(&base, origin.as_ref(), problems))?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let sweep = SweepRecord {
        id: RunId::generate(),
        name: args.name.clone().unwrap_or_else(|| base.spec.name.clone()),
        created_at_ms: jiff::Timestamp::now().as_millisecond(),
        spec_path: absolute.display().to_string(),
        spec_yaml: base.text.clone(),
        sets: args.sets.clone(),
        section: serde_json::to_value(&section).expect("a section has string keys and finite numbers"),
        is_needed_only: args.needed,
    };
    let specs = Specs::of(&sweep, &section);
    let none_wrong = |problems: Vec<SpaceProblem>| match problems.is_empty() {
        true => Ok(()),
        false => Err(refusal(&base, origin.as_ref(), problems)),
    };
    none_wrong(specs.problems(&base, &section))?;
    plan(&base)?;
    let points = space.planned(&section, &Labels::of(specs.clone()));
    none_wrong(labels::problems(&specs, &section, &points)?)?;
    let plans = plans(&specs, &points)?;
    none_wrong(same_plans(&points, &plans))?;
    for note in notes.iter().chain(&monitor_note(&base, &section)) {
        output::say(&format!("note: {note}\n"));
    }
    if args.dry_run {
        let epochs = specs.epochs(&base, &space)?;
        return print_plan(args, &section, (&base, epochs), &points, &plans);
    }
    let store = context.wait(Store::open(&context.home.database()))?;
    let name = match &args.name {
        Some(name) => RunName::Chosen(name.clone()),
        None => RunName::MadeUp(base.spec.name.clone()),
    };
    let name = context.wait(store.create_sweep(&sweep, &name))?;
    context.wait(store.close());
    carry_out(context, &SweepRecord { name, ..sweep }, &args.how, false)
}

/// What to try, and what should be known of how it was read.
struct Tried {
    section: Sweep,
    notes: Vec<String>,
    /// The file that it was read from, where that is not the spec.
    origin: Option<Origin>,
}

/// A sweep file of another program, and where it has each key.
struct Origin {
    path: PathBuf,
    text: String,
    places: BTreeMap<String, Place>,
}

/// What is wrong with what is to be tried, where it was written.
fn refusal(base: &LoadedSpec, origin: Option<&Origin>, problems: Vec<SpaceProblem>) -> Failure {
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
fn monitor_note(base: &LoadedSpec, section: &Sweep) -> Option<String> {
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

fn section(args: &BeginArgs, base: &LoadedSpec) -> Result<Tried, Failure> {
    match (&args.wandb, &base.spec.sweep) {
        (Some(path), _) => {
            let failed = |reason| SpecError::Unreadable { path: path.clone(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            match wandb::read(&text, &args.maps) {
                Ok(WandbSweep { section, places, notes }) => {
                    let origin = Some(Origin { path: path.clone(), text, places });
                    Ok(Tried { section, notes, origin })
                }
                Err(problems) => Err(SpecError::Invalid { path: path.clone(), text, problems }.into()),
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

/// The plan of every point, so that a value that does not fit is told before hours are spent on others.
fn plans(specs: &Specs, points: &[Point]) -> Result<Vec<Plan>, Failure> {
    let each = |point: &Point| Ok(plan(&specs.of_point(point)?)?);
    let plans: Vec<Plan> = points.iter().take(MAX_CHECKED).map(each).collect::<Result<_, Failure>>()?;
    output::say_of_plans(&plans);
    Ok(plans)
}

fn print_plan(
    args: &BeginArgs,
    section: &Sweep,
    (base, [fewest, most]): (&LoadedSpec, [u32; 2]),
    points: &[Point],
    plans: &[Plan],
) -> Result<(), Failure> {
    let (n_splits, n_seeds) = (section.split_seeds.len().max(1), section.seeds.len().max(1));
    let mut rungs = asha::rungs(section.asha, most);
    rungs.pop();
    let bill =
        (plans.len() == points.len() && !plans.is_empty()).then(|| sweep_bill::of(plans, (n_splits * n_seeds) as u64));
    if args.how.json {
        return output::print_json(&json!({
            "schema": 1,
            "points": points.iter().map(|point| &point.values).collect::<Vec<_>>(),
            "n_points": n_points(section, points),
            "seeds": if section.seeds.is_empty() { vec![base.spec.seed] } else { section.seeds.clone() },
            "split_seeds": section.split_seeds,
            "epochs": { "min": fewest, "max": most },
            "rungs": rungs,
            "bill": bill.as_ref().map_or(Value::Null, |bill| json!(bill)),
        }));
    }
    let mut text: String = points.iter().take(MAX_PRINTED).map(|point| format!("{point}\n")).collect();
    if points.len() > MAX_PRINTED {
        text += &format!("and {} points more\n", points.len() - MAX_PRINTED);
    }
    let n_points = n_points(section, points);
    if section.method == Method::Tpe {
        text += "each point depends on what came out before it\n";
    }
    let splits = if section.split_seeds.is_empty() { String::new() } else { format!(" × {n_splits} splits") };
    let epochs = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    text += &format!(
        "{n_points} points{splits} × {n_seeds} seeds = {} trials of {epochs} epochs\n",
        n_points * n_splits * n_seeds,
    );
    if !rungs.is_empty() {
        let rungs = rungs.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        text += &format!("the better ones train on after {rungs} epochs\n");
    }
    if let Some(bill) = bill {
        text += &bill_report::sweep_text(&bill, output::width());
    }
    output::print(&text)
}

fn n_points(section: &Sweep, points: &[Point]) -> usize {
    match section.method {
        Method::Tpe => section.trials.map_or(0, |trials| trials as usize),
        Method::Grid | Method::Random => points.len(),
    }
}
