//! What burn-train reports, in the project's words: its metric logger and its renderer.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{Aggregate, EpochSummary, EventStoreClient, MetricsUpdate, Split as BurnSplit};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn::train::{EarlyStoppingStrategy, Interrupter};

use tracing::Span;

use crate::run::event::{Event, Phase};
use crate::run::metric::{Measure, MetricKey, Point, Split};
use crate::spec::schema::EarlyStopping;
use crate::train::channel::Events;
use crate::train::history::{self, History};

/// Ends a training once its monitored metric has not improved for long enough.
#[derive(Clone, Debug)]
pub struct Patience {
    events: Events,
    history: History,
    stopping: EarlyStopping,
    /// Epochs that are not the last whatever was measured.
    except_after: Vec<u32>,
}

impl Patience {
    pub fn new(events: Events, history: History, stopping: EarlyStopping) -> Self {
        Self { events, history, stopping, except_after: Vec::new() }
    }

    /// Goes on after these epochs, as more was asked for when they had been the last.
    pub fn except_after(self, epochs: Vec<u32>) -> Self {
        Self { except_after: epochs, ..self }
    }
}

impl EarlyStoppingStrategy for Patience {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        wait_for_metrics(epoch, store);
        if self.except_after.contains(&epoch_number(epoch)) {
            return false;
        }
        let key = self.stopping.monitor.key();
        let stops = history::stops_early(&self.history.values(key), &self.stopping);
        if stops {
            let (epoch, best_epoch) = (epoch_number(epoch), self.history.best_epoch(key));
            self.events.send(Event::StoppedEarly { epoch, best_epoch, monitor: key.to_string() });
        }
        stops
    }
}

/// Waits until the recorder has seen all that was measured so far.
///
/// Metrics come through another thread, in their order: this question is answered after all that was told before.
pub fn wait_for_metrics(epoch: usize, store: &EventStoreClient) {
    let _ = store.find_metric(&Measure::Loss.to_string(), epoch, Aggregate::Mean, &BurnSplit::Valid);
}

fn epoch_number(epoch: usize) -> u32 {
    u32::try_from(epoch).unwrap_or(u32::MAX)
}

/// A training loss that is no finite number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite {
    pub epoch: u32,
    /// The optimizer's step, from 1.
    pub step: u64,
    pub loss: f64,
}

/// What ends a training whose loss is no longer a number; shared with whoever reports it.
#[derive(Clone)]
pub struct NanGuard {
    interrupter: Interrupter,
    found: Arc<OnceLock<NotFinite>>,
}

impl NanGuard {
    pub fn new(interrupter: Interrupter) -> Self {
        Self { interrupter, found: Arc::default() }
    }

    /// What ended the training, if this did.
    pub fn found(&self) -> Option<NotFinite> {
        self.found.get().copied()
    }

    fn stop(&self, found: NotFinite) {
        if self.found.set(found).is_ok() {
            self.interrupter.stop(Some("the loss is not finite"));
        }
    }
}

/// Turns metric updates into points.
pub struct Recorder {
    events: Events,
    history: History,
    /// `None` where training goes on with any loss.
    guard: Option<NanGuard>,
    log_every: u64,
    /// Batches that make a step of the optimizer.
    accumulation: u64,
    measures: HashMap<MetricId, Measure>,
    /// The optimizer's steps so far.
    step: u64,
    /// The batches of the step that is being taken.
    window: Window,
    /// Images measured so far in the current split.
    n_samples: u64,
    epoch_points: Vec<(MetricKey, Point)>,
}

/// Batches of one step of the optimizer.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    n_batches: u64,
    n_images: u64,
    total_loss: f64,
}

/// What a recorder is told at its beginning.
pub struct RecorderSettings {
    pub log_every: u32,
    pub accumulation: u32,
    /// The optimizer's steps taken before.
    pub step: u64,
    pub guard: Option<NanGuard>,
}

impl Recorder {
    pub fn new(events: Events, history: History, settings: RecorderSettings) -> Self {
        Self {
            events,
            history,
            guard: settings.guard,
            log_every: u64::from(settings.log_every),
            accumulation: u64::from(settings.accumulation),
            measures: HashMap::new(),
            step: settings.step,
            window: Window::default(),
            n_samples: 0,
            epoch_points: Vec::new(),
        }
    }

    fn point(&self, epoch: usize, value: f64, n_samples: u64) -> Point {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        Point { epoch: epoch_number(epoch), step: self.step, at_ms, value, n_samples }
    }

    /// What comes after a loss that ended the training belongs to no epoch.
    fn has_ended(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.found().is_some())
    }

    /// Counts a batch, and with the last of a step the step.
    fn batch(&mut self, epoch: usize, key: MetricKey, mean: f64, n_images: usize) {
        if key.measure != Measure::Loss {
            return;
        }
        self.n_samples += n_images as u64;
        if key.split != Split::Train {
            return;
        }
        if let Some(guard) = self.guard.as_ref().filter(|_| !mean.is_finite()) {
            guard.stop(NotFinite { epoch: epoch_number(epoch), step: self.step + 1, loss: mean });
            return;
        }
        self.window.n_batches += 1;
        self.window.n_images += n_images as u64;
        self.window.total_loss += mean * n_images as f64;
        if self.window.n_batches == self.accumulation {
            self.end_step(epoch, key);
        }
    }

    /// Counts a step, and every so often tells its loss.
    fn end_step(&mut self, epoch: usize, key: MetricKey) {
        let Window { n_images, total_loss, .. } = std::mem::take(&mut self.window);
        self.step += 1;
        if self.step.is_multiple_of(self.log_every) {
            let point = self.point(epoch, total_loss / n_images as f64, n_images);
            self.events.send(Event::StepPoints(vec![(key, point)]));
        }
    }

    fn split_mean(&mut self, epoch: usize, key: MetricKey, mean: f64) {
        // burn-train asks for a mean even of a split that was stopped before its first batch.
        if self.n_samples == 0 {
            return;
        }
        let is_training_loss = key == MetricKey::new(Split::Train, Measure::Loss);
        if is_training_loss && self.window.n_batches > 0 {
            self.end_step(epoch, key);
        }
        let point = self.point(epoch, mean, self.n_samples);
        self.history.push(key, point.epoch, mean);
        if is_training_loss && !mean.is_finite() {
            let text =
                format!("train.loss is {mean} in epoch {epoch}: the training diverged; a lower learning rate may help");
            self.events.send(Event::Warning(text));
        }
        self.epoch_points.push((key, point));
    }
}

impl MetricLogger for Recorder {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &BurnSplit) {
        let split = match split {
            BurnSplit::Train => Split::Train,
            BurnSplit::Valid => Split::Valid,
            BurnSplit::Test(_) => Split::Test,
        };
        for metric in update.entries_numeric {
            if self.has_ended() {
                return;
            }
            let Some(&measure) = self.measures.get(&metric.entry.metric_id) else { continue };
            let key = MetricKey::new(split, measure);
            match metric.numeric_entry {
                Some(NumericEntry::Aggregated { aggregated_value, count }) => {
                    self.batch(epoch, key, aggregated_value, count);
                }
                Some(NumericEntry::Final(mean)) => self.split_mean(epoch, key, mean),
                Some(NumericEntry::Value(_)) | None => {}
            }
        }
    }

    /// Nothing asks: which epoch is the best is decided here, not by burn-train.
    fn read_numeric(&mut self, _: &str, _: usize, _: &BurnSplit) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        if let Some(measure) = Measure::parse(&definition.name) {
            self.measures.insert(definition.metric_id, measure);
        }
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        self.n_samples = 0;
        if summary.split == BurnSplit::Valid && !self.has_ended() {
            let epoch = epoch_number(summary.epoch_number);
            self.events.send(Event::EpochMeasured { epoch, points: std::mem::take(&mut self.epoch_points) });
        }
    }
}

/// Passes progress on; drawing it is for the other side.
pub struct ProgressBridge {
    events: Events,
    epochs: u32,
    epoch: u32,
    /// What the phases' spans are part of: burn-train calls from a thread of its own.
    parent: Span,
    phase: Span,
}

impl ProgressBridge {
    /// `epoch` is the last one that was done before.
    pub fn new(events: Events, epochs: u32, epoch: u32) -> Self {
        Self { events, epochs, epoch, parent: Span::current(), phase: Span::none() }
    }
}

impl TrainingProgressLogger for ProgressBridge {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}

    fn update_epoch(&mut self, _: usize) {}

    fn start_split(&mut self, split: &str, total_items: usize) {
        let phase = if split.eq_ignore_ascii_case("train") {
            self.epoch += 1;
            Phase::Train { epoch: self.epoch, epochs: self.epochs }
        } else {
            Phase::Valid { epoch: self.epoch, epochs: self.epochs }
        };
        self.phase = tracing::info_span!(parent: &self.parent, "phase", ?phase);
        self.events.send(Event::PhaseStarted { phase, n_items: total_items as u64 });
    }

    fn update_split(&mut self, items_processed: usize) {
        self.events.progress(items_processed as u64);
    }

    fn end_split(&mut self) {
        self.phase = Span::none();
        self.events.send(Event::PhaseEnded);
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

/// The test split is measured without burn-train's evaluator, so nothing arrives here.
impl EvaluationProgressLogger for ProgressBridge {
    fn start_global_progress(&mut self, _: usize) {}

    fn start_test(&mut self, _: &str, _: usize) {}

    fn update_test_progress(&mut self, _: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _: String) {}
}

/// Metrics travel through [`Recorder`].
impl MetricsRendererTraining for ProgressBridge {
    fn update_train(&mut self, _: MetricState) {}

    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for ProgressBridge {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for ProgressBridge {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _: MetricDefinition) {}
}
