//! A new sweep: recorded, and carried out; or what it would try and cost.

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::tried::{self, Checked, Tried};
use crate::cli::sweep::{BeginArgs, carry_out};
use crate::report::bill as bill_report;
use crate::run::id::RunId;
use crate::run::sweep::SweepRecord;
use crate::spec::LoadedSpec;
use crate::spec::schema::sweep::{Method, Sweep};
use crate::store::connect::Store;
use crate::store::runs::RunName;
use crate::sweep::asha;
use crate::sweep::point::Point;
use crate::sweep::specs::Specs;
use crate::train::plan::Plan;
use crate::train::sweep_bill;

/// Points that `--dry-run` prints as text.
const MAX_PRINTED: usize = 200;

pub(super) fn begin(args: &BeginArgs, context: &Context) -> Result<(), Failure> {
    let path = args.spec.as_ref().expect("clap asks for it where there is no subcommand");
    let base = LoadedSpec::read(path, &args.sets)?;
    let tried = tried::read(&base, args.wandb.as_deref().map(|path| (path, &args.maps[..])))?;
    let Tried { section, .. } = &tried;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let sweep = SweepRecord {
        id: RunId::generate(),
        name: args.name.clone().unwrap_or_else(|| base.spec.name.clone()),
        created_at_ms: jiff::Timestamp::now().as_millisecond(),
        spec_path: absolute.display().to_string(),
        spec_yaml: base.text.clone(),
        sets: args.sets.clone(),
        section: serde_json::to_value(section).expect("a section has string keys and finite numbers"),
        is_needed_only: args.needed,
    };
    let specs = Specs::of(&sweep, section);
    let Checked { space, points, plans } = tried::checked(&base, &tried, &specs)?;
    for note in tried.notes.iter().chain(&tried::monitor_note(&base, section)) {
        output::say(&format!("note: {note}\n"));
    }
    if args.dry_run {
        let epochs = specs.epochs(&base, &space)?;
        return print_plan(args, section, (&base, epochs), &points, &plans);
    }
    let store = context.wait(Store::open(&context.home.database()))?;
    let name = match &args.name {
        Some(name) => RunName::Chosen(name.clone()),
        None => RunName::MadeUp(base.spec.name),
    };
    let name = context.wait(store.create_sweep(&sweep, &name))?;
    context.wait(store.close());
    carry_out(context, &SweepRecord { name, ..sweep }, &args.how, false)
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
