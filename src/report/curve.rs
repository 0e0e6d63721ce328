//! What a learning-curve picture shows: panels of curves, chosen from runs' points.

use crate::run::metric::{Direction, Measure, MetricKey, Point, Split};

/// One set of axes: epochs across, one measure up.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub y_label: String,
    /// Whether better is higher.
    pub rises: bool,
    /// No value of the measure is below or above these; the axis ends there too.
    pub bounds: (f64, f64),
    pub curves: Vec<Curve>,
}

impl Panel {
    /// A range of the axis, cut where the measure cannot go.
    pub(crate) fn limited(&self, (low, high): (f64, f64)) -> (f64, f64) {
        // A little beyond a bound, so that a curve along it is not cut in half.
        let margin = 0.02 * (high - low);
        (low.max(self.bounds.0 - margin), high.min(self.bounds.1 + margin))
    }
}

/// One line of a panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// `None` leaves the curve out of the legend.
    pub label: Option<String>,
    /// Epoch and value, by epoch.
    pub points: Vec<(f64, f64)>,
    /// The point to mark.
    pub best: Option<(f64, f64)>,
    /// Which of the palette's colours; curves of one run share it when several runs are shown.
    pub colour: usize,
    pub stroke: Stroke,
}

/// How a line is drawn, so that colour is never the only difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    Solid,
    Dashed,
}

/// One run's points of each epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSeries {
    pub name: String,
    pub series: Vec<(MetricKey, Vec<Point>)>,
}

/// The loss and the accuracy of runs, training dashed and validation solid.
///
/// The test split is a single measurement and has no curve. One run is coloured by split, several are coloured by run.
pub fn panels(runs: &[RunSeries]) -> Vec<Panel> {
    [Measure::Loss, Measure::Accuracy].map(|measure| panel(measure, runs)).into()
}

fn panel(measure: Measure, runs: &[RunSeries]) -> Panel {
    let mut curves = Vec::new();
    for (run_index, run) in runs.iter().enumerate() {
        for (split_index, split) in [Split::Train, Split::Valid].into_iter().enumerate() {
            let key = MetricKey::new(split, measure);
            let Some((_, points)) = run.series.iter().find(|(found, _)| *found == key) else { continue };
            curves.push(Curve {
                label: label(run, split, runs.len()),
                points: points.iter().map(|point| (f64::from(point.epoch), point.value)).collect(),
                best: if split == Split::Valid { best(points, measure.direction()) } else { None },
                colour: if runs.len() == 1 { split_index } else { run_index },
                stroke: if split == Split::Train { Stroke::Dashed } else { Stroke::Solid },
            });
        }
    }
    Panel {
        y_label: y_label(measure, runs.len()),
        rises: measure.direction() == Direction::Maximize,
        bounds: bounds(measure),
        curves,
    }
}

/// The earliest finite point that none beats.
fn best(points: &[Point], direction: Direction) -> Option<(f64, f64)> {
    let mut best: Option<&Point> = None;
    for point in points.iter().filter(|point| point.value.is_finite()) {
        if direction.improves(point.value, best.map(|best| best.value)) {
            best = Some(point);
        }
    }
    best.map(|point| (f64::from(point.epoch), point.value))
}

/// A lone run's curves are named by their split; of several runs each is named once.
fn label(run: &RunSeries, split: Split, n_runs: usize) -> Option<String> {
    match split {
        _ if n_runs == 1 => Some(split.to_string()),
        Split::Valid => Some(run.name.clone()),
        Split::Train | Split::Test => None,
    }
}

fn y_label(measure: Measure, n_runs: usize) -> String {
    let label = match measure {
        Measure::Loss => "loss (nats a sample)".to_owned(),
        Measure::Accuracy => "accuracy (fraction)".to_owned(),
        Measure::TopK(k) => format!("top-{k} accuracy (fraction)"),
    };
    if n_runs == 1 { label } else { format!("{label}, dashed: train") }
}

fn bounds(measure: Measure) -> (f64, f64) {
    match measure {
        Measure::Loss => (0.0, f64::INFINITY),
        Measure::Accuracy | Measure::TopK(_) => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::points;

    fn run(name: &str, valid_losses: &[f64]) -> RunSeries {
        let series = [
            (MetricKey::new(Split::Train, Measure::Loss), points(&[2.0, 1.0])),
            (MetricKey::new(Split::Valid, Measure::Loss), points(valid_losses)),
        ];
        RunSeries { name: name.to_owned(), series: series.into() }
    }

    #[test]
    fn the_best_point_is_the_earliest_lowest_loss_and_never_nan() {
        let panels = panels(&[run("owl", &[f64::NAN, 0.5, 0.4, 0.4, f64::NEG_INFINITY])]);
        assert_eq!(panels[0].curves[0].best, None);
        assert_eq!(panels[0].curves[1].best, Some((3.0, 0.4)));
        assert!(panels[1].curves.is_empty());
    }

    #[test]
    fn a_lone_run_is_coloured_by_split_and_several_by_run() {
        let alone = &panels(&[run("owl", &[0.5])])[0];
        let labels: Vec<_> = alone.curves.iter().map(|curve| (curve.label.as_deref(), curve.colour)).collect();
        assert_eq!(labels, [(Some("train"), 0), (Some("valid"), 1)]);
        let several = &panels(&[run("owl", &[0.5]), run("lark", &[0.4])])[0];
        let labels: Vec<_> = several.curves.iter().map(|curve| (curve.label.as_deref(), curve.colour)).collect();
        assert_eq!(labels, [(None, 0), (Some("owl"), 0), (None, 1), (Some("lark"), 1)]);
    }

    #[test]
    fn an_axis_ends_where_the_measure_does() {
        let accuracy = &panels(&[run("owl", &[0.5])])[1];
        let (low, high) = accuracy.limited((-0.1, 1.1));
        assert!(low > -0.03 && high < 1.03, "{low} {high}");
        assert_eq!(accuracy.limited((0.4, 0.8)), (0.4, 0.8));
    }
}
