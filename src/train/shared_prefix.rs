//! Frozen parts of several plans that begin alike, computed together: an image goes through the deepest of them once, and
//! what stands at the others' cuts is kept on the way.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::data::batching::{Batching, LastSingle, Order};
use crate::data::feature_cache::rows::{RowWriter, Rows};
use crate::data::feature_cache::{CacheError, Facts, FeatureCache};
use crate::data::images::{Images, ReadError};
use crate::data::loader::{Loader, LoaderSettings};
use crate::models::classifier::{Prefix, hash};
use crate::models::operation::Operation;
use crate::models::parameters::ParametersError;
use crate::run::bill::Keeping;
use crate::run::event::{Event, Phase};
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::schema::augment::Augment;
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::features::FeatureError;
use crate::train::plan::Plan;
use crate::train::splits::read_settings;
use crate::train::sweep_bill::network;
use crate::train::values::{self, Values};
use crate::train::{Completion, TrainError, batches, keeping, network as networks};

/// What filling needs beside the plans.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    pub device: &'a TrainDevice,
    pub resources: Resources,
    /// The folder of all rows; each plan says how large it may become.
    pub cache_dir: &'a std::path::Path,
    pub events: &'a Events,
    pub stop: &'a StopFlag,
}

/// A stretch of the network up to a plan's cut.
struct Stretch<'a> {
    plan: &'a Plan,
    prefix: Prefix,
    /// Hash of all tensors from the image on.
    weights: String,
}

/// Where the rows of a cut go.
struct Tap {
    rows: Rows,
    n_values: usize,
    writer: Option<RowWriter>,
}

impl Filling<'_> {
    /// Computes and keeps what the frozen parts of these plans give for their images, as far as it is not there.
    ///
    /// Plans whose output would not be kept on disk, or depends on random changes, are left to their runs.
    pub fn fill(&self, plans: &[Plan]) -> Result<Completion<()>, TrainError> {
        let mut alike: BTreeMap<String, BTreeMap<usize, &Plan>> = BTreeMap::new();
        for plan in plans.iter().filter(|plan| plan.network.freeze.n_prefix_nodes > 0 && plan.spec.cache.enabled) {
            let cuts = alike.entry(network(plan)).or_default();
            cuts.insert(plan.network.freeze.n_prefix_nodes, plan);
        }
        for cuts in alike.into_values() {
            for chain in chains(&cuts.into_values().collect::<Vec<_>>()) {
                let stretches = self.stretches(&chain)?;
                for (split, _) in &chain[0].listings {
                    match self.split(*split, &stretches) {
                        Err(TrainError::Features(FeatureError::Stopped)) => return Ok(Completion::Stopped),
                        done => done?,
                    }
                    if self.stop.is_raised() {
                        return Ok(Completion::Stopped);
                    }
                }
            }
        }
        Ok(Completion::Done(()))
    }

    fn stretches<'p>(&self, plans: &[&'p Plan]) -> Result<Vec<Stretch<'p>>, ParametersError> {
        networks::with_parameters(plans[0], |sources| {
            let (mut stretches, mut tensors, mut start) = (Vec::new(), Vec::new(), 0);
            for &plan in plans {
                let prefix = Prefix::after(start, &plan.network, sources.backbone, &self.device.device)?;
                tensors.extend(prefix.tensors());
                stretches.push(Stretch { plan, prefix, weights: hash(&tensors) });
                start = plan.network.freeze.n_prefix_nodes;
            }
            Ok(stretches)
        })
    }

    fn split(&self, split: Split, stretches: &[Stretch<'_>]) -> Result<(), TrainError> {
        let deepest = stretches.last().expect("a chain has a stretch").plan;
        let Some((_, listing)) = deepest.listings.iter().find(|(of, _)| *of == split) else { return Ok(()) };
        if keeping::augment_of(&deepest.spec, split).draws() {
            return Ok(());
        }
        let n_images = listing.images.len() as u64;
        let mut taps: Vec<Option<Tap>> = Vec::new();
        for stretch in stretches {
            taps.push(self.tap(split, n_images, stretch)?);
        }
        if taps.iter().flatten().count() == 0 {
            return Ok(());
        }
        let settings = read_settings(deepest, &self.resources);
        let known = |hash: &blake3::Hash| {
            let mut found = taps.iter().flatten().map(|tap| Some((&tap.rows, tap.rows.find(hash.as_bytes())?)));
            let (rows, place) = found.next()??;
            found.all(|found| found.is_some()).then(|| rows.is_turned(place))
        };
        let progress = |n_done| self.events.progress(n_done);
        let images = self.events.phase(Phase::Index(split), n_images, || {
            Images::read_knowing(split, listing, &settings, self.stop, &progress, &known)
        });
        let images = match images {
            Ok(images) => Arc::new(images),
            Err(ReadError::Stopped { .. }) => return Err(FeatureError::Stopped.into()),
            Err(source) => return Err(TrainError::Data { split, source }),
        };
        let batching = batches::of_split(deepest, split, images.labels());
        let once = batches::once(deepest, &batching);
        let hashes = images.hashes();
        // Copies of one image are one row.
        let mut seen = HashSet::new();
        let is_missing = |member: &u32| {
            let key = hashes[*member as usize].as_bytes();
            taps.iter().flatten().any(|tap| tap.rows.find(key).is_none()) && seen.insert(*key)
        };
        let members: Vec<u32> = once.sections(1).flat_map(|section| once.images(&section)).filter(is_missing).collect();
        if members.is_empty() {
            return Ok(());
        }
        for (stretch, tap) in stretches.iter().zip(&mut taps) {
            self.open(tap, stretch, split, members.len() as u64)?;
        }
        let n_missing = members.len() as u64;
        let filled = self.events.phase(Phase::Prefix(split), n_missing, || {
            self.run(&images, members, once.batch_size, stretches, &mut taps)
        });
        // What was computed before a stop is not lost.
        for tap in taps.into_iter().flatten() {
            tap.writer.map_or(Ok(()), RowWriter::finish).map_err(FeatureError::from)?;
        }
        Ok(filled?)
    }

    /// The rows of a cut that are there; `None` where none are to be kept.
    fn tap(&self, split: Split, n_images: u64, stretch: &Stretch<'_>) -> Result<Option<Tap>, FeatureError> {
        let plan = stretch.plan;
        let cache = self.cache(plan);
        match keeping::decide(plan, split, n_images, self.resources, cache.as_ref()) {
            Keeping::OnDisk { .. } => {}
            Keeping::InMemory | Keeping::EveryTime { .. } => return Ok(None),
        }
        let Some(cache) = cache else { return Ok(None) };
        let rows = Rows::open(&cache, &self.facts(stretch, split))?;
        Ok(Some(Tap { rows, n_values: plan.prefix_chw().iter().product(), writer: None }))
    }

    fn cache(&self, plan: &Plan) -> Option<FeatureCache> {
        FeatureCache::of_spec(&plan.spec.cache, self.cache_dir.to_owned())
    }

    fn facts(&self, stretch: &Stretch<'_>, split: Split) -> Facts {
        keeping::facts_of(stretch.plan, split, &stretch.weights, &stretch.prefix.kernel())
    }

    /// Makes room and takes the right to write; a cut for which there is no room is passed through unkept.
    fn open(&self, tap: &mut Option<Tap>, stretch: &Stretch<'_>, split: Split, n: u64) -> Result<(), FeatureError> {
        let (Some(open), Some(cache)) = (tap.as_mut(), self.cache(stretch.plan)) else { return Ok(()) };
        let facts = self.facts(stretch, split);
        match cache.make_room(&facts, n * facts.row_bytes() as u64) {
            Err(error @ (CacheError::NoRoom { .. } | CacheError::Io { .. })) => {
                let cut = stretch.plan.cut();
                self.events
                    .send(Event::Warning(format!("what the layers up to {cut} give is not kept: cannot {error}")));
                *tap = None;
                return Ok(());
            }
            room => room?,
        }
        let waits = format!("another xp computes what the frozen layers give for the {split} images: waiting for it");
        open.writer = Some(open.rows.writer(self.stop, || self.events.send(Event::Warning(waits)))?);
        Ok(())
    }

    /// Runs the images through all stretches, and appends what each tap lacks.
    fn run(
        &self,
        images: &Arc<Images>,
        members: Vec<u32>,
        batch_size: u32,
        stretches: &[Stretch<'_>],
        taps: &mut [Option<Tap>],
    ) -> Result<(), FeatureError> {
        let deepest = stretches.last().expect("a chain has a stretch").plan;
        let n_members = members.len();
        let batching = Batching {
            n_images: u32::try_from(images.len()).expect("a split has fewer images"),
            batch_size,
            order: Order::Members(members.into()),
            last_single: LastSingle::Stays,
            steps_per_epoch: None,
        };
        let (seed, threads) = (deepest.spec.seed, self.resources.loader_threads);
        let settings = LoaderSettings { batching, augment: Augment::NONE, seed, threads };
        let loader = Loader::new(Arc::clone(images), settings);
        let mut n_done = 0;
        for batch in loader.epoch(1, self.stop) {
            let batch = batch?;
            let n = batch.labels.len();
            let keys: Vec<_> =
                batch.samples.iter().map(|sample| *images.hashes()[*sample as usize].as_bytes()).collect();
            let (Values::PixelsNhwc(pixels), chw) = Values::of(batch.bytes_nhwc, batch.shape) else {
                unreachable!("features have no frozen part")
            };
            let mut map = values::images(&deepest.preprocessing, pixels, chw, &self.device.device);
            for (stretch, tap) in stretches.iter().zip(taps.iter_mut()) {
                map = stretch.prefix.forward(map);
                let Some(Tap { rows, n_values, writer: Some(writer) }) = tap else { continue };
                let values = map.clone().try_into_vec_as::<f32>()?;
                for ((key, sample), row) in keys.iter().zip(&batch.samples).zip(values.chunks_exact(*n_values)) {
                    if rows.find(key).is_none() {
                        writer.append(key, images.is_turned(*sample as usize), row)?;
                    }
                }
            }
            n_done += n;
            self.events.progress(n_done as u64);
        }
        if self.stop.is_raised() || n_done < n_members { Err(FeatureError::Stopped) } else { Ok(()) }
    }
}

/// Plans by the depth of their cuts, in chains whose stretches may follow each other: a norm right after a cut is part of a
/// kernel before it in a deeper plan, so nothing goes on from there.
fn chains<'p>(by_depth: &[&'p Plan]) -> Vec<Vec<&'p Plan>> {
    let mut through = Vec::new();
    let mut chains = Vec::new();
    for &plan in by_depth {
        let network = &plan.network;
        let next = network.layout.nodes.get(network.freeze.n_prefix_nodes).map(|node| &node.operation);
        if matches!(next, Some(Operation::Norm(_))) {
            chains.push(vec![plan]);
        } else {
            through.push(plan);
        }
    }
    if !through.is_empty() {
        chains.push(through);
    }
    chains
}
