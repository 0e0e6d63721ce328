//! A run as it is watched: bars on a terminal, and a line an epoch wherever the output goes.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{log, output};
use crate::launch::{Started, Watcher};
use crate::report::bill;
use crate::report::number::{count_text, metric_text};
use crate::run::event::{DataFacts, Event, ModelFacts, Phase, PlanStepFacts, SkippedInput};
use crate::run::metric::{Measure, MetricKey, Point, Split};

/// Bad images that are named when they are met; the record names them all.
const MAX_NAMED: u64 = 100;

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    Printed,
    /// Standard output is for JSON alone.
    Hidden,
}

/// Prints a run's progress.
pub(crate) struct Progress {
    lines: Lines,
    device: String,
    backbone: String,
    epochs: u32,
    bar: Option<ProgressBar>,
    last_line: Instant,
    n_skipped: u64,
    /// Images of the valid split, of which not all may be measured.
    n_valid: Option<u64>,
    /// What is said of the weights below the model's line.
    pub notes: Vec<String>,
}

impl Progress {
    pub fn new(lines: Lines, device: String, backbone: String, epochs: u32) -> Self {
        Self {
            lines,
            device,
            backbone,
            epochs,
            bar: None,
            last_line: Instant::now(),
            n_skipped: 0,
            n_valid: None,
            notes: Vec::new(),
        }
    }

    /// Prints a line above the bar; where nobody reads, nothing is lost, since all of it is stored.
    fn line(&self, text: &str) {
        if self.lines == Lines::Hidden {
            return;
        }
        let print = || drop(output::print(&format!("{text}\n")));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Says something on standard error, above the bar.
    fn warning(&self, text: &str) {
        let say = || output::say(&format!("warning: {text}\n"));
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn phase(&mut self, phase: Phase, n_items: u64) {
        let Some(bar) = bar(phase, n_items) else { return };
        if let Some(old) = self.bar.replace(bar) {
            old.finish_and_clear();
        }
    }

    fn skipped(&mut self, image: &SkippedInput) {
        self.n_skipped += 1;
        if self.n_skipped <= MAX_NAMED {
            // A name may hold what would steer a terminal.
            let path = image.path.display().to_string().replace(char::is_control, " ");
            self.warning(&format!("{} {path}: cannot {}", image.split, image.reason));
        } else if self.n_skipped == MAX_NAMED + 1 {
            self.warning("there are more bad images; `xp show RUN --json` names them");
        }
    }

    fn data(&mut self, facts: &DataFacts) {
        self.n_valid = facts.of(Split::Valid).map(|split| split.n_images);
        let splits = facts.splits.iter().map(|split| format!("{} {}", split.n_images, split.split));
        let splits = splits.collect::<Vec<_>>().join(", ");
        self.line(&format!("  {} classes; images: {splits}", facts.classes.len()));
        if self.n_skipped > 0 {
            self.warning(&format!("{} images skipped; `xp show` names them", self.n_skipped));
        }
    }

    fn step_of_plan(&self, facts: &PlanStepFacts) {
        let PlanStepFacts { step, n_steps, first_epoch, n_frozen_layers, n_trained_parameters } = facts;
        let n_trained = count_text(*n_trained_parameters);
        self.line(&format!(
            "step {step}/{n_steps} of the plan, from epoch {first_epoch}: {n_frozen_layers} rows frozen, {n_trained} parameters train"
        ));
    }

    fn model(&self, facts: &ModelFacts) {
        let text = format!(
            "  {}: {} of {} parameters train; {} rows frozen",
            self.backbone,
            count_text(facts.n_trained_parameters),
            count_text(facts.n_parameters),
            facts.n_frozen_layers,
        );
        self.line(&text);
        for note in &self.notes {
            self.line(&format!("  {note}"));
        }
    }
}

impl Watcher for Progress {
    fn started(&mut self, run: &Started) {
        if let Err(error) = log::record_into(&run.run_dir) {
            tracing::warn!(%error, "the run's log cannot be written");
        }
        self.line(&format!("run {} ({}) on {}", run.name, run.id.short(), self.device));
        self.last_line = Instant::now();
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::PhaseStarted { phase, n_items } => self.phase(*phase, *n_items),
            Event::Progress { n_done } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(*n_done);
                }
            }
            Event::PhaseEnded => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
            Event::Data(facts) => self.data(facts),
            Event::Model(facts) => self.model(facts),
            Event::Bill(bill) => {
                if let Some(line) = bill::line(bill) {
                    self.line(&format!("  {line}"));
                }
            }
            Event::StepOfPlan(facts) => self.step_of_plan(facts),
            Event::Skipped(image) => self.skipped(image),
            Event::StoppedEarly { epoch, best_epoch, monitor } => {
                let best = best_epoch.map_or("never a number".to_owned(), |best| format!("best in epoch {best}"));
                self.line(&format!("stopped early after epoch {epoch}: {monitor} was {best}"));
            }
            Event::Warning(text) => self.warning(text),
            _ => {}
        }
    }

    fn committed(&mut self, points: &[(MetricKey, Point)]) {
        let Some((first, point)) = points.first() else { return };
        let seconds = self.last_line.elapsed().as_secs_f64();
        self.last_line = Instant::now();
        let values = |split| split_values(points, split);
        let width = self.epochs.to_string().len();
        if first.split == Split::Test {
            self.line(&format!("test, epoch {}: {}, {} images", point.epoch, values(Split::Test), point.n_samples));
        } else {
            let n_measured = points.iter().find(|(key, _)| key.split == Split::Valid).map(|(_, point)| point.n_samples);
            let part = match (n_measured, self.n_valid) {
                (Some(n), Some(n_valid)) if n < n_valid => format!(" ({n} of {n_valid})"),
                _ => String::new(),
            };
            self.line(&format!(
                "epoch {:>width$}/{}  train {}  valid{part} {}  {seconds:.1} s",
                point.epoch,
                self.epochs,
                values(Split::Train),
                values(Split::Valid),
            ));
        }
    }

    fn ended(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A bar on standard error, where that is a terminal.
pub(crate) fn bar(phase: Phase, n_items: u64) -> Option<ProgressBar> {
    let style =
        ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} {eta:>4}").expect("the template is fixed");
    let is_watched = std::io::stderr().is_terminal();
    is_watched.then(|| ProgressBar::new(n_items).with_style(style).with_message(phase_name(phase)))
}

fn split_values(points: &[(MetricKey, Point)], split: Split) -> String {
    let value = |measure: Measure| {
        let key = MetricKey::new(split, measure);
        let value = points.iter().find(|(of, _)| *of == key).map(|(_, point)| point.value);
        metric_text(&measure.to_string(), value)
    };
    let mut text = format!("loss {:7} acc {}", value(Measure::Loss), value(Measure::Accuracy));
    for (key, _) in points.iter().filter(|(key, _)| key.split == split && split != Split::Train) {
        if let Measure::TopK(k) = key.measure {
            text += &format!(" top{k} {}", value(key.measure));
        }
    }
    text
}

fn phase_name(phase: Phase) -> String {
    match phase {
        Phase::Index(split) => format!("reading {split} images"),
        Phase::Prefix(split) => format!("frozen layers, {split}"),
        Phase::Train { epoch, epochs } => format!("epoch {epoch}/{epochs}, train"),
        Phase::Valid { epoch, epochs } => format!("epoch {epoch}/{epochs}, valid"),
        Phase::Predictions => "predictions, valid".to_owned(),
        Phase::Test => "test".to_owned(),
    }
}
