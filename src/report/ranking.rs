//! The points of a sweep, best first, and whether their differences are more than chance.

use serde_json::{Value, json};

use crate::report::json::number;
use crate::report::number::{ABSENT, metric_text};
use crate::report::statistics::{holm, mean, paired_t_test, standard_deviation};
use crate::report::table::{Alignment, Column, table, wrapped};
use crate::run::metric::{Direction, MetricKey};

/// Below which a difference counts as shown.
const SIGNIFICANT: f64 = 0.05;

/// A point and what its seeds gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub label: String,
    /// Its values by key, for JSON.
    pub values: Value,
    /// Each seed and its best value of the metric, where it has one.
    pub seeds: Vec<(u64, Option<f64>)>,
    /// What keeps it from being complete: `2 of 3 seeds`, `stopped after 3 epochs`; empty when nothing does.
    pub note: String,
    /// The test split's metric of each seed that was tested.
    pub test: Vec<f64>,
}

/// Points in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub metric: MetricKey,
    pub rows: Vec<Row>,
    pub verdict: String,
}

/// A place in the ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub point: Point,
    pub mean: Option<f64>,
    pub std: Option<f64>,
    pub n: usize,
    /// How much worse it is than the first.
    pub behind: Option<f64>,
    /// Of a paired t-test against the first, corrected for all pairs of points.
    pub p: Option<f64>,
}

/// Ranks points by the mean over their seeds; those with fewer seeds, or an unfinished one, come after the complete ones.
pub fn rank(metric: MetricKey, points: Vec<Point>) -> Ranking {
    let loss = |row: &Row| row.mean.map_or(f64::INFINITY, |mean| worse_by(metric, mean, 0.0));
    let mut rows: Vec<Row> = points.into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        (!a.point.note.is_empty(), loss(a))
            .partial_cmp(&(!b.point.note.is_empty(), loss(b)))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let pairs: Vec<[usize; 2]> = (0..rows.len()).flat_map(|a| (a + 1..rows.len()).map(move |b| [a, b])).collect();
    let tested: Vec<([usize; 2], f64)> =
        pairs.into_iter().filter_map(|pair| Some((pair, paired_t_test(&common(&rows, pair))?))).collect();
    let p_values: Vec<f64> = tested.iter().map(|(_, p)| *p).collect();
    let corrected: Vec<([usize; 2], f64)> =
        tested.into_iter().zip(holm(&p_values)).map(|((pair, _), p)| (pair, p)).collect();
    let first = rows.first().and_then(|row| row.mean);
    for (place, row) in rows.iter_mut().enumerate().skip(1) {
        row.behind = row.mean.zip(first).map(|(mean, first)| worse_by(metric, mean, first));
        row.p = corrected.iter().find(|(pair, _)| *pair == [0, place]).map(|(_, p)| *p);
    }
    let verdict = verdict(&rows, &corrected);
    Ranking { metric, rows, verdict }
}

fn row(point: Point) -> Row {
    let values: Vec<f64> = point.seeds.iter().filter_map(|(_, value)| *value).collect();
    Row { mean: mean(&values), std: standard_deviation(&values), n: values.len(), behind: None, p: None, point }
}

fn worse_by(metric: MetricKey, value: f64, than: f64) -> f64 {
    if metric.direction() == Direction::Minimize { value - than } else { than - value }
}

/// The values of the seeds that two points share.
fn common(rows: &[Row], [a, b]: [usize; 2]) -> Vec<[f64; 2]> {
    let seeds = |row: usize| rows[row].point.seeds.iter().filter_map(|(seed, value)| Some((*seed, (*value)?)));
    let other: Vec<(u64, f64)> = seeds(b).collect();
    seeds(a).filter_map(|(seed, a)| Some([a, other.iter().find(|(of, _)| *of == seed)?.1])).collect()
}

fn verdict(rows: &[Row], corrected: &[([usize; 2], f64)]) -> String {
    let shown: Vec<_> = corrected.iter().filter(|(_, p)| *p < SIGNIFICANT).collect();
    if rows.len() < 2 {
        return "one point: nothing to compare".to_owned();
    }
    if corrected.is_empty() {
        return "not tested: that takes several seeds for each point, whose differences differ".to_owned();
    }
    let n_pairs = corrected.len();
    let s = if n_pairs == 1 { "" } else { "s" };
    let test = format!("paired t-tests, Holm's correction for {n_pairs} pair{s}");
    match shown[..] {
        [] => format!("no difference shown ({test})"),
        _ => {
            let pair = |([a, b], p): &&([usize; 2], f64)| {
                format!("{} before {} (p = {})", rows[*a].point.label, rows[*b].point.label, p_text(*p))
            };
            let more = if shown.len() > 3 { format!(" and {} pairs more", shown.len() - 3) } else { String::new() };
            let pairs = shown.iter().take(3).map(pair).collect::<Vec<_>>().join(", ");
            format!("shown: {pairs}{more} ({test})")
        }
    }
}

fn p_text(p: f64) -> String {
    if p < 0.001 { "<0.001".to_owned() } else { format!("{p:.3}") }
}

impl Ranking {
    /// The point that is chosen, unless none is complete.
    fn chosen(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.mean.is_some() && row.point.note.is_empty())
    }

    /// Within `width` characters where that is possible.
    pub fn text(&self, width: usize) -> String {
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
            column("n", Alignment::Right, &|row| row.n.to_string()),
            column("behind", Alignment::Right, &|row| value(row.behind)),
        ];
        if self.rows.iter().any(|row| row.p.is_some()) {
            columns.push(column("p", Alignment::Right, &|row| row.p.map_or(ABSENT.to_owned(), p_text)));
        }
        if self.rows.iter().any(|row| !row.point.note.is_empty()) {
            columns.push(column("note", Alignment::Left, &|row| row.point.note.clone()));
        }
        let mut text = table(&columns, width);
        text += &(wrapped(&self.verdict, 0, width) + "\n");
        if let Some(row) = self.chosen() {
            text += &format!("chosen by {key}: {}\n", row.point.label);
            if let Some(test) = mean(&row.point.test) {
                let name = test_name(self.metric);
                let std = standard_deviation(&row.point.test);
                let std = std.map_or(String::new(), |std| format!(" ± {}", metric_text(&name, Some(std))));
                let n = row.point.test.len();
                text += &format!("its {name}, looked at once: {}{std}, n = {n}\n", metric_text(&name, Some(test)));
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "point": row.point.values,
                "mean": number(row.mean),
                "std": number(row.std),
                "n": row.n,
                "behind": number(row.behind),
                "p": number(row.p),
                "seeds": row.point.seeds.iter()
                    .map(|(seed, value)| json!({ "seed": seed, "value": number(*value) })).collect::<Vec<_>>(),
                "note": row.point.note,
            })
        };
        let chosen = self.chosen().map(|row| {
            json!({ "point": row.point.values, "test": row.point.test.iter().map(|value| number(Some(*value))).collect::<Vec<_>>() })
        });
        json!({
            "metric": self.metric.to_string(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "verdict": self.verdict,
            "chosen": chosen,
        })
    }
}

/// The test split's name of a metric.
pub fn test_name(metric: MetricKey) -> String {
    format!("test.{}", metric.measure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metric::{Measure, Split};

    const ACCURACY: MetricKey = MetricKey::new(Split::Valid, Measure::Accuracy);

    fn point(label: &str, values: &[f64]) -> Point {
        Point {
            label: label.to_owned(),
            values: json!({ "x": label }),
            seeds: (0..).zip(values.iter().map(|value| Some(*value))).collect(),
            note: String::new(),
            test: values.iter().map(|value| value - 0.1).collect(),
        }
    }

    #[test]
    fn the_best_mean_is_first_and_chance_is_said() {
        let points =
            vec![point("a", &[0.70, 0.72, 0.71]), point("b", &[0.71, 0.70, 0.74]), point("c", &[0.5, 0.9, 0.6])];
        let ranking = rank(ACCURACY, points);
        let text = ranking.text(80);
        insta::assert_snapshot!(text, @r"
        point  valid.accuracy  n  behind      p
        ───────────────────────────────────────
        b      0.717 ± 0.021   3       –      –
        a      0.710 ± 0.010   3   0.007  1.000
        c      0.667 ± 0.208   3   0.050  1.000
        no difference shown (paired t-tests, Holm's correction for 3 pairs)
        chosen by valid.accuracy: b
        its test.accuracy, looked at once: 0.617 ± 0.021, n = 3
        ");
        assert_eq!(ranking.json()["rows"][0]["n"], 3);
    }

    #[test]
    fn a_difference_that_every_seed_shows_is_shown() {
        let a: Vec<f64> = (0..8).map(|i| 0.9 + 0.001 * f64::from(i % 3)).collect();
        let b: Vec<f64> = (0..8).map(|i| 0.7 + 0.002 * f64::from(i % 2)).collect();
        let text = rank(ACCURACY, vec![point("low", &b), point("high", &a)]).text(80);
        assert!(text.contains("shown: high before low (p = <0.001)"), "{text}");
    }

    #[test]
    fn an_incomplete_point_is_not_chosen_and_stands_last() {
        let mut good = point("good", &[0.9, 0.9]);
        good.note = "2 of 3 seeds".to_owned();
        let text = rank(ACCURACY, vec![good, point("done", &[0.5, 0.6, 0.7])]).text(80);
        insta::assert_snapshot!(text, @r"
        point  valid.accuracy  n  behind      p  note
        ─────────────────────────────────────────────────────
        done   0.600 ± 0.100   3       –      –
        good   0.900 ± 0.000   2  -0.300  0.090  2 of 3 seeds
        no difference shown (paired t-tests, Holm's correction for 1 pair)
        chosen by valid.accuracy: done
        its test.accuracy, looked at once: 0.500 ± 0.100, n = 3
        ");
    }
}
