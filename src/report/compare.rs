//! What tells runs apart: the parameters that differ, the metrics and the time, side by side.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::report::json;
use crate::report::list::best_text;
use crate::report::number::{ABSENT, metric_text};
use crate::report::table::{Alignment, Column, GAP, least_width, stacked_tables, table, wrapped};
use crate::report::time::duration_text;
use crate::run::engine;
use crate::run::summary::{RunSummary, ShownState, State};

/// Narrowest a run's column is readable; with more runs than fit, each gets a line instead.
const LEAST_RUN: usize = 8;
/// Narrowest the column of names of parameters and metrics is readable.
const LEAST_NAME: usize = 19;
const LEAST_VALUE: usize = 10;

/// Which parameters to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownParams {
    Differing,
    All,
}

/// Runs and what is worth saying about them together.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    runs: &'a [RunSummary],
    shown: ShownParams,
    /// Names of the parameters that are not the same in every run.
    pub differing_params: Vec<String>,
    /// What a reader must know before believing the table.
    pub notes: Vec<String>,
}

impl<'a> Comparison<'a> {
    pub fn new(runs: &'a [RunSummary], shown: ShownParams) -> Self {
        let differing_params = differing_params(runs);
        let notes = notes(runs, &differing_params);
        Self { runs, shown, differing_params, notes }
    }

    /// A column a run while they fit, a line a run when there are more; notes first.
    pub fn text(&self, width: usize) -> String {
        let mut text: String =
            self.notes.iter().map(|note| wrapped(&format!("note: {note}"), 0, width) + "\n").collect();
        if self.runs.is_empty() {
            return text;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        if LEAST_NAME + self.runs.len() * (GAP + LEAST_RUN) <= width {
            let columns = self.columns(width);
            if least_width(&columns) <= width {
                return text + &table(&columns, width);
            }
        }
        text + &stacked_tables(self.rows(), width)
    }

    /// The runs as `xp list --json` gives them, and `differing_params`.
    pub fn json(&self) -> Value {
        json::comparison(self.runs, &self.differing_params)
    }

    fn params(&self) -> Vec<String> {
        match self.shown {
            ShownParams::Differing => self.differing_params.clone(),
            ShownParams::All => all_params(self.runs).into_iter().collect(),
        }
    }

    /// The table with a column a run.
    fn columns(&self, width: usize) -> Vec<Column> {
        let params = self.params();
        let metrics = metrics(self.runs);
        let room = width.saturating_sub((LEAST_RUN + GAP) * self.runs.len());
        let labels = labels(&params, room);
        let mut names = vec!["id".to_owned(), "state".to_owned()];
        names.extend(labels);
        for metric in &metrics {
            if measured_once(metric) {
                names.push(metric.clone());
            } else {
                names.extend([format!("{metric} best"), "  at epoch".to_owned(), "  last".to_owned()]);
            }
        }
        names.push("time".to_owned());
        let shared = shared_prefix(self.runs);
        let mut columns = vec![Column::new("", Alignment::Left, names).shrinking_to(LEAST_NAME)];
        for run in self.runs {
            let cells = run_cells(run, &params, &metrics);
            columns.push(Column::new(&run.name[shared..], Alignment::Left, cells).shrinking_to(LEAST_RUN));
        }
        columns
    }

    /// The columns of the table with a line a run.
    fn rows(&self) -> Vec<Column> {
        let params = self.params();
        let column = |header: &str, cell: &dyn Fn(&RunSummary) -> String| {
            Column::new(header, Alignment::Left, self.runs.iter().map(cell))
        };
        let shared = shared_prefix(self.runs);
        let mut columns = vec![
            column("run", &|run| format!("{} {}", &run.name[shared..], run.id.short())).shrinking_to(LEAST_NAME),
            column("state", &|run| run.state.to_string()),
        ];
        for (param, label) in params.iter().zip(labels(&params, 0)) {
            columns.push(
                column(&label, &|run| param_text(run, param)).shrinking_to(label.chars().count().max(LEAST_VALUE)),
            );
        }
        for metric in metrics(self.runs) {
            if measured_once(&metric) {
                columns.push(column(&metric, &|run| last_text(run, &metric)));
            } else {
                // One column, so that no table below another begins with half of a metric.
                let cell = |run: &RunSummary| format!("{}, {}", best_text(run, &metric), last_text(run, &metric));
                columns.push(column(&format!("{metric}, last"), &cell));
            }
        }
        columns.push(column("time", &|run| duration_text(run.duration_ms())));
        columns
    }
}

/// The parameters that are not the same in every run, by name; one that a run lacks differs.
pub fn differing_params(runs: &[RunSummary]) -> Vec<String> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let differs = |name: &String| {
        let of_first = value(first, name);
        others.iter().any(|run| !same(of_first.as_ref(), value(run, name).as_ref()))
    };
    all_params(runs).into_iter().filter(differs).collect()
}

/// A run's value of a parameter; of one that has several forms, what is below it as a map.
fn value(run: &RunSummary, name: &str) -> Option<Value> {
    let below =
        |(key, value): (&String, &Value)| Some((key.strip_prefix(name)?.strip_prefix('.')?.to_owned(), value.clone()));
    run.params.get(name).cloned().or_else(|| {
        let parts: Map<String, Value> = run.params.iter().filter_map(below).collect();
        (!parts.is_empty()).then_some(Value::Object(parts))
    })
}

/// Whether two values mean the same: `1` and `1.0` do, as one may come from a file and one from a flag.
fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left.and_then(Value::as_f64), right.and_then(Value::as_f64)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// The names of all parameters. One that is a value in one run and a map in another, as `model.frozen_layers` with a count and
/// with stages, is one name.
fn all_params(runs: &[RunSummary]) -> BTreeSet<String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.params.keys()).collect();
    let is_value = |prefix: &str| names.iter().any(|name| *name == prefix);
    let whole = |name: &&String| {
        let ends = name.match_indices('.').map(|(end, _)| end);
        ends.map(|end| &name[..end]).find(|prefix| is_value(prefix)).map_or_else(|| (*name).clone(), str::to_owned)
    };
    names.iter().map(whole).collect()
}

/// Every metric that some run has: validation first, as runs are chosen by it, then test, then training.
fn metrics(runs: &[RunSummary]) -> Vec<String> {
    let rank = |name: &&String| ["valid.", "test.", "train."].iter().position(|split| name.starts_with(split));
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.metrics.keys()).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| rank(name).unwrap_or(usize::MAX));
    names.into_iter().cloned().collect()
}

/// The test split is measured at the end alone: its best is its last.
fn measured_once(metric: &str) -> bool {
    metric.starts_with("test.")
}

fn notes(runs: &[RunSummary], differing_params: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    match runs.len() {
        0 => notes.push("there is no run to compare".to_owned()),
        1 => notes.push("there is only one run, so nothing can differ".to_owned()),
        _ if differing_params.is_empty() => notes.push("no parameter differs between these runs".to_owned()),
        _ => {}
    }
    for run in runs.iter().filter(|_| runs.len() > 1) {
        if engine::smooths_held_out_losses(run.engine.as_deref(), &run.params) {
            notes.push(format!(
                "valid.loss and test.loss of {} hold its label smoothing, as an earlier xp measured them: they are not \
                comparable with others",
                run.name
            ));
        }
    }
    for run in runs {
        let text = match run.state {
            ShownState::Recorded(State::Finished) => continue,
            ShownState::Recorded(State::Queued) => "is queued: it has not begun",
            ShownState::Recorded(State::Running) => "is running: its numbers may still change",
            ShownState::Recorded(State::Stopped) => "was stopped before it finished",
            ShownState::Recorded(State::Failed) => "failed before it finished",
            ShownState::Crashed => "crashed before it finished",
        };
        let cause = run.error.as_ref().map_or(String::new(), |error| format!(": {}", error.message));
        notes.push(format!("{} {text}{cause}", run.name));
    }
    notes
}

/// One run's cells from top to bottom, in the order of the names beside them.
fn run_cells(run: &RunSummary, params: &[String], metrics: &[String]) -> Vec<String> {
    let mut cells = vec![run.id.short().to_owned(), run.state.to_string()];
    cells.extend(params.iter().map(|param| param_text(run, param)));
    for metric in metrics {
        if !measured_once(metric) {
            let series = run.metrics.get(metric);
            let epoch = series.and_then(|series| series.best_epoch);
            cells.push(metric_text(metric, series.and_then(|series| series.best)));
            cells.push(epoch.map_or(ABSENT.to_owned(), |epoch| epoch.to_string()));
        }
        cells.push(last_text(run, metric));
    }
    cells.push(duration_text(run.duration_ms()));
    cells
}

fn last_text(run: &RunSummary, metric: &str) -> String {
    metric_text(metric, run.metrics.get(metric).and_then(|series| series.last))
}

fn param_text(run: &RunSummary, name: &str) -> String {
    value(run, name).as_ref().map_or(ABSENT.to_owned(), value_text)
}

/// A parameter as it would stand in a spec, in one line.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(value_text))),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key}: {}", value_text(value)));
            format!("{{ {} }}", joined(entries))
        }
        other => other.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// Whole names where they fit, else each name's shortest ending that no other shown name has.
fn labels(params: &[String], room: usize) -> Vec<String> {
    if params.iter().all(|param| param.chars().count() <= room) {
        return params.to_vec();
    }
    params.iter().map(|param| shortest_ending(param, params).to_owned()).collect()
}

fn shortest_ending<'a>(param: &'a str, params: &[String]) -> &'a str {
    let endings = param.rmatch_indices('.').map(|(dot, _)| &param[dot + 1..]);
    let unique = |ending: &&str| {
        let like =
            |other: &&String| other.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        params.iter().filter(like).count() == 1
    };
    endings.into_iter().find(unique).unwrap_or(param)
}

/// How much of every name is only the experiment they share.
fn shared_prefix(runs: &[RunSummary]) -> usize {
    let Some(first) = runs.first() else { return 0 };
    let prefix = format!("{}-", first.experiment);
    let shared = runs.iter().all(|run| run.name.len() > prefix.len() && run.name.starts_with(&prefix));
    if shared { prefix.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample::{params, series, summary};
    use crate::run::metric::Direction;
    use crate::run::summary::RunError;

    fn with_params(name: &str, pairs: &[(&str, Value)]) -> RunSummary {
        RunSummary { params: params(pairs), ..summary(name, "8Z9ABC") }
    }

    fn runs(n_runs: usize) -> Vec<RunSummary> {
        let names = ["calm-otter", "bold-comet", "rapid-lagoon", "still-pine", "brisk-fern", "quiet-reef", "wise-lark"];
        let run = |(index, name): (usize, &&str)| {
            let mut run = summary(&format!("fashion-{name}"), &format!("8Z9AB{index}"));
            run.params.insert("optimizer.adam.learning_rate".to_owned(), json!(10f64.powi(-2 - index as i32)));
            run.metrics.insert("test.accuracy".to_owned(), series(&[0.8351], Direction::Maximize));
            run
        };
        names[..n_runs].iter().enumerate().map(run).collect()
    }

    #[test]
    fn a_parameter_differs_when_a_value_is_another_or_missing() {
        let runs = [
            with_params(
                "a",
                &[("same", json!(1)), ("value", json!("x")), ("missing", json!(null)), ("list", json!([1]))],
            ),
            with_params("b", &[("same", json!(1.0)), ("value", json!("y")), ("list", json!([1]))]),
            with_params("c", &[("same", json!(1)), ("value", json!("x")), ("list", json!([1])), ("late", json!(true))]),
        ];
        assert_eq!(differing_params(&runs), ["late", "missing", "value"]);
        assert_eq!(differing_params(&runs[..1]), [""; 0]);
        assert_eq!(differing_params(&[]), [""; 0]);
    }

    #[test]
    fn a_parameter_of_several_forms_is_one() {
        let runs = [
            with_params("a", &[("model.frozen_layers", json!(15)), ("data.valid.fraction", json!(0.2))]),
            with_params("b", &[("model.frozen_layers.stages", json!(5)), ("data.valid.fraction", json!(0.2))]),
            with_params("c", &[("model.frozen_layers", json!("all")), ("data.valid", json!("valid"))]),
        ];
        assert_eq!(differing_params(&runs), ["data.valid", "model.frozen_layers"]);
        let cells = |name| runs.iter().map(|run| param_text(run, name)).collect::<Vec<_>>();
        assert_eq!(cells("model.frozen_layers"), ["15", "{ stages: 5 }", "all"]);
        assert_eq!(cells("data.valid"), ["{ fraction: 0.2 }", "{ fraction: 0.2 }", "valid"]);
        assert_eq!(differing_params(&runs[..2]), ["model.frozen_layers"]);
    }

    #[test]
    fn a_few_runs_are_columns() {
        let mut runs = runs(3);
        runs[1].params.insert("augment.horizontal_flip".to_owned(), json!(true));
        runs[2].metrics.clear();
        let text = Comparison::new(&runs, ShownParams::Differing).text(80);
        insta::assert_snapshot!(text, @r"
                                      calm-otter  bold-comet  rapid-lagoon
        ──────────────────────────────────────────────────────────────────
        id                            8Z9AB0      8Z9AB1      8Z9AB2
        state                         finished    finished    finished
        augment.horizontal_flip       –           true        –
        optimizer.adam.learning_rate  0.01        0.001       0.0001
        valid.accuracy best           0.848       0.848       –
          at epoch                    3           3           –
          last                        0.845       0.845       –
        valid.loss best               0.4867      0.4867      –
          at epoch                    3           3           –
          last                        0.4910      0.4910      –
        test.accuracy                 0.835       0.835       –
        time                          1 m 32 s    1 m 32 s    1 m 32 s
        ");
    }

    #[test]
    fn six_runs_fit_as_columns_and_seven_become_lines() {
        let text = Comparison::new(&runs(6), ShownParams::Differing).text(80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().any(|line| line.starts_with("learning_rate ")), "{text}");
        let text = Comparison::new(&runs(7), ShownParams::Differing).text(80);
        insta::assert_snapshot!(text, @r"
        run                  state     learning_rate  valid.accuracy, last
        ──────────────────────────────────────────────────────────────────
        calm-otter 8Z9AB0    finished  0.01           0.848 @3, 0.845
        bold-comet 8Z9AB1    finished  0.001          0.848 @3, 0.845
        rapid-lagoon 8Z9AB2  finished  0.0001         0.848 @3, 0.845
        still-pine 8Z9AB3    finished  0.00001        0.848 @3, 0.845
        brisk-fern 8Z9AB4    finished  1e-6           0.848 @3, 0.845
        quiet-reef 8Z9AB5    finished  1e-7           0.848 @3, 0.845
        wise-lark 8Z9AB6     finished  1e-8           0.848 @3, 0.845

        run                  valid.loss, last   test.accuracy  time
        ───────────────────────────────────────────────────────────────
        calm-otter 8Z9AB0    0.4867 @3, 0.4910  0.835          1 m 32 s
        bold-comet 8Z9AB1    0.4867 @3, 0.4910  0.835          1 m 32 s
        rapid-lagoon 8Z9AB2  0.4867 @3, 0.4910  0.835          1 m 32 s
        still-pine 8Z9AB3    0.4867 @3, 0.4910  0.835          1 m 32 s
        brisk-fern 8Z9AB4    0.4867 @3, 0.4910  0.835          1 m 32 s
        quiet-reef 8Z9AB5    0.4867 @3, 0.4910  0.835          1 m 32 s
        wise-lark 8Z9AB6     0.4867 @3, 0.4910  0.835          1 m 32 s
        ");
    }

    #[test]
    fn a_hundred_runs_are_all_there() {
        let run = |index| summary(&format!("fashion-run-{index}"), "8Z9ABC");
        let runs: Vec<_> = (0..100).map(run).collect();
        let text = Comparison::new(&runs, ShownParams::All).text(80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(runs.iter().all(|run| text.contains(&run.name["fashion-".len()..])), "{text}");
    }

    #[test]
    fn all_parameters_are_shown_when_asked_for() {
        let runs = runs(2);
        let text = Comparison::new(&runs, ShownParams::All).text(80);
        assert!(text.contains("seed "), "{text}");
    }

    #[test]
    fn what_limits_a_comparison_is_noted() {
        let notes = |runs: &[RunSummary]| Comparison::new(runs, ShownParams::Differing).notes;
        assert_eq!(notes(&[]), ["there is no run to compare"]);
        assert_eq!(Comparison::new(&[], ShownParams::All).text(80), "note: there is no run to compare\n");
        assert_eq!(notes(&runs(1)), ["there is only one run, so nothing can differ"]);
        assert_eq!(notes(&runs(2)), [""; 0]);
        let mut same = [summary("owl", "8Z9ABC"), summary("lark", "8Z9AB1")];
        same[0].state = ShownState::Crashed;
        same[1].state = ShownState::Recorded(State::Failed);
        same[1].error = Some(RunError { message: "out of memory".to_owned(), cause: None, place: None });
        assert_eq!(
            notes(&same),
            [
                "no parameter differs between these runs",
                "owl crashed before it finished",
                "lark failed before it finished: out of memory",
            ]
        );
    }

    #[test]
    fn losses_that_hold_label_smoothing_are_noted() {
        let runs = |engine: Option<&str>, smoothing: f64| {
            let mut runs = runs(2);
            runs[0].params.insert("label_smoothing".to_owned(), json!(smoothing));
            runs[0].engine = engine.map(str::to_owned);
            Comparison::new(&runs, ShownParams::Differing).notes.len()
        };
        assert_eq!([runs(None, 0.1), runs(None, 0.0), runs(Some("2"), 0.1), runs(Some("1, 2"), 0.1)], [1, 0, 0, 1]);
    }

    #[test]
    fn shortened_names_stay_apart() {
        let names = ["model.head.units", "model.tail.units", "optimizer.adam.learning_rate", "seed"].map(str::to_owned);
        assert_eq!(labels(&names, 30), names);
        assert_eq!(labels(&names, 16), ["head.units", "tail.units", "learning_rate", "seed"]);
    }

    #[test]
    fn json_reuses_the_runs_of_a_list() {
        let runs = runs(2);
        let value = Comparison::new(&runs, ShownParams::Differing).json();
        assert_eq!(value["differing_params"], json!(["optimizer.adam.learning_rate"]));
        assert_eq!(value["runs"], json::list(&runs)["runs"]);
        assert_eq!(value["schema"], 1);
    }
}
