//! The frozen prefix's output, computed once for each image and kept: in memory where it fits, on disk for later epochs
//! and later runs.
//!
//! What is kept is what the prefix gives, to the bit, unless half precision is asked for; so it does not matter to a
//! result where a row comes from.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::TensorReadError;

use crate::data::batching::{Batching, LastSingle, Order};
use crate::data::feature_cache::rows::{Place, RowWriter, Rows};
use crate::data::feature_cache::shard::RowKey;
use crate::data::feature_cache::{CacheError, Facts, FeatureCache};
use crate::data::images::{ImageError, Images};
use crate::data::loader::{Loader, LoaderSettings};
use crate::run::event::Event;
use crate::run::stop::StopFlag;
use crate::spec::schema::augment::Augment;
use crate::spec::schema::cache::Precision;
use crate::train::channel::Events;
use crate::train::step::{Frame, Input};
use crate::train::values::Values;

/// The features of the images of a split that are used, in their order, view after view.
#[derive(Debug)]
pub struct FeatureTable {
    rows: Kept,
    chw: [usize; 3],
    labels: Vec<u32>,
    n_views: u32,
}

/// Where the rows are.
#[derive(Debug)]
enum Kept {
    /// `[n, c, h, w]`, row-major.
    Memory(Vec<f32>),
    Disk {
        rows: Box<Rows>,
        places: Vec<Place>,
    },
}

/// Why features could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("read the prefix's output: {0}")]
    Read(#[from] TensorReadError),
    #[error("keep them: {0}")]
    Cache(#[source] CacheError),
    #[error("stopped")]
    Stopped,
}

/// A stop is a stop wherever it comes.
impl From<CacheError> for FeatureError {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Stopped => Self::Stopped,
            error => Self::Cache(error),
        }
    }
}

/// Rows on disk: where, and what all of them have in common.
#[derive(Clone, Debug)]
pub struct OnDisk<'a> {
    pub cache: &'a FeatureCache,
    pub facts: Facts,
}

/// What to compute.
pub struct Task<'a> {
    pub frame: &'a Frame,
    pub images: &'a Arc<Images>,
    /// The images that are used, by their index.
    pub members: Vec<u32>,
    /// Of the prefix's output.
    pub chw: [usize; 3],
    /// Images that go through the prefix at once.
    pub batch_size: u32,
    pub augment: Augment,
    pub seed: u64,
    pub threads: usize,
    pub precision: Precision,
    pub events: &'a Events,
    pub stop: &'a StopFlag,
}

/// Times that rows are computed anew whose shard turns out to be damaged.
const MAX_REPAIRS: usize = 3;

impl FeatureTable {
    /// Bytes that a table takes.
    pub fn n_bytes(n_rows: u64, chw: [usize; 3]) -> u64 {
        n_rows.saturating_mul(chw.iter().product::<usize>() as u64 * size_of::<f32>() as u64)
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Gathers the features of some images, as a pass over them sees them.
    pub fn input(&self, samples: &[u32], pass: u32) -> Result<Input, CacheError> {
        let n_features: usize = self.chw.iter().product();
        let view = (pass.max(1) - 1) % self.n_views;
        let row = |sample: u32| view as usize * self.labels.len() + sample as usize;
        let mut values = vec![0.0; samples.len() * n_features];
        for (&sample, values) in samples.iter().zip(values.chunks_exact_mut(n_features)) {
            match &self.rows {
                Kept::Memory(all) => {
                    values.copy_from_slice(&all[row(sample) * n_features..(row(sample) + 1) * n_features]);
                }
                Kept::Disk { rows, places } => rows.read(places[row(sample)], values)?,
            }
        }
        Ok(Input {
            values: Values::Features(values),
            chw: self.chw,
            labels: samples.iter().map(|&sample| self.labels[sample as usize]).collect(),
            samples: samples.to_vec(),
            pass,
            n_step_images: samples.len() as u64,
            weights: None,
        })
    }
}

impl Task<'_> {
    pub fn n_rows(&self) -> u64 {
        self.members.len() as u64 * u64::from(self.augment.n_views())
    }

    /// Runs the prefix over every view of every image, and keeps the rows in memory.
    pub fn in_memory(&self) -> Result<FeatureTable, FeatureError> {
        let mut values = Vec::new();
        values.reserve_exact(self.n_rows() as usize * self.n_features());
        let mut n_done = 0;
        for view in 1..=self.augment.n_views() {
            self.compute(&self.members, view, |_, row| {
                values.extend(row.iter().map(|value| self.rounded(*value)));
                n_done += 1;
                self.events.progress(n_done);
                Ok(())
            })?;
        }
        Ok(self.table(Kept::Memory(values)))
    }

    /// Takes the rows that are on disk, computes and writes the others; then holds them in memory or reads them from
    /// there as they are needed. Every row is checked first.
    pub fn on_disk(&self, on_disk: &OnDisk<'_>, into_memory: bool) -> Result<FeatureTable, FeatureError> {
        let mut rows = Rows::open(on_disk.cache, &on_disk.facts)?;
        let keys = self.keys();
        for _ in 0..MAX_REPAIRS {
            self.tell_damaged(&rows);
            let n_missing = keys.iter().filter(|key| rows.find(key).is_none()).count();
            if n_missing > 0 {
                let n_bytes = n_missing as u64 * on_disk.facts.row_bytes() as u64;
                on_disk.cache.make_room(&on_disk.facts, n_bytes)?;
                self.add_missing(&mut rows, &keys)?;
            }
            let places: Option<Vec<Place>> = keys.iter().map(|key| rows.find(key)).collect();
            let Some(places) = places else { continue };
            match self.checked(&rows, &places, into_memory) {
                Ok(Some(values)) => return Ok(self.table(Kept::Memory(values))),
                Ok(None) => return Ok(self.table(Kept::Disk { rows: Box::new(rows), places })),
                Err((place, CacheError::Damaged { .. })) => rows.give_up(place),
                Err((_, error)) => return Err(error.into()),
            }
        }
        let path = rows.damaged().first().cloned().unwrap_or_else(|| on_disk.cache.dir.clone());
        Err(CacheError::Damaged { path, reason: "what is written there does not come back" }.into())
    }

    fn table(&self, rows: Kept) -> FeatureTable {
        let labels = self.images.labels();
        let labels = self.members.iter().map(|&member| labels[member as usize]).collect();
        FeatureTable { rows, chw: self.chw, labels, n_views: self.augment.n_views() }
    }

    fn n_features(&self) -> usize {
        self.chw.iter().product()
    }

    /// What a value is once it was kept.
    fn rounded(&self, value: f32) -> f32 {
        match self.precision {
            Precision::F32 => value,
            Precision::F16 => half::f16::from_f32(value).to_f32(),
        }
    }

    /// What each row is found by: the image's content, and of a view also what its changes are drawn from.
    fn keys(&self) -> Vec<RowKey> {
        let hashes = self.images.hashes();
        let key = |view: u32, member: u32| {
            let content = hashes[member as usize].as_bytes();
            if !self.augment.draws() {
                return *content;
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update(content).update(&member.to_le_bytes()).update(&view.to_le_bytes());
            *hasher.finalize().as_bytes()
        };
        let views = 1..=self.augment.n_views();
        views.flat_map(|view| self.members.iter().map(move |&member| key(view, member))).collect()
    }

    fn tell_damaged(&self, rows: &Rows) {
        for path in rows.damaged() {
            let text = format!("{} is damaged; what it held is computed again", path.display());
            self.events.send(Event::Warning(text));
        }
    }

    /// Waits for other writers, and computes what is missing after them.
    fn add_missing(&self, rows: &mut Rows, keys: &[RowKey]) -> Result<(), FeatureError> {
        let split = self.images.split();
        let waits = format!("another xp computes what the frozen layers give for the {split} images: waiting for it");
        let mut writer = rows.writer(self.stop, || self.events.send(Event::Warning(waits)))?;
        let n_members = self.members.len();
        let mut n_done = keys.iter().filter(|key| rows.find(key).is_some()).count() as u64;
        let mut outcome = Ok(());
        // Copies of one image are one row.
        let mut seen = HashSet::new();
        for view in 1..=self.augment.n_views() {
            let keys = &keys[(view as usize - 1) * n_members..view as usize * n_members];
            let is_missing = |key: &RowKey| rows.find(key).is_none();
            let missing: Vec<(u32, RowKey)> = self
                .members
                .iter()
                .zip(keys)
                .filter(|(_, key)| is_missing(key) && seen.insert(**key))
                .map(|(member, key)| (*member, *key))
                .collect();
            let members: Vec<u32> = missing.iter().map(|(member, _)| *member).collect();
            outcome = self.compute(&members, view, |place, row| {
                let (member, key) = &missing[place];
                writer.append(key, self.images.is_turned(*member as usize), row)?;
                n_done += 1;
                self.events.progress(n_done);
                Ok(())
            });
            if outcome.is_err() {
                break;
            }
        }
        // What was computed before a stop or a bad image is not lost.
        finish(writer, outcome)?;
        rows.look_again()?;
        Ok(())
    }

    /// Reads every row once; the rows themselves where they are to stay in memory.
    fn checked(
        &self,
        rows: &Rows,
        places: &[Place],
        into_memory: bool,
    ) -> Result<Option<Vec<f32>>, (Place, CacheError)> {
        let n_features = self.n_features();
        let mut values = vec![0.0; n_features * if into_memory { places.len() } else { 1 }];
        for (i, place) in places.iter().enumerate() {
            let at = if into_memory { i * n_features } else { 0 };
            rows.read(*place, &mut values[at..at + n_features]).map_err(|error| (*place, error))?;
            if self.stop.is_raised() {
                return Err((*place, CacheError::Stopped));
            }
        }
        Ok(into_memory.then_some(values))
    }

    /// Runs the prefix over some images as a pass sees them, and hands each row over with its place among them.
    fn compute(
        &self,
        members: &[u32],
        view: u32,
        mut take: impl FnMut(usize, &[f32]) -> Result<(), CacheError>,
    ) -> Result<(), FeatureError> {
        let batching = Batching {
            n_images: u32::try_from(self.images.len()).expect("a split has fewer images"),
            batch_size: self.batch_size,
            order: Order::Members(members.into()),
            last_single: LastSingle::Stays,
            steps_per_epoch: None,
        };
        let Self { augment, seed, threads, .. } = *self;
        let loader = Loader::new(Arc::clone(self.images), LoaderSettings { batching, augment, seed, threads });
        let mut n_done = 0;
        // With members the n-th epoch is the n-th pass.
        for batch in loader.epoch(view, self.stop) {
            let batch = batch?;
            let (values, image_chw) = Values::of(batch.bytes_nhwc, batch.shape);
            let values = self.frame.of_one_size(values, self.batch_size as usize, image_chw);
            let features = self.frame.features(values, image_chw).try_into_vec_as::<f32>()?;
            for row in features.chunks_exact(self.n_features()).take(batch.labels.len()) {
                take(n_done, row)?;
                n_done += 1;
            }
        }
        if self.stop.is_raised() || n_done < members.len() { Err(FeatureError::Stopped) } else { Ok(()) }
    }
}

/// Ends the writing; what went wrong first is what is told.
fn finish(writer: RowWriter, outcome: Result<(), FeatureError>) -> Result<(), FeatureError> {
    let finished = writer.finish();
    outcome?;
    Ok(finished?)
}
