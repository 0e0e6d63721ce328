//! A new sweep: what it will try, held against the spec before anything is recorded.

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::{BeginArgs, carry_out, loaded, space};
use crate::report::bill as bill_report;
use crate::run::id::RunId;
use crate::run::sweep::SweepRecord;
use crate::spec::LoadedSpec;
use crate::spec::problem::SpecError;
use crate::spec::schema::sweep::{Method, Sweep};
use crate::spec::wandb;
use crate::store::connect::Store;
use crate::sweep::asha;
use crate::sweep::point::Point;
use crate::train::plan::{Plan, plan};
use crate::train::sweep_bill;

/// Points that are held against the spec and its images before the first one runs; of more, these stand for the rest.
pub(super) const MAX_CHECKED: usize = 200;

/// Points that `--dry-run` prints as text.
const MAX_PRINTED: usize = 200;

pub(super) fn begin(args: &BeginArgs, context: &Context) -> Result<(), Failure> {
    let path = args.spec.as_ref().expect("clap asks for it where there is no subcommand");
    let base = LoadedSpec::read(path, &args.sets)?;
    let (section, notes) = section(args, &base)?;
    let space = space(&base, &section)?;
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
    plan(&base)?;
    let points = space.planned(&section);
    let plans = plans(&sweep, &points)?;
    for note in &notes {
        output::say(&format!("note: {note}\n"));
    }
    if args.dry_run {
        return print_plan(args, &section, &base, &points, &plans);
    }
    let store = context.wait(Store::open(&context.home.database()))?;
    let name = context.wait(store.create_sweep(&sweep))?;
    context.wait(store.close());
    carry_out(context, &SweepRecord { name, ..sweep }, &args.how, false)
}

/// What to try, and what should be known of how it was read.
fn section(args: &BeginArgs, base: &LoadedSpec) -> Result<(Sweep, Vec<String>), Failure> {
    match (&args.wandb, &base.spec.sweep) {
        (Some(path), _) => {
            let failed = |reason| SpecError::Unreadable { path: path.clone(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            match wandb::read(&text, &args.maps) {
                Ok(read) => Ok((read.section, read.notes)),
                Err(problems) => Err(SpecError::Invalid { path: path.clone(), text, problems }.into()),
            }
        }
        (None, Some(section)) => {
            let problems = base.out_of_range();
            if problems.is_empty() {
                Ok((section.clone(), Vec::new()))
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
fn plans(sweep: &SweepRecord, points: &[Point]) -> Result<Vec<Plan>, Failure> {
    let each = |point: &Point| Ok(plan(&loaded(sweep, &point.sets())?)?);
    let plans: Vec<Plan> = points.iter().take(MAX_CHECKED).map(each).collect::<Result<_, Failure>>()?;
    output::say_of_plans(&plans);
    Ok(plans)
}

fn print_plan(
    args: &BeginArgs,
    section: &Sweep,
    base: &LoadedSpec,
    points: &[Point],
    plans: &[Plan],
) -> Result<(), Failure> {
    let n_seeds = section.seeds.len().max(1);
    let mut rungs = asha::rungs(section.asha, base.spec.epochs);
    rungs.pop();
    let bill = (plans.len() == points.len() && !plans.is_empty()).then(|| sweep_bill::of(plans, n_seeds as u64));
    if args.how.json {
        return output::print_json(&json!({
            "schema": 1,
            "points": points.iter().map(|point| &point.values).collect::<Vec<_>>(),
            "n_points": n_points(section, points),
            "seeds": if section.seeds.is_empty() { vec![base.spec.seed] } else { section.seeds.clone() },
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
    text += &format!(
        "{n_points} points × {n_seeds} seeds = {} trials of {} epochs\n",
        n_points * n_seeds,
        base.spec.epochs
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
