//! A ranking as text, and what can be said of its differences.

use crate::report::bootstrap;
use crate::report::number::{ABSENT, count_text, metric_text};
use crate::report::ranking::family::{Family, Kind, Pair};
use crate::report::ranking::{Looks, Ranking, Row, distinct, test_name};
use crate::report::statistics::{mean, standard_deviation};
use crate::report::table::{Alignment, Column, table, wrapped};

/// Below which a difference counts as shown.
const SIGNIFICANT: f64 = 0.05;

/// Pairs that are named.
const MAX_PAIRS: usize = 3;

/// Runs that are named.
const MAX_RUNS: usize = 5;

/// What the tests say, by which method and of how much.
pub fn verdict(rows: &[Row], family: &Family) -> String {
    if rows.len() < 2 {
        return "one point: nothing to compare".to_owned();
    }
    match rows.iter().filter(|row| row.is_comparable()).count() {
        0 => return "no complete point yet: nothing to compare".to_owned(),
        1 => return "one complete point: nothing to compare".to_owned(),
        _ => {}
    }
    let Some(kind) = family.kind else { return not_tested(family) };
    let n_pairs = family.n_pairs;
    let tested = if family.pairs.len() < n_pairs { ", of which those with the best are tested" } else { "" };
    let method = format!("{}; Holm's correction for {}{tested}", method(kind, family), counted(n_pairs, "pair"));
    let shown: Vec<&Pair> = family.pairs.iter().filter(|pair| pair.p < SIGNIFICANT).collect();
    // The lowest p is multiplied by the number of pairs, and no other can count before it does.
    let is_too_few = |n: &usize| bootstrap::lowest_p(*n) * n_pairs as f64 >= SIGNIFICANT;
    if let Some(n) = family.n_replicates.filter(|n| shown.is_empty() && is_too_few(n)) {
        let n = count_text(n as u64);
        return format!("no difference shown: {n} replicates are too few to show one among so many pairs ({method})");
    }
    if shown.is_empty() {
        return format!("no difference shown ({method})");
    }
    let pair = |pair: &&Pair| {
        let [a, b] = pair.places.map(|place| &rows[place].point.label);
        format!("{a} before {b} (p = {})", p_text(pair.p))
    };
    let more = shown.len().saturating_sub(MAX_PAIRS);
    let more = if more > 0 { format!(" and {} more", counted(more, "pair")) } else { String::new() };
    let pairs = shown.iter().take(MAX_PAIRS).map(pair).collect::<Vec<_>>().join(", ");
    format!("shown: {pairs}{more} ({method})")
}

fn method(kind: Kind, family: &Family) -> String {
    let seeds = counted(family.n_seeds, "seed");
    match kind {
        Kind::CorrectedT => {
            let images = family.n_images.map_or(String::new(), |[fewest, most]| match fewest == most {
                true => format!(", {} each", counted_images(most)),
                false => format!(", {} to {} each", count_text(fewest), counted_images(most)),
            });
            let splits = counted(family.n_splits, "split");
            format!("{splits} × {seeds}{images}; Nadeau and Bengio's corrected t over splits")
        }
        Kind::Bootstrap => {
            let images = counted_images(family.n_images.map_or(0, |[n, _]| n));
            let n = count_text(family.n_replicates.unwrap_or(0) as u64);
            format!("bootstrap over {images} × {seeds}, one split, {n} replicates")
        }
        Kind::PairedT => {
            let why = family.why.as_ref().map_or(String::new(), |why| format!(", since {why}"));
            format!("paired t-tests over {seeds}: seeds alone, one split{why}")
        }
    }
}

fn not_tested(family: &Family) -> String {
    let why = family.why.as_ref().map_or(String::new(), |why| format!(", and {why}"));
    match family.n_splits {
        1 => format!(
            "not tested: that takes a record of every validation image, or several seeds for each point, whose differences \
             differ{why}"
        ),
        n => format!("not tested: {n} splits whose differences do not differ{why}"),
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", count_text(n as u64), if n == 1 { "" } else { "s" })
}

fn counted_images(n: u64) -> String {
    format!("{} validation image{}", count_text(n), if n == 1 { "" } else { "s" })
}

fn p_text(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

/// Replicates of a row: a number, or splits × seeds.
fn n_text(row: &Row, n_splits: usize) -> String {
    let of_row = distinct(row.point.replicates.iter().filter(|of| of.value.is_some()).filter_map(|of| of.split_seed));
    if n_splits > 1 && of_row > 0 && row.n.is_multiple_of(of_row) {
        format!("{of_row} × {}", row.n / of_row)
    } else {
        row.n.to_string()
    }
}

impl Ranking {
    /// Within `width` characters where that is possible.
    pub fn text(&self, width: usize) -> String {
        let mut text = table(&self.columns(), width);
        text += &(wrapped(&self.verdict, 0, width) + "\n");
        let Some(row) = self.leading() else { return text };
        if self.is_open {
            let line = format!("best so far, before all points are done: {}", row.point.label);
            return text + &(wrapped(&line, 0, width) + "\n");
        }
        let key = self.metric.to_string();
        text += &(wrapped(&format!("chosen by {key}: {}{}", row.point.label, runs_text(row)), 0, width) + "\n");
        if let Some(test) = mean(&row.point.test) {
            let name = test_name(self.metric);
            let std = standard_deviation(&row.point.test);
            let std = std.map_or(String::new(), |std| format!(" ± {}", metric_text(&name, Some(std))));
            let n = row.point.test.len();
            let measured = format!("{}{std}, n = {n}", metric_text(&name, Some(test)));
            let line = match self.looks {
                Some(Looks { n_total: 1, .. }) => format!("its {name}, looked at once: {measured}"),
                Some(looks) => format!("its {name}: {measured}; {}", looks_text(looks)),
                None => format!("its {name}: {measured}"),
            };
            text += &(wrapped(&line, 0, width) + "\n");
        }
        text
    }

    fn columns(&self) -> Vec<Column> {
        let key = self.metric.to_string();
        let column = |header: &str, alignment, cell: &dyn Fn(&Row) -> String| {
            Column::new(header, alignment, self.rows.iter().map(cell))
        };
        let value = |value: Option<f64>| metric_text(&key, value);
        let mut columns = vec![
            column("point", Alignment::Left, &|row| row.point.label.clone()).shrinking_to(12),
            column(&key, Alignment::Left, &|row| match row.std {
                Some(std) => format!("{} ± {}", value(row.mean), value(Some(std))),
                None => value(row.mean),
            }),
            column("n", Alignment::Right, &|row| n_text(row, self.family.n_splits)),
            column("behind", Alignment::Right, &|row| value(row.behind)),
        ];
        if self.rows.iter().any(|row| row.p.is_some()) {
            columns.push(column("95 %", Alignment::Right, &|row| match row.interval {
                Some([low, high]) => format!("{} to {}", value(Some(low)), value(Some(high))),
                None => ABSENT.to_owned(),
            }));
            columns.push(column("p", Alignment::Right, &|row| row.p.map_or(ABSENT.to_owned(), p_text)));
        }
        if self.rows.iter().any(|row| !row.point.note.is_empty()) {
            columns.push(column("note", Alignment::Left, &|row| row.point.note.clone()).shrinking_to(16));
        }
        columns
    }
}

/// That test images were looked at before, so that what they say is better than the truth.
fn looks_text(Looks { n_total, n_points }: Looks) -> String {
    let points = if n_points > 1 { format!(", {n_points} of them for points of this sweep") } else { String::new() };
    format!("these test images were looked at {n_total} times{points}")
}

/// The names of a point's runs, in brackets.
fn runs_text(row: &Row) -> String {
    let runs = row.runs();
    let named = runs.iter().take(MAX_RUNS).copied().collect::<Vec<_>>().join(", ");
    match runs.len() {
        0 => String::new(),
        1 => format!(" (run {named})"),
        n if n > MAX_RUNS => format!(" (runs {named} and {} more)", n - MAX_RUNS),
        _ => format!(" (runs {named})"),
    }
}
