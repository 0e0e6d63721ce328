//! Events of a run on their way into the store; an epoch is committed once its metrics and its checkpoint are there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::launch::keep::{Committed, superseded};
use crate::launch::record::Recorder;
use crate::run::event::{DataFacts, Event, ModelFacts, SavedCheckpoint, SkippedInput};
use crate::run::id::RunId;
use crate::run::look::LookedBy;
use crate::run::metric::{MetricKey, Point};
use crate::run::stretch::Stretch;
use crate::spec::fingerprint;
use crate::spec::schema::Spec;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::train::checkpoint::{self, Checkpoint};

/// Images left out are written in groups: there may be very many.
const SKIPPED_GROUP: usize = 256;

/// Points of single steps are held back no further: a training that sends them faster than they can be written waits.
const STEP_GROUP: usize = 4 * 1024;

/// Writes one run's events.
pub(crate) struct Committer<'a> {
    pub store: &'a Store,
    pub id: &'a RunId,
    pub run_dir: &'a Path,
    pub spec: &'a Spec,
    /// What its epochs are trained under: part of its fingerprint.
    pub stretches: &'a [Stretch],
    pub device_class: &'a str,
    pub pending: BTreeMap<u32, PendingEpoch>,
    pub committed: Vec<Committed>,
    /// The checkpoint of the last committed epoch.
    pub last: Option<SavedCheckpoint>,
    pub skipped: Vec<SkippedInput>,
    pub step_points: Vec<(MetricKey, Point)>,
    pub data: Option<DataFacts>,
    pub model: Option<ModelFacts>,
}

/// An epoch of which not everything has arrived.
#[derive(Debug, Default)]
pub(crate) struct PendingEpoch {
    points: Option<Vec<(MetricKey, Point)>>,
    checkpoint: Option<SavedCheckpoint>,
}

impl<'a> Committer<'a> {
    pub fn new(recorder: &Recorder<'a>) -> Self {
        let Recorder { store, run, spec, stretches, device_class, .. } = *recorder;
        Self {
            store,
            id: &run.id,
            run_dir: &run.run_dir,
            spec,
            stretches,
            device_class,
            pending: BTreeMap::new(),
            committed: Vec::new(),
            last: None,
            skipped: Vec::new(),
            step_points: Vec::new(),
            data: None,
            model: None,
        }
    }

    /// Records an event; returns the epoch's points when this completed one.
    pub async fn take(&mut self, event: Event) -> Result<Option<Vec<(MetricKey, Point)>>, StoreError> {
        match event {
            Event::PhaseStarted { .. }
            | Event::Progress { .. }
            | Event::PhaseEnded
            | Event::Accepted
            | Event::Bill(_) => {}
            Event::StepOfPlan(facts) => tracing::info!(?facts, "a step of the plan"),
            Event::Skipped(input) | Event::Shared(input) => {
                self.skipped.push(input);
                if self.skipped.len() >= SKIPPED_GROUP {
                    self.flush().await?;
                }
            }
            Event::Warning(text) => self.store.add_warning(self.id, &text, now_ms()).await?,
            Event::Data(facts) => {
                self.flush().await?;
                self.store.set_data_facts(self.id, &facts).await?;
                self.data = Some(facts);
            }
            Event::Model(facts) => {
                self.store.set_model_facts(self.id, &facts).await?;
                self.model = Some(facts);
                self.set_fingerprint().await?;
            }
            Event::TensorsBefore(moment) => self.store.set_tensors_before(self.id, &moment).await?,
            Event::TensorsAfter(moment) => self.store.set_tensors_after(self.id, &moment).await?,
            Event::StepPoints(points) => {
                self.step_points.extend(points);
                if self.step_points.len() >= STEP_GROUP {
                    self.flush().await?;
                }
            }
            Event::EpochMeasured { epoch, points } => {
                self.pending.entry(epoch).or_default().points = Some(points);
                return self.commit(epoch).await;
            }
            Event::CheckpointSaved(checkpoint) => {
                let epoch = checkpoint.epoch;
                self.pending.entry(epoch).or_default().checkpoint = Some(checkpoint);
                return self.commit(epoch).await;
            }
            Event::StoppedEarly { epoch, best_epoch, monitor } => {
                tracing::info!(epoch, best_epoch, monitor, "stopped early");
            }
            Event::Trained(facts) => {
                self.store.set_trained_facts(self.id, &facts).await?;
            }
            Event::Written(artifact) => self.store.add_artifact(self.id, &artifact).await?,
            Event::Tested { points } => {
                self.store.add_test_points(self.id, &points, &LookedBy::Run).await?;
                return Ok(Some(points));
            }
        }
        Ok(None)
    }

    /// Writes what was held back to be written in groups.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if !self.step_points.is_empty() {
            self.store.append_step_points(self.id, &std::mem::take(&mut self.step_points)).await?;
        }
        if !self.skipped.is_empty() {
            self.store.add_skipped(self.id, &std::mem::take(&mut self.skipped)).await?;
        }
        Ok(())
    }

    async fn set_fingerprint(&self) -> Result<(), StoreError> {
        let (Some(data), Some(model)) = (&self.data, &self.model) else { return Ok(()) };
        let fingerprint =
            fingerprint::of_inputs(self.spec, self.stretches, data, &model.weights_hash, self.device_class);
        self.store.set_fingerprint(self.id, &fingerprint).await
    }

    async fn commit(&mut self, epoch: u32) -> Result<Option<Vec<(MetricKey, Point)>>, StoreError> {
        let whole = self.pending.get(&epoch).is_some_and(|p| p.points.is_some() && p.checkpoint.is_some());
        if !whole {
            return Ok(None);
        }
        let Some(PendingEpoch { points: Some(points), checkpoint: Some(checkpoint) }) = self.pending.remove(&epoch)
        else {
            return Ok(None);
        };
        self.flush().await?;
        let monitor = self.spec.checkpoint.monitor.key();
        let value = points.iter().find(|(key, _)| *key == monitor).map(|(_, point)| point.value);
        self.store.commit_epoch(self.id, epoch, &points, &checkpoint, value).await?;
        self.committed.push(Committed { epoch, monitor_value: value.unwrap_or(f64::NAN) });
        let before = self.last.replace(checkpoint);
        self.remove_superseded().await?;
        if let Some(before) = before.filter(|before| self.committed.iter().any(|kept| kept.epoch == before.epoch)) {
            self.remove_optimizer(&before).await?;
        }
        Ok(Some(points))
    }

    /// Removes checkpoints that nothing keeps, after newer ones are committed and never before.
    async fn remove_superseded(&mut self) -> Result<(), StoreError> {
        let policy = &self.spec.checkpoint;
        let epochs = superseded(&self.committed, policy.monitor.key().direction(), policy.keep);
        if epochs.is_empty() {
            return Ok(());
        }
        // Marked first: a kill in between leaves a folder nobody needs, not a row whose files are gone.
        self.store.mark_checkpoints_deleted(self.id, &epochs).await?;
        for epoch in &epochs {
            let folder = self.run_dir.join(checkpoint::folder(*epoch));
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "an old checkpoint stays");
                }
                _ => {}
            }
        }
        self.committed.retain(|checkpoint| !epochs.contains(&checkpoint.epoch));
        Ok(())
    }

    /// Removes the optimizer's state from the checkpoint that was the last before: training goes on from the newest alone.
    async fn remove_optimizer(&self, before: &SavedCheckpoint) -> Result<(), StoreError> {
        let opened = Checkpoint::open(self.run_dir, before).map_err(|error| error.to_string());
        match opened.and_then(|checkpoint| checkpoint.without_optimizer().map_err(|error| error.to_string())) {
            Ok(Some(n_bytes)) => self.store.set_checkpoint_size(self.id, before.epoch, n_bytes).await,
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(epoch = before.epoch, error, "the optimizer's state of an older epoch stays");
                Ok(())
            }
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
