//! Learning curves as a PNG picture: one panel a measure, one curve a series, the best epoch marked.
//!
//! The only file that knows the plotting crate. It returns bytes; writing them to disk is for others.

use kuva::backend::raster::RasterBackend;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::scatter::{MarkerShape, ScatterPlot};
use kuva::plot::{LinePlot, line::LineStyle};
use kuva::render::annotations::TextAnnotation;
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::theme::Theme;

use crate::report::curve::{Curve, Panel, Stroke};

const PANEL_WIDTH_PX: f64 = 600.0;
const HEIGHT_PX: f64 = 500.0;
/// Pixels of the picture for one of the layout: sharp on paper and on dense screens.
const PIXEL_RATIO: f32 = 2.0;
/// Points closer than this would only be a blur of markers.
const MARKED_POINTS: usize = 40;
/// More curves than this leave no room for a legend inside the axes: it goes below, with the best value beside each name.
const LEGEND_INSIDE: usize = 2;
/// Rows of the legend below that a picture of the usual height has room for, and the height of one more.
const LEGEND_ROWS: usize = 3;
const LEGEND_ROW_PX: f64 = 18.0;

/// Okabe and Ito 2008, told apart with any colour vision; without its yellow, which is too pale for a thin line on white.
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    #[error("draw the curves: there is no panel to draw")]
    NoPanel,

    #[error("draw the curves: {0}")]
    Encode(String),
}

/// Draws panels side by side under one title, as a PNG file's bytes.
///
/// 1200 × 500 points at two pixels a point for two panels, higher where many runs need a long legend.
/// Values that are not finite leave a gap in their curve.
pub fn curves(title: &str, panels: &[Panel]) -> Result<Vec<u8>, PlotError> {
    if panels.is_empty() {
        return Err(PlotError::NoPanel);
    }
    let (plots, layouts) = panels.iter().map(|panel| (drawn(panel), layout(panel))).unzip();
    let scene = Figure::new(1, panels.len())
        .with_title(plain(title))
        .with_title_size(20)
        .with_plots(plots)
        .with_layouts(layouts)
        .with_spacing(10.0)
        .with_figure_size(PANEL_WIDTH_PX * panels.len() as f64, height_px(panels))
        .render();
    RasterBackend { scale: PIXEL_RATIO }.render_scene(&scene).map_err(PlotError::Encode)
}

fn height_px(panels: &[Panel]) -> f64 {
    let n_entries = panels.iter().map(|panel| legend(panel).len()).max().unwrap_or(0);
    // Two columns fit beside each other, and no run's name may be left out.
    HEIGHT_PX + LEGEND_ROW_PX * n_entries.div_ceil(2).saturating_sub(LEGEND_ROWS) as f64
}

/// A panel's curves, their markers and the stars on their best points, in drawing order.
fn drawn(panel: &Panel) -> Vec<Plot> {
    // An empty line stands for a panel without points, so that its axes are drawn all the same.
    let mut plots = vec![Plot::Line(LinePlot::new())];
    for curve in &panel.curves {
        let runs = finite_runs(&curve.points);
        let marked = curve.points.len() <= MARKED_POINTS;
        for run in runs {
            if marked || run.len() == 1 {
                plots.push(marker(&run, curve, MarkerShape::Circle, 3.0));
            }
            plots.push(Plot::Line(
                LinePlot::new()
                    .with_data(run)
                    .with_color(colour(curve))
                    .with_line_style(line_style(curve.stroke))
                    .with_stroke_width(2.0),
            ));
        }
    }
    for curve in &panel.curves {
        if let Some(best) = curve.best {
            plots.push(marker(&[best], curve, MarkerShape::Star, 9.0));
        }
    }
    plots
}

fn marker(points: &[(f64, f64)], curve: &Curve, shape: MarkerShape, size: f64) -> Plot {
    let points = points.iter().copied();
    Plot::Scatter(ScatterPlot::new().with_data(points).with_color(colour(curve)).with_marker(shape).with_size(size))
}

fn layout(panel: &Panel) -> Layout {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let epochs = span(points().filter(|(_, value)| value.is_finite()).map(|(epoch, _)| *epoch));
    let values = span(points().map(|(_, value)| *value));
    let (x_min, x_max) = epochs.map_or((0.0, 1.0), widened);
    let (y_min, y_max) = panel.limited(values.map_or((0.0, 1.0), padded));
    let position = legend_position(panel);
    let mut layout = Layout::new((x_min, x_max), (y_min, y_max))
        .with_theme(Theme { grid_color: "#e4e4e4".to_owned(), ..Theme::light() })
        .with_x_label("epoch")
        .with_y_label(plain(&panel.y_label))
        .with_x_axis_min(x_min)
        .with_x_axis_max(x_max)
        .with_x_tick_step(epoch_step(x_max - x_min))
        .with_x_tick_format(TickFormat::Integer)
        .with_y_axis_min(y_min)
        .with_y_axis_max(y_max)
        .with_legend_entries(legend(panel))
        .with_legend_position(position);
    if matches!(position, LegendPosition::OutsideBottomColumns) {
        // The box is placed as if the axis had no label.
        layout = layout.with_x_label_offset(0.0, -9.0);
    }
    if values.is_none() {
        let (x, y) = (f64::midpoint(x_min, x_max), f64::midpoint(y_min, y_max));
        layout = layout.with_annotation(TextAnnotation::new("nothing measured yet", x, y).with_font_size(14));
    }
    layout
}

fn legend(panel: &Panel) -> Vec<LegendEntry> {
    let inside = panel.curves.len() <= LEGEND_INSIDE;
    let mut entries = Vec::new();
    for curve in &panel.curves {
        let entry = |label: &str, shape| LegendEntry {
            label: plain(label),
            color: colour(curve).to_owned(),
            shape,
            dasharray: if matches!(shape, LegendShape::Line) { line_style(curve.stroke).dasharray() } else { None },
        };
        let Some(label) = &curve.label else { continue };
        match curve.best {
            Some((epoch, value)) if inside => {
                entries.push(entry(label, LegendShape::Line));
                let star = LegendShape::Marker(MarkerShape::Star);
                entries.push(entry(&format!("best {value:.4} at epoch {epoch}"), star));
            }
            Some((epoch, value)) => {
                entries.push(entry(&format!("{label}: {value:.4} at {epoch}"), LegendShape::Line));
            }
            None => entries.push(entry(label, LegendShape::Line)),
        }
    }
    entries
}

/// Inside the axes where curves of this panel usually are not, or below them.
fn legend_position(panel: &Panel) -> LegendPosition {
    if panel.curves.len() > LEGEND_INSIDE {
        LegendPosition::OutsideBottomColumns
    } else if panel.rises {
        LegendPosition::InsideBottomRight
    } else {
        LegendPosition::InsideTopRight
    }
}

/// The stretches between values that are not finite.
fn finite_runs(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    points
        .split(|(epoch, value)| !epoch.is_finite() || !value.is_finite())
        .filter(|run| !run.is_empty())
        .map(<[_]>::to_vec)
        .collect()
}

/// Lowest and highest of the finite values.
fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// The epochs with room at both ends for half a marker.
fn widened((first, last): (f64, f64)) -> (f64, f64) {
    let air = if first < last { 0.03 * (last - first) } else { 1.0 };
    (first - air, last + air)
}

/// The values with some air above and below, never so close that the ticks' three decimals would repeat.
fn padded((low, high): (f64, f64)) -> (f64, f64) {
    let least = match 0.05 * f64::max(low.abs(), high.abs()) {
        0.0 => 0.1,
        least => least,
    };
    let air = f64::max(0.06 * (high - low), 0.5 * (least - (high - low)));
    (low - air, high + air)
}

/// Whole epochs between ticks: 1, 2 or 5 times a power of ten, ten ticks at most.
fn epoch_step(n_epochs: f64) -> f64 {
    let mut step = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if n_epochs <= 10.0 * step {
            break;
        }
        step *= factor;
    }
    step
}

fn colour(curve: &Curve) -> &'static str {
    COLOURS[curve.colour % COLOURS.len()]
}

fn line_style(stroke: Stroke) -> LineStyle {
    match stroke {
        Stroke::Solid => LineStyle::Solid,
        // Line ends are round and a line's width longer: the gap is what is left.
        Stroke::Dashed => LineStyle::Custom("5 6".to_owned()),
    }
}

/// Text with the sign escaped that would start a formula.
fn plain(text: &str) -> String {
    text.replace('$', "\\$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::curve::{RunSeries, panels};
    use crate::report::sample::points;
    use crate::run::metric::{Measure, MetricKey, Split};

    fn run(values: &[f64]) -> RunSeries {
        let keys = [Split::Train, Split::Valid].map(|split| MetricKey::new(split, Measure::Loss));
        RunSeries { name: "owl".to_owned(), series: keys.map(|key| (key, points(values))).into() }
    }

    /// Width and height in the header of a PNG file.
    fn size_px(png: &[u8]) -> (u32, u32) {
        assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        (number(16), number(20))
    }

    #[test]
    fn any_points_make_a_picture() {
        let cases: [&[f64]; 7] = [
            &[],
            &[0.5],
            &[0.5, 0.5],
            &[0.5, f64::NAN, 0.4],
            &[f64::NAN, f64::INFINITY],
            &[1e300, -1e300],
            &[1e-12, 2e-12, 0.0],
        ];
        for values in cases {
            let png = curves("a run's $title$", &panels(&[run(values)])).unwrap();
            assert_eq!(size_px(&png), (2400, 1000), "{values:?}");
        }
    }

    #[test]
    fn more_runs_get_a_longer_legend() {
        let runs: Vec<_> = (0..20).map(|_| run(&[2.0, 1.0])).collect();
        let (width, height) = size_px(&curves("20 runs", &panels(&runs)).unwrap());
        assert_eq!(width, 2400);
        assert!(height > 1000, "{height}");
    }

    #[test]
    fn no_panel_is_an_error() {
        assert!(matches!(curves("", &[]), Err(PlotError::NoPanel)));
    }

    #[test]
    fn a_value_that_is_not_finite_splits_its_curve() {
        let points = [(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.4), (4.0, 0.3), (5.0, f64::INFINITY)];
        assert_eq!(finite_runs(&points), [vec![(1.0, 0.5)], vec![(3.0, 0.4), (4.0, 0.3)]]);
    }

    #[test]
    fn ticks_are_whole_epochs() {
        let steps = [0.0, 1.0, 10.0, 11.0, 21.0, 51.0, 101.0, 1000.0].map(epoch_step);
        assert_eq!(steps, [1.0, 1.0, 1.0, 2.0, 5.0, 10.0, 20.0, 100.0]);
    }
}
