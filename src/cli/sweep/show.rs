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
use crate::run::event::DataFacts;
use crate::run::id::RunId;
use crate::run::look;
use crate::run::metric::{MetricKey, Split};
use crate::run::stretch::STRETCHES;
use crate::run::summary::RunSummary;
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::spec::schema::sweep::{Method, Sweep};
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::sweep::driver::standing_of;
use crate::sweep::labels::Labels;
use crate::sweep::search::{Space, Tried};
use crate::sweep::specs::Specs;
use crate::sweep::standing::{Standing, State, Trial, by_point};

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
    let mut images = BTreeMap::new();
    for id in &ids {
        images.extend(context.wait(store.data_facts(id))?.map(|facts| (id.clone(), facts)));
    }
    let specs = Specs::of(sweep, &section);
    let resolved = context.wait(store.resolved_specs(&ids))?;
    let untrue = untrue((&specs, &section), &trials, &runs, (&resolved, &images));
    let mut replicates = replicates(context, &store, &trials, (metric, records), (&runs, &images))?;
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
            note: match trials.iter().find_map(|trial| untrue.get(&trial.record.key)) {
                Some(why) => (*why).to_owned(),
                None => note(trials),
            },
            test: trials.iter().filter_map(tested).collect(),
        }
    };
    let mut ranking = rank(metric, by_point(&trials).map(point).collect());
    let labels = Labels::of(specs.clone());
    let n_to_come = n_to_come(&section, &trials, &labels);
    ranking.is_open = is_open(&specs, &section, &labels, &trials);
    let remarks = remarks((&section, n_to_come), &trials, &runs, &context.wait(store.trained_hashes(&ids))?);
    let mut shown = Shown { sweep: sweep.clone(), trials, n_to_come, ranking, remarks };
    let of_chosen = shown.chosen().and_then(|trials| {
        let look = looks.iter().rev().find(|look| trials.iter().any(|trial| trial.record.run == look.run))?;
        Some(look.split_hash.clone())
    });
    if let Some(hash) = of_chosen {
        let n_total = look::count(&context.wait(store.looks(&hash))?);
        let tested =
            |trial: &&Trial| trial.record.run.is_some() && looks.iter().any(|look| look.run == trial.record.run);
        let points: BTreeSet<u32> = shown.trials.iter().filter(tested).map(|trial| trial.record.key.point).collect();
        shown.ranking.looks = Some(Looks { n_total, n_points: points.len() });
    }
    context.wait(store.close());
    Ok(shown)
}

/// Whether a driver would find something to do: a point to try, to train on or to judge. Of a section or a spec that is
/// refused today nothing can be done.
fn is_open(specs: &Specs, section: &Sweep, labels: &Labels, trials: &[Trial]) -> bool {
    let (Ok(space), Ok(base)) = (Space::new(section), specs.base()) else { return false };
    let Ok([_, epochs]) = specs.epochs(&base, &space) else { return false };
    !Standing { section, space: &space, labels, epochs, trials: trials.to_vec() }.is_complete()
}

/// What a reader must know of the points.
fn remarks(
    (section, n_to_come): (&Sweep, usize),
    trials: &[Trial],
    runs: &[RunSummary],
    hashes: &BTreeMap<RunId, String>,
) -> Vec<String> {
    let metric = section.metric.key().to_string();
    let monitor = |run: &RunSummary| Some(run.params.get("checkpoint.monitor")?.as_str()?.to_owned());
    let others: BTreeSet<String> = runs.iter().filter_map(monitor).filter(|monitor| *monitor != metric).collect();
    let n_points = by_point(trials).count();
    let n_wanted = section.trials.map_or(0, |n| n as usize);
    let is_exhausted = section.method != Method::Grid && n_to_come == 0 && n_points < n_wanted;
    let exhausted = is_exhausted.then(|| {
        format!("nothing new was left to draw: {n_points} of {n_wanted} points, all others are excluded or train as one of them")
    });
    let others = others.iter().map(|other| {
        format!("some runs keep the epoch with the best {other}, and are ranked by {metric} in that epoch: others have the better chances")
    });
    exhausted.into_iter().chain(others).chain(same_outcomes(section, trials, hashes)).collect()
}

/// Points whose trials came out the same with every seed, to the bit, whatever their labels say.
fn same_outcomes(section: &Sweep, trials: &[Trial], hashes: &BTreeMap<RunId, String>) -> Vec<String> {
    let direction = section.metric.key().direction();
    let outcome = |trial: &Trial| {
        let hash = hashes.get(trial.record.run.as_ref()?)?;
        Some((hash, trial.kept(direction)?.to_bits()))
    };
    let mut by_outcome: BTreeMap<Vec<(&String, u64)>, Vec<String>> = BTreeMap::new();
    for trials in by_point(trials) {
        if let Some(outcome) = trials.iter().map(outcome).collect::<Option<Vec<_>>>() {
            by_outcome.entry(outcome).or_default().push(point_of(&trials[0].record).to_string());
        }
    }
    let same = by_outcome.into_values().filter(|points| points.len() > 1);
    let remark = |points: Vec<String>| {
        format!("{} came out the same, to the bit: what tells them apart changed nothing", points.join(" and "))
    };
    same.map(remark).collect()
}

/// Trials that are still to be begun beside those that are recorded.
fn n_to_come(section: &Sweep, trials: &[Trial], labels: &Labels) -> usize {
    let Ok(space) = Space::new(section) else { return 0 };
    let tried = |trials: &[Trial]| Tried { point: point_of(&trials[0].record), value: None };
    let history: Vec<Tried> = by_point(trials).map(tried).collect();
    let n_points = match (space.next(section, &history, labels), section.method) {
        (None, _) => return 0,
        (Some(_), Method::Grid) => space.planned(section, labels).len(),
        (Some(_), Method::Random | Method::Tpe) => section.trials.map_or(0, |n| n as usize),
    };
    let n_each = section.split_seeds.len().max(1) * section.seeds.len().max(1);
    (n_points * n_each).saturating_sub(trials.len())
}

/// Keys below `data` that leave the images as they are.
const SAME_IMAGES: [&str; 5] = ["data.batch_size", "data.image_size", "data.resize", "data.exif", "data.decode"];

/// Why trials are not to be held against others: their runs were not run as their labels say, also where they went on since
/// as nobody's label says, or on images that have changed since the first one.
fn untrue(
    (specs, section): (&Specs, &Sweep),
    trials: &[Trial],
    runs: &[RunSummary],
    (resolved, images): (&BTreeMap<RunId, String>, &BTreeMap<RunId, DataFacts>),
) -> BTreeMap<TrialKey, &'static str> {
    let tries_images =
        section.parameters.keys().any(|key| key.starts_with("data") && !SAME_IMAGES.contains(&key.as_str()));
    let mut first_images: BTreeMap<Option<u64>, Vec<&str>> = BTreeMap::new();
    let mut untrue = BTreeMap::new();
    for trial in trials {
        let TrialRecord { key, run: Some(id), .. } = &trial.record else { continue };
        let run = runs.iter().find(|run| run.id == *id);
        let is_stretched = run.is_some_and(|run| run.params.contains_key(STRETCHES));
        if is_stretched || resolved.get(id).is_some_and(|record| !specs.are_in(record, &point_of(&trial.record), key)) {
            untrue.insert(key.clone(), "its record says otherwise");
            continue;
        }
        let Some(facts) = images.get(id).filter(|_| !tries_images) else { continue };
        let chosen_by = facts.splits.iter().filter(|split| split.split != Split::Test);
        let hashes: Vec<&str> = chosen_by.map(|split| split.hash.as_str()).collect();
        let first = first_images.entry(key.split_seed).or_insert_with(|| hashes.clone());
        if *first != hashes {
            untrue.insert(key.clone(), "other images than the first");
        }
    }
    untrue
}

/// A sweep in one line, its points not looked at.
pub(super) fn far(context: &Context, store: &Store, sweep: &SweepRecord) -> Result<String, Failure> {
    let section = section_of(sweep)?;
    let trials = context.wait(standing_of(&context.home, store, sweep, &section))?;
    Ok(line(sweep, &trials, n_to_come(&section, &trials, &Labels::as_written())))
}

/// A sweep's name and how far it is.
fn line(sweep: &SweepRecord, trials: &[Trial], n_to_come: usize) -> String {
    let n = |is: fn(&State) -> bool| trials.iter().filter(|trial| is(&trial.state)).count();
    let parts = [
        ("finished", n(|state| *state == State::Finished)),
        ("running", n(|state| *state == State::Running)),
        ("ended early", n(|state| *state == State::Paused)),
        ("interrupted", n(|state| *state == State::Interrupted)),
        ("waiting", n(|state| *state == State::Waiting) + n_to_come),
        ("failed", n(|state| matches!(state, State::Failed(_)))),
    ];
    let parts = parts.iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}"));
    let parts = parts.collect::<Vec<_>>().join(", ");
    format!("{} ({})  {} trials: {parts}", sweep.name, sweep.id.short(), trials.len() + n_to_come)
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

    /// Trials that were begun and are neither finished, nor waiting for their point to be judged, nor failed.
    pub fn n_left(&self) -> usize {
        self.n(|state| matches!(state, State::Interrupted | State::Waiting | State::Running))
    }

    pub fn n_failed(&self) -> usize {
        self.n(|state| matches!(state, State::Failed(_)))
    }

    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        !self.ranking.is_open
    }

    pub fn metric(&self) -> MetricKey {
        self.ranking.metric
    }

    /// The trials of the point that was chosen.
    pub fn chosen(&self) -> Option<&[Trial]> {
        let values = &self.ranking.chosen()?.point.values;
        by_point(&self.trials).find(|trials| Value::Object(trials[0].record.values.clone()) == *values)
    }

    /// One line: its name and how far it is.
    fn line(&self) -> String {
        line(&self.sweep, &self.trials, self.n_to_come)
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
