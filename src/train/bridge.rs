//! What burn-train reports, in the project's words: its metric logger and its renderer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use burn::train::EarlyStoppingStrategy;
use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{Aggregate, EpochSummary, EventStoreClient, MetricsUpdate, Split as BurnSplit};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};

use tracing::Span;

use crate::run::event::{Event, Phase};
use crate::run::metric::{Measure, MetricKey, Point, Split};
use crate::train::channel::Events;

/// The epoch whose metric is the best so far, NaN never being it; shared between burn-train's threads and ours.
#[derive(Clone, Debug)]
pub struct BestEpoch {
    key: MetricKey,
    state: Arc<Mutex<BestState>>,
}

#[derive(Debug)]
struct BestState {
    best: Option<(u32, f64)>,
    last: u32,
}

impl BestEpoch {
    /// Begins with the best of the epochs that were measured before, and the last of them.
    pub fn new(key: MetricKey, best: Option<(u32, f64)>, last: u32) -> Self {
        Self { key, state: Arc::new(Mutex::new(BestState { best, last })) }
    }

    /// The best epoch, else the last one: every value was NaN.
    pub fn get_or_last(&self) -> u32 {
        let state = self.lock();
        state.best.map_or(state.last, |(epoch, _)| epoch)
    }

    /// The best epoch.
    pub fn get(&self) -> Option<u32> {
        self.lock().best.map(|(epoch, _)| epoch)
    }

    fn offer(&self, key: MetricKey, epoch: u32, value: f64) {
        if key != self.key {
            return;
        }
        let mut state = self.lock();
        state.last = epoch;
        if key.direction().improves(value, state.best.map(|(_, value)| value)) {
            state.best = Some((epoch, value));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BestState> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// Stops once the best epoch lies so many epochs back.
#[derive(Clone, Debug)]
pub struct Patience {
    events: Events,
    best: BestEpoch,
    patience: u32,
}

impl Patience {
    pub fn new(events: Events, best: BestEpoch, patience: u32) -> Self {
        Self { events, best, patience }
    }

    /// What it watches.
    pub fn best(&self) -> &BestEpoch {
        &self.best
    }
}

impl EarlyStoppingStrategy for Patience {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        // Metrics come through another thread, in their order: this question is answered after all that was told before.
        let _ = store.find_metric(&Measure::Loss.to_string(), epoch, Aggregate::Mean, &BurnSplit::Valid);
        let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
        let best = self.best.get().unwrap_or(0);
        let stops = epoch.saturating_sub(best) >= self.patience;
        if stops {
            let key = self.best.key.to_string();
            self.events.send(Event::StoppedEarly { epoch, best_epoch: self.best.get(), monitor: key });
        }
        stops
    }
}

/// Turns metric updates into points.
pub struct Recorder {
    events: Events,
    watched: Vec<BestEpoch>,
    log_every: u64,
    measures: HashMap<MetricId, Measure>,
    /// Optimizer steps so far.
    step: u64,
    /// Images measured so far in the current split.
    n_samples: u64,
    epoch_points: Vec<(MetricKey, Point)>,
}

impl Recorder {
    /// `step` counts the optimizer steps taken before.
    pub fn new(events: Events, watched: Vec<BestEpoch>, log_every: u32, step: u64) -> Self {
        Self {
            events,
            watched,
            log_every: u64::from(log_every),
            measures: HashMap::new(),
            step,
            n_samples: 0,
            epoch_points: Vec::new(),
        }
    }

    fn point(&self, epoch: usize, value: f64, n_samples: u64) -> Point {
        let epoch = u32::try_from(epoch).unwrap_or(u32::MAX);
        Point { epoch, step: self.step, at_ms: jiff::Timestamp::now().as_millisecond(), value, n_samples }
    }

    /// Counts a step, and every so often tells its loss.
    fn batch(&mut self, epoch: usize, key: MetricKey, mean: f64, n_images: usize) {
        if key.measure != Measure::Loss {
            return;
        }
        self.n_samples += n_images as u64;
        if key.split == Split::Train {
            self.step += 1;
            if self.step.is_multiple_of(self.log_every) {
                let point = self.point(epoch, mean, n_images as u64);
                self.events.send(Event::StepPoints(vec![(key, point)]));
            }
        }
    }

    fn split_mean(&mut self, epoch: usize, key: MetricKey, mean: f64) {
        // burn-train asks for a mean even of a split that was stopped before its first batch.
        if self.n_samples == 0 {
            return;
        }
        let point = self.point(epoch, mean, self.n_samples);
        self.watched.iter().for_each(|best| best.offer(key, point.epoch, mean));
        if key == MetricKey::new(Split::Train, Measure::Loss) && !mean.is_finite() {
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
        if summary.split == BurnSplit::Valid {
            let epoch = u32::try_from(summary.epoch_number).unwrap_or(u32::MAX);
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
