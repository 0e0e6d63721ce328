//! One training from its first image to its test: what is done, in which order.

use std::path::Path;
use std::sync::Arc;

use burn::train::{ExecutionStrategy, Interrupter, Learner, SupervisedTraining};

use crate::data::feature_cache::FeatureCache;
use crate::data::images::Images;
use crate::models::classifier::{NamedTensors, count_parameters, hash};
use crate::run::detail::RunDetail;
use crate::run::event::{DataFacts, Event, ModelFacts, Phase, TrainedFacts};
use crate::run::freezing::{Breach, Moment, Proof};
use crate::run::metric::{Measure, Split};
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::spec::schema::OnNan;
use crate::train::batches;
use crate::train::bill;
use crate::train::bridge::{NanGuard, NotFinite, Patience, ProgressBridge, Recorder, RecorderSettings};
use crate::train::channel::Events;
use crate::train::checkpoint::{self, EpochWriter, EveryEpoch, PartWriter};
use crate::train::device::TrainDevice;
use crate::train::evaluate;
use crate::train::feed::{Feed, Source};
use crate::train::history::{self, EpochValues, History};
use crate::train::metric::ImageMean;
use crate::train::network::{self, Network};
use crate::train::optimizer;
use crate::train::plan::Plan;
use crate::train::proof;
use crate::train::rate_groups;
use crate::train::schedule::StepSchedule;
use crate::train::splits::{Reading, data_facts};
use crate::train::step::{Frame, Trainee};
use crate::train::{Completion, TrainError};

/// All that a training needs.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    pub plan: &'a Plan,
    pub device: &'a TrainDevice,
    /// The run's own folder, for its checkpoints.
    pub run_dir: &'a Path,
    pub resources: Resources,
    /// Where the frozen layers' output may be kept on disk.
    pub cache: Option<FeatureCache>,
    pub events: Events,
    pub stop: StopFlag,
    pub expected: Inputs,
    /// Where an earlier process got to; `None` for a new run.
    pub resume: Option<ResumePoint>,
    /// An epoch after which the training stops, to go on later, where the spec has more.
    pub until_epoch: Option<u32>,
}

/// What an earlier process of the same run left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct ResumePoint {
    /// The last committed epoch, whose checkpoint is there; 0 when none was.
    pub epoch: u32,
    /// The committed epochs' values of the metrics that decide something.
    pub history: EpochValues,
    /// Whether the run had finished before: what is asked for is more than what ended it.
    pub extends: bool,
}

/// What a run must be trained on, because it goes on with a record or repeats one; nothing is asked of what is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    pub data: Option<DataFacts>,
    pub weights_hash: Option<String>,
}

impl Inputs {
    /// Those of a run.
    pub fn of(run: &RunDetail) -> Self {
        let weights_hash = run.model.as_ref().map(|model| model.weights_hash.clone());
        Self { data: run.data.clone(), weights_hash }
    }
}

/// The sources of a training's batches.
struct Sources {
    train: Arc<Source>,
    valid: Arc<Source>,
    test: Option<Source>,
    steps_per_epoch: u64,
}

impl Session<'_> {
    /// Trains all epochs and measures the test split with the best checkpoint.
    ///
    /// A raised stop flag ends it after the step it is in.
    pub fn train(&self) -> Result<Completion<()>, TrainError> {
        let network = network::build(self.plan, self.device)?;
        self.refuse_other_weights(&network)?;
        let Completion::Done(splits) = self.read_splits(network.trainee.frame())? else {
            return Ok(Completion::Stopped);
        };
        let tensors = network::named_tensors(self.plan, &network.trainee);
        self.events.send(Event::Model(self.model_facts(&network, &tensors)));
        let before = self.moment(&network.trainee, &tensors)?;
        drop(tensors);
        self.events.send(Event::TensorsBefore(before.clone()));
        self.send_bill(&splits);
        let Completion::Done(sources) = self.sources(splits, &network.trainee)? else { return Ok(Completion::Stopped) };
        let history = History::new(self.resume.as_ref().map(|resume| resume.history.clone()).unwrap_or_default());
        let Completion::Done(trained) = self.fit(network.trainee, &sources, &history)? else {
            return Ok(Completion::Stopped);
        };
        let tensors = network::named_tensors(self.plan, &trained);
        self.prove(&before, self.moment(&trained, &tensors)?)?;
        self.events.send(Event::Trained(TrainedFacts {
            frozen_hash: hash(&tensors.frozen),
            trained_hash: hash(&tensors.trained),
        }));
        drop(tensors);
        self.test(trained, &sources, &history)
    }

    fn reading(&self) -> Reading<'_> {
        Reading {
            plan: self.plan,
            resources: self.resources,
            events: &self.events,
            stop: &self.stop,
            cache: self.cache.as_ref(),
        }
    }

    fn read_splits(&self, frame: &Frame) -> Result<Completion<Vec<(Split, Images)>>, TrainError> {
        let Completion::Done(splits) = self.reading().all(Some(frame))? else { return Ok(Completion::Stopped) };
        let facts = data_facts(self.plan, &splits);
        self.refuse_other_data(&facts)?;
        self.events.send(Event::Data(facts));
        Ok(Completion::Done(splits))
    }

    fn moment(&self, trainee: &Trainee, tensors: &NamedTensors) -> Result<Moment, TrainError> {
        proof::moment(self.plan, trainee, tensors).map_err(|error| TrainError::Engine(error.to_string()))
    }

    /// Freezing is proved, not assumed. Where the run goes on, `before` is what it began with all the same: it is built
    /// from the weights and the seed.
    fn prove(&self, before: &Moment, after: Moment) -> Result<(), TrainError> {
        let breach = Proof::of(before, &after).breach();
        self.events.send(Event::TensorsAfter(after));
        match breach {
            None => Ok(()),
            Some(Breach::FrozenMoved(moved)) => Err(TrainError::FrozenMoved { moved }),
            Some(Breach::ProbeMoved) => Err(TrainError::ProbeMoved),
            Some(Breach::NothingMoved) => Err(TrainError::NothingMoved),
        }
    }

    fn send_bill(&self, splits: &[(Split, Images)]) {
        let n_used = |split, images: &Images| batches::of_split(self.plan, split, images.labels()).n_members();
        let images: Vec<_> = splits.iter().map(|(split, images)| (*split, u64::from(n_used(*split, images)))).collect();
        let bill = bill::of(self.plan, &images, self.resources, self.cache.as_ref());
        self.events.send(Event::Bill(bill));
    }

    /// Epochs on other images would not be epochs of the same run.
    fn refuse_other_data(&self, facts: &DataFacts) -> Result<(), TrainError> {
        match &self.expected.data {
            Some(before) if before != facts => {
                let changed = facts.splits.iter().filter(|split| !before.splits.contains(split));
                Err(TrainError::OtherData { splits: changed.map(|split| split.split.to_string()).collect() })
            }
            _ => Ok(()),
        }
    }

    fn refuse_other_weights(&self, network: &Network) -> Result<(), TrainError> {
        match &self.expected.weights_hash {
            Some(before) if *before != network.weights_hash => {
                Err(TrainError::OtherWeights { trained_with: before.clone(), here: network.weights_hash.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The last epoch that an earlier process committed.
    fn epochs_done(&self) -> u32 {
        self.resume.as_ref().map_or(0, |resume| resume.epoch)
    }

    fn model_facts(&self, network: &Network, tensors: &NamedTensors) -> ModelFacts {
        let count = count_parameters(&self.plan.network);
        ModelFacts {
            weights_hash: network.weights_hash.clone(),
            n_parameters: count.total,
            n_trained_parameters: count.trained,
            n_frozen_layers: self.plan.network.freeze.n_rows,
            cut: self.plan.cut().to_owned(),
            frozen_hash: hash(&tensors.frozen),
        }
    }

    fn sources(&self, splits: Vec<(Split, Images)>, trainee: &Trainee) -> Result<Completion<Sources>, TrainError> {
        let (mut train, mut valid, mut test) = (None, None, None);
        for (split, images) in splits {
            let made = self.reading().source(images, split, trainee.frame())?;
            let Completion::Done(made) = made else { return Ok(Completion::Stopped) };
            match split {
                Split::Train => train = Some(Arc::new(made)),
                Split::Valid => valid = Some(Arc::new(made)),
                Split::Test => test = Some(made),
            }
        }
        let (train, valid) = train.zip(valid).expect("a plan has a train and a valid split");
        let steps_per_epoch = train.steps_per_epoch();
        Ok(Completion::Done(Sources { train, valid, test, steps_per_epoch }))
    }

    /// Whether the epoch before an interruption was the last, and only what follows the training is missing.
    fn had_stopped_early(&self, history: &History) -> bool {
        self.resume.as_ref().is_some_and(|resume| !resume.extends) && self.stops_early(history)
    }

    fn stops_early(&self, history: &History) -> bool {
        let stopping = self.plan.spec.early_stopping.as_ref();
        stopping.is_some_and(|stopping| history::stops_early(&history.values(stopping.monitor.key()), stopping))
    }

    /// Hands the training to burn-train.
    fn fit(&self, trainee: Trainee, sources: &Sources, history: &History) -> Result<Completion<Trainee>, TrainError> {
        let spec = &self.plan.spec;
        let done = self.epochs_done();
        let last = self.until_epoch.map_or(spec.epochs, |until| until.min(spec.epochs));
        if done > 0 {
            checkpoint::verify(self.run_dir, done)?;
        }
        if done >= spec.epochs || self.had_stopped_early(history) {
            return Ok(Completion::Done(evaluate::load(trainee, self.run_dir, done)?));
        }
        if done >= last {
            return Ok(Completion::Stopped);
        }
        let interrupter = Interrupter::new();
        let feed = |source: &Arc<Source>| {
            Arc::new(Feed::new(Arc::clone(source), done, self.stop.clone(), interrupter.clone()))
        };
        let writer = EpochWriter::new(self.run_dir.to_owned(), self.events.clone(), sources.steps_per_epoch);
        let [model, optimizer, state] = PartWriter::all(&writer);
        let guard = (spec.on_nan == OnNan::Stop).then(|| NanGuard::new(interrupter.clone()));
        let settings = RecorderSettings {
            log_every: spec.log_every,
            accumulation: spec.gradient_accumulation_steps,
            step: u64::from(done) * sources.steps_per_epoch,
            guard: guard.clone(),
        };
        let recorder = Recorder::new(self.events.clone(), history.clone(), settings);
        let device = self.device.device.clone().autodiff();
        let training = SupervisedTraining::new(self.run_dir, feed(&sources.train), feed(&sources.valid))
            .num_epochs(last as usize)
            .with_application_logger(None)
            .with_metric_logger(recorder)
            .renderer(Box::new(ProgressBridge::new(self.events.clone(), spec.epochs, done)))
            .with_interrupter(interrupter)
            .with_custom_checkpointers(model, optimizer, state)
            .with_checkpointing_strategy(EveryEpoch)
            .grads_accumulation(spec.gradient_accumulation_steps as usize)
            .with_training_strategy(ExecutionStrategy::SingleDevice(device).into());
        let measured = |training: SupervisedTraining<Trainee>, measure: Measure| {
            training.metric_train_numeric(ImageMean::new(measure)).metric_valid_numeric(ImageMean::new(measure))
        };
        let training = network::measures(spec).into_iter().fold(training, measured);
        let training = if done > 0 { training.checkpoint(done as usize) } else { training };
        let training = match &spec.early_stopping {
            Some(stopping) => {
                training.early_stopping(Patience::new(self.events.clone(), history.clone(), stopping.clone()))
            }
            None => training,
        };
        let schedule = |base| StepSchedule::new(spec, base, sources.steps_per_epoch, done, history.clone());
        let groups = rate_groups::of(spec, &self.plan.network).expect("a plan's names were checked");
        let schedule = rate_groups::scheduler(spec.optimizer.learning_rate(), &groups, schedule);
        let learner = Learner::new(trainee, optimizer::from_spec(&spec.optimizer), schedule);
        let result = training.launch(learner);
        if let Some(NotFinite { epoch, step, loss }) = guard.and_then(|guard| guard.found()) {
            return Err(TrainError::NotFinite { epoch, step, loss });
        }
        let is_paused = last < spec.epochs && !self.stops_early(history);
        match (result.error, result.interrupted) {
            (Some(error), _) => Err(TrainError::Engine(error.to_string())),
            (None, Some(_)) => Ok(Completion::Stopped),
            (None, None) if is_paused => Ok(Completion::Stopped),
            (None, None) => Ok(Completion::Done(result.model)),
        }
    }

    /// Measures the test split, once, with the checkpoint that the monitored metric says is best.
    fn test(&self, trained: Trainee, sources: &Sources, history: &History) -> Result<Completion<()>, TrainError> {
        let Some(test) = &sources.test else { return Ok(Completion::Done(())) };
        let monitor = self.plan.spec.checkpoint.monitor.key();
        // Where every value is NaN, the last epoch is as good as any.
        let last = || history.values(monitor).last().map_or(self.epochs_done(), |(epoch, _)| *epoch);
        let epoch = history.best_epoch(monitor).unwrap_or_else(last);
        let trainee = evaluate::load(trained, self.run_dir, epoch)?;
        let n_images = test.len() as u64;
        let measured = self.events.phase(Phase::Test, n_images, || {
            evaluate::measure(&trainee, test, &self.stop, |n_done| self.events.progress(n_done))
        })?;
        let Completion::Done(measured) = measured else { return Ok(Completion::Stopped) };
        let step = u64::from(epoch) * sources.steps_per_epoch;
        self.events.send(Event::Tested { points: measured.points(Split::Test, epoch, step) });
        Ok(Completion::Done(()))
    }
}
