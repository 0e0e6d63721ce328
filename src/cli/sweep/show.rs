//! `xp sweep show`: how far a sweep is, and its points ranked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::sweep::progress::{point_of, trial_text};
use crate::cli::sweep::replicates::{Records, replicates};
use crate::cli::sweep::{ShowArgs, find, section_of};
use crate::report::ranking::{self, Looks, Ranking, rank};
use crate::report::table::wrapped;
use crate::run::id::RunId;
use crate::run::look;
use crate::run::metric::MetricKey;
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::spec::schema::sweep::{Method, Sweep};
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::sweep::driver::standing_of;
use crate::sweep::labels::Labels;
use crate::sweep::search::{Space, Tried};
use crate::sweep::specs::{self, Specs};
use crate::sweep::standing::{State, Trial};

/// Between two looks of `--follow`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Failed trials whose reason is printed.
const MAX_FAILED: usize = 5;

/// A sweep as it is shown.
pub(super) struct Shown {
    sweep: SweepRecord,
    trials: Vec<Trial>,
    /// Trials that are not begun, because their points were not chosen yet.
    n_to_come: usize,
    ranking: Ranking,
    /// What a reader must know of points before believing their labels.
    remarks: Vec<String>,
}

pub(super) fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let (store, sweep) = find(context, &args.sweep)?;
    context.wait(store.close());
    loop {
        let shown = shown(context, &sweep)?;
        if args.json {
            return output::print_json(&shown.json());
        }
        if args.follow && std::io::stdout().is_terminal() {
            // Home, and clear what is below.
            output::print("\x1b[H\x1b[J")?;
        }
        output::print(&shown.text(output::width()))?;
        if !args.follow || shown.n(|state| *state == State::Running) == 0 {
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
}

/// Looks at a sweep and tests its points against each other.
pub(super) fn shown(context: &Context, sweep: &SweepRecord) -> Result<Shown, Failure> {
    shown_by(context, sweep, Records::Read)
}

/// Looks at a sweep; where no record of images is read, only how far it is and which point is chosen is to be believed.
pub(super) fn shown_by(context: &Context, sweep: &SweepRecord, records: Records) -> Result<Shown, Failure> {
    let section = section_of(sweep)?;
    let store = context.existing_store()?.ok_or_else(|| StoreError::NoSuchSweep { query: sweep.name.clone() })?;
    let trials = context.wait(standing_of(&context.home, &store, sweep, &section))?;
    let metric = section.metric.key();
    let ids: Vec<_> = trials.iter().filter_map(|trial| trial.record.run.clone()).collect();
    let runs = context.wait(store.run_summaries(&ids, &context.observer()))?;
    let looks = context.wait(store.looks_of_runs(&ids))?;
    let untrue = context.wait(untrue(&store, &trials))?;
    let mut replicates = replicates(context, &store, &trials, (metric, records), &runs)?;
    let test = ranking::test_name(metric);
    let tested = |trial: &Trial| {
        let run = runs.iter().find(|run| Some(&run.id) == trial.record.run.as_ref())?;
        run.metrics.get(&test)?.last
    };
    let point = |trials: &[Trial]| {
        let values = trials[0].record.values.clone();
        let label = point_of(&trials[0].record).to_string();
        ranking::Point {
            label,
            values: Value::Object(values),
            replicates: replicates.drain(..trials.len()).collect(),
            note: if trials.iter().any(|trial| untrue.contains(&trial.record.key)) {
                "its record says otherwise".to_owned()
            } else {
                note(trials)
            },
            test: trials.iter().filter_map(tested).collect(),
        }
    };
    let points = trials.chunk_by(|a, b| a.record.key.point == b.record.key.point).map(point).collect();
    let mut ranking = rank(metric, points);
    let remarks = same_outcomes(&trials, &context.wait(store.trained_hashes(&ids))?);
    let shown = Shown {
        remarks,
        sweep: sweep.clone(),
        n_to_come: n_to_come(sweep, &section, &trials),
        ranking: ranking.clone(),
        trials,
    };
    let of_chosen = shown.chosen().and_then(|trials| {
        let look = looks.iter().rev().find(|look| trials.iter().any(|trial| trial.record.run == look.run))?;
        Some(look.split_hash.clone())
    });
    if let Some(hash) = of_chosen {
        let n_total = look::count(&context.wait(store.looks(&hash))?);
        let tested =
            |trial: &&Trial| trial.record.run.is_some() && looks.iter().any(|look| look.run == trial.record.run);
        let points: BTreeSet<u32> = shown.trials.iter().filter(tested).map(|trial| trial.record.key.point).collect();
        ranking.looks = Some(Looks { n_total, n_points: points.len() });
    }
    context.wait(store.close());
    Ok(Shown { ranking, ..shown })
}

/// Points whose trials came out the same with every seed, to the bit, whatever their labels say.
fn same_outcomes(trials: &[Trial], hashes: &BTreeMap<RunId, String>) -> Vec<String> {
    let mut by_outcome: BTreeMap<Vec<&String>, Vec<String>> = BTreeMap::new();
    for trials in trials.chunk_by(|a, b| a.record.key.point == b.record.key.point) {
        let outcome: Option<Vec<&String>> = trials.iter().map(|trial| hashes.get(trial.record.run.as_ref()?)).collect();
        if let Some(outcome) = outcome {
            by_outcome.entry(outcome).or_default().push(point_of(&trials[0].record).to_string());
        }
    }
    let same = by_outcome.into_values().filter(|points| points.len() > 1);
    same.map(|points| {
        format!("{} came out the same, to the bit: what tells them apart changed nothing", points.join(" and "))
    })
    .collect()
}

/// Trials that are still to be begun beside those that are recorded.
fn n_to_come(sweep: &SweepRecord, section: &Sweep, trials: &[Trial]) -> usize {
    let Ok(space) = Space::new(section) else { return 0 };
    let points = trials.chunk_by(|a, b| a.record.key.point == b.record.key.point);
    let tried = |trials: &[Trial]| Tried { point: point_of(&trials[0].record), value: None };
    let history: Vec<Tried> = points.map(tried).collect();
    let labels = Labels::of(Specs::of(sweep, section));
    let n_points = match (space.next(section, &history, &labels), section.method) {
        (None, _) => return 0,
        (Some(_), Method::Grid) => space.planned(section, &labels).len(),
        (Some(_), Method::Random | Method::Tpe) => section.trials.map_or(0, |n| n as usize),
    };
    let n_each = section.split_seeds.len().max(1) * section.seeds.len().max(1);
    (n_points * n_each).saturating_sub(trials.len())
}

/// Trials whose runs were not run as their labels say.
async fn untrue(store: &Store, trials: &[Trial]) -> Result<BTreeSet<TrialKey>, StoreError> {
    let ids: Vec<RunId> = trials.iter().filter_map(|trial| trial.record.run.clone()).collect();
    let records = store.resolved_specs(&ids).await?;
    let is_untrue = |trial: &&Trial| {
        let TrialRecord { key, run, .. } = &trial.record;
        let record = run.as_ref().and_then(|run| records.get(run));
        record.is_some_and(|record| !specs::is_recorded(record, &point_of(&trial.record), key))
    };
    Ok(trials.iter().filter(is_untrue).map(|trial| trial.record.key.clone()).collect())
}

/// What keeps a point from being complete; empty when nothing does.
fn note(trials: &[Trial]) -> String {
    let n = |is: fn(&State) -> bool| trials.iter().filter(|trial| is(&trial.state)).count();
    let n_finished = n(|state| *state == State::Finished);
    let epochs = trials.iter().filter_map(|trial| trial.values.last()).map(|(epoch, _)| *epoch).min().unwrap_or(0);
    if n_finished == trials.len() {
        String::new()
    } else if n(|state| *state == State::Paused) == trials.len() {
        format!("ended after {epochs} epochs")
    } else if n(|state| matches!(state, State::Failed(_))) > 0 {
        format!("{} of {} failed", n(|state| matches!(state, State::Failed(_))), trials.len())
    } else if n(|state| *state == State::Running) > 0 {
        format!("running, {n_finished} of {} done", trials.len())
    } else {
        format!("{n_finished} of {} done", trials.len())
    }
}

impl Shown {
    fn n(&self, is: impl Fn(&State) -> bool) -> usize {
        self.trials.iter().filter(|trial| is(&trial.state)).count()
    }

    pub fn n_failed(&self) -> usize {
        self.n(|state| matches!(state, State::Failed(_)))
    }

    pub fn metric(&self) -> MetricKey {
        self.ranking.metric
    }

    /// The trials of the point that was chosen.
    pub fn chosen(&self) -> Option<&[Trial]> {
        let values = &self.ranking.chosen()?.point.values;
        let mut points = self.trials.chunk_by(|a, b| a.record.key.point == b.record.key.point);
        points.find(|trials| Value::Object(trials[0].record.values.clone()) == *values)
    }

    /// One line: its name and how far it is.
    pub fn line(&self) -> String {
        let parts = [
            ("finished", self.n(|state| *state == State::Finished)),
            ("running", self.n(|state| *state == State::Running)),
            ("ended early", self.n(|state| *state == State::Paused)),
            ("interrupted", self.n(|state| *state == State::Interrupted)),
            ("waiting", self.n(|state| *state == State::Waiting) + self.n_to_come),
            ("failed", self.n_failed()),
        ];
        let parts = parts.iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}"));
        let parts = parts.collect::<Vec<_>>().join(", ");
        let n_trials = self.trials.len() + self.n_to_come;
        format!("{} ({})  {n_trials} trials: {parts}", self.sweep.name, self.sweep.id.short())
    }

    pub fn text(&self, width: usize) -> String {
        let mut text = format!("{}\n", self.line());
        if !self.trials.is_empty() {
            text += &self.ranking.text(width);
        }
        for remark in &self.remarks {
            text += &(wrapped(&format!("note: {remark}"), 0, width) + "\n");
        }
        let failed = self.trials.iter().filter_map(|trial| match &trial.state {
            State::Failed(error) => Some((trial, error)),
            _ => None,
        });
        for (trial, error) in failed.take(MAX_FAILED) {
            text += &format!("{} failed: {}\n", trial_text(&trial.record), error.trim());
        }
        text
    }

    pub fn json(&self) -> Value {
        let trial = |trial: &Trial| {
            let error = if let State::Failed(error) = &trial.state { Some(error) } else { None };
            json!({
                "point": trial.record.key.point,
                "split_seed": trial.record.key.split_seed,
                "seed": trial.record.key.seed,
                "values": trial.record.values,
                "state": state_name(&trial.state),
                "error": error,
                "run": trial.record.run,
                "reused": trial.record.is_reused,
                "epochs": trial.values.last().map_or(0, |(epoch, _)| *epoch),
            })
        };
        json!({
            "schema": 1,
            "id": self.sweep.id,
            "name": self.sweep.name,
            "created_at_ms": self.sweep.created_at_ms,
            "section": self.sweep.section,
            "trials": self.trials.iter().map(trial).collect::<Vec<_>>(),
            "n_trials": self.trials.len() + self.n_to_come,
            "ranking": self.ranking.json(),
            "remarks": self.remarks,
        })
    }
}

fn state_name(state: &State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Running => "running",
        State::Interrupted => "interrupted",
        State::Paused => "paused",
        State::Finished => "finished",
        State::Failed(_) => "failed",
    }
}
