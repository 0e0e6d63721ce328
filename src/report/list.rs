//! The table of runs that `xp list` prints: a run a line.

use std::collections::BTreeSet;

use crate::report::number::{ABSENT, metric_text};
use crate::report::table::{Alignment, Column, least_width, table};
use crate::report::time::{duration_text, minute_text, short_minute_text};
use crate::run::metric::{Measure, MetricKey, Split};
use crate::run::summary::RunSummary;

const VALID_ACCURACY: MetricKey = MetricKey::new(Split::Valid, Measure::Accuracy);
const VALID_LOSS: MetricKey = MetricKey::new(Split::Valid, Measure::Loss);
const TEST_ACCURACY: MetricKey = MetricKey::new(Split::Test, Measure::Accuracy);

/// The metrics that [`list`] shows; it needs no parameters and no tags.
pub const METRICS: [MetricKey; 3] = [VALID_ACCURACY, VALID_LOSS, TEST_ACCURACY];

/// Narrowest a name may become while there is another column to give up.
const READABLE_NAME: usize = 18;
const LEAST_NAME: usize = 8;

/// What a table leaves out where the terminal is too narrow, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Full,
    /// Without the experiment, which the name begins with.
    Name,
    /// Without the year.
    Day,
    /// Without the duration.
    Start,
    /// Without the time of creation; the runs are in its order.
    Result,
}

/// Lays out runs as they come, one a line, within `width` characters where that is possible.
///
/// Accuracy and loss are the best of the validation split with their epochs.
pub fn list(runs: &[RunSummary], width: usize) -> String {
    if runs.is_empty() {
        return "no runs\n".to_owned();
    }
    let results = results(runs);
    for detail in [Detail::Full, Detail::Name, Detail::Day, Detail::Start] {
        let columns = columns(runs, &results, detail, READABLE_NAME);
        if least_width(&columns) <= width {
            return table(&columns, width);
        }
    }
    table(&columns(runs, &results, Detail::Result, LEAST_NAME), width)
}

/// The best value with the epoch it was reached in: `0.848 @9`.
pub(crate) fn best_text(run: &RunSummary, key: &str) -> String {
    let Some(series) = run.metrics.get(key) else { return ABSENT.to_owned() };
    match (series.best, series.best_epoch) {
        (Some(best), Some(epoch)) => format!("{} @{epoch}", metric_text(key, Some(best))),
        // Nothing but NaN is told apart from nothing at all.
        (best, _) => metric_text(key, best.or(series.last)),
    }
}

/// What came of the runs: the columns that no width leaves out, and that take the longest to make.
fn results(runs: &[RunSummary]) -> [Column; 3] {
    let left =
        |header, cell: &dyn Fn(&RunSummary) -> String| Column::new(header, Alignment::Left, runs.iter().map(cell));
    let [accuracy, loss, test] = METRICS.map(|key| key.to_string());
    // The test split is measured once, so its best is its only value.
    let test_text = |run: &RunSummary| metric_text(&test, run.metrics.get(&test).and_then(|series| series.last));
    [
        left("accuracy", &|run| best_text(run, &accuracy)),
        left("loss", &|run| best_text(run, &loss)),
        left("test", &test_text),
    ]
}

fn columns(runs: &[RunSummary], results: &[Column], detail: Detail, least_name: usize) -> Vec<Column> {
    let left =
        |header: &str, cell: fn(&RunSummary) -> String| Column::new(header, Alignment::Left, runs.iter().map(cell));
    let right =
        |header: &str, cell: fn(&RunSummary) -> String| Column::new(header, Alignment::Right, runs.iter().map(cell));
    let experiments: BTreeSet<&str> = runs.iter().map(|run| run.experiment.as_str()).collect();
    let mut columns = vec![
        left("name", |run| run.name.clone()).shrinking_to(least_name),
        left("id", |run| run.id.short().to_owned()),
        left("state", |run| run.state.to_string()),
    ];
    if detail == Detail::Full && experiments.len() > 1 {
        columns.insert(2, left("experiment", |run| run.experiment.clone()).shrinking_to(READABLE_NAME));
    }
    if detail < Detail::Day {
        columns.push(left("created (UTC)", |run| minute_text(run.created_at_ms)));
    } else if detail < Detail::Result {
        columns.push(left("created", |run| short_minute_text(run.created_at_ms)));
    }
    if detail < Detail::Start {
        columns.push(right("time", |run| duration_text(run.duration_ms())));
    }
    columns.extend_from_slice(results);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{series, summary};
    use crate::run::metric::Direction;
    use crate::run::summary::{ShownState, State};

    fn runs() -> Vec<RunSummary> {
        let mut unmeasured = summary("cats-and-dogs-brisk-lagoon-2", "7Y8QRS");
        unmeasured.experiment = "cats-and-dogs".to_owned();
        unmeasured.metrics.clear();
        unmeasured.state = ShownState::Crashed;
        let mut diverged = summary("fashion-bold-comet", "5T6DEF");
        diverged.state = ShownState::Recorded(State::Running);
        diverged.ended_at_ms = None;
        diverged.metrics.insert("valid.loss".to_owned(), series(&[f64::NAN, f64::NAN], Direction::Minimize));
        diverged.metrics.insert("test.accuracy".to_owned(), series(&[0.851], Direction::Maximize));
        vec![summary("fashion-calm-otter", "8Z9ABC"), diverged, unmeasured]
    }

    #[test]
    fn a_wide_terminal_shows_every_column() {
        insta::assert_snapshot!(list(&runs(), 120), @r"
        name                          id      experiment     state     created (UTC)         time  accuracy  loss       test
        ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        fashion-calm-otter            8Z9ABC  fashion        finished  2026-11-24 10:52  1 m 32 s  0.848 @3  0.4867 @3  –
        fashion-bold-comet            5T6DEF  fashion        running   2026-11-24 10:52  1 m 32 s  0.848 @3  NaN        0.851
        cats-and-dogs-brisk-lagoon-2  7Y8QRS  cats-and-dogs  crashed   2026-11-24 10:52  1 m 32 s  –         –          –
        ");
    }

    #[test]
    fn eighty_columns_keep_names_and_results() {
        insta::assert_snapshot!(list(&runs(), 80), @r"
        name                   id      state     created      accuracy  loss       test
        ────────────────────────────────────────────────────────────────────────────────
        fashion-calm-otter     8Z9ABC  finished  11-24 10:52  0.848 @3  0.4867 @3  –
        fashion-bold-comet     5T6DEF  running   11-24 10:52  0.848 @3  NaN        0.851
        cats-and-d…k-lagoon-2  7Y8QRS  crashed   11-24 10:52  –         –          –
        ");
    }

    #[test]
    fn lines_never_pass_the_width_while_a_name_can_shrink() {
        for width in 58..200 {
            let text = list(&runs(), width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
        }
    }

    #[test]
    fn one_experiment_needs_no_column() {
        let text = list(&runs()[..1], 200);
        assert!(!text.contains("experiment"), "{text}");
        assert_eq!(list(&[], 80), "no runs\n");
    }
}
