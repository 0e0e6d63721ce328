//! One training from its first image to its test: what is done, in which order.

mod ending;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::train::{ExecutionStrategy, Interrupter, Learner, SupervisedTraining};

use crate::data::feature_cache::FeatureCache;
use crate::data::images::Images;
use crate::models::classifier::{NamedTensors, count_parameters, hash};
use crate::run::detail::RunDetail;
use crate::run::event::{DataFacts, Event, ModelFacts, PlanStepFacts, SavedCheckpoint, TrainedFacts};
use crate::run::freezing::{Breach, Moment, Proof};
use crate::run::metric::{Measure, Split};
use crate::run::stop::StopFlag;
use crate::run::stretch::Stretch;
use crate::settings::Resources;
use crate::spec::schema::OnNan;
use crate::train::batches;
use crate::train::bill;
use crate::train::bridge::{NanGuard, NotFinite, Patience, ProgressBridge, Recorder, RecorderSettings};
use crate::train::channel::Events;
use crate::train::checkpoint::Checkpoints;
use crate::train::checkpoint::objects::FrozenObjects;
use crate::train::checkpoint::writer::{EpochWriter, EveryEpoch, OptimizerWriter, ScheduleWriter, TrainedWriter};
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
use crate::train::schedule::{Course, StepSchedule};
use crate::train::splits::{Reading, Splits, data_facts, of_split};
use crate::train::step::{Frame, Trainee};
use crate::train::{Completion, TrainError};

/// All that a training needs.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    pub plan: &'a Plan,
    pub device: &'a TrainDevice,
    /// The run's own folder, for its checkpoints.
    pub run_dir: &'a Path,
    /// Where the tensors that do not train are kept, for all runs.
    pub objects_dir: &'a Path,
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
    /// Whether the best epoch is measured on the test images at the end.
    pub measures_test: bool,
    /// What the epochs are trained under; empty for a training as its spec says.
    pub stretches: Vec<Stretch>,
}

/// What an earlier process of the same run left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct ResumePoint {
    /// The checkpoints that are there, by epoch; training goes on from the last.
    pub checkpoints: Vec<SavedCheckpoint>,
    /// The committed epochs' values of the metrics that decide something.
    pub history: EpochValues,
}

impl ResumePoint {
    /// The last committed epoch; 0 when none was.
    pub fn epoch(&self) -> u32 {
        self.checkpoints.last().map_or(0, |checkpoint| checkpoint.epoch)
    }
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

/// The sources of a section's batches.
struct Sources {
    train: Arc<Source>,
    valid: Arc<Source>,
}

/// A network at the end of an epoch.
struct Trained<'a> {
    plan: Cow<'a, Plan>,
    trainee: Trainee,
    epoch: u32,
    /// The valid batches of the plan's cut, where they were made already.
    valid: Option<Arc<Source>>,
}

/// Epochs that follow each other with the same layers frozen, as one step of a plan has them.
struct Section<'a> {
    plan: &'a Plan,
    /// Epochs before it.
    done: u32,
    /// Its last epoch.
    end: u32,
    /// Whether the epoch before had other layers frozen, so that the network is not its checkpoint's.
    is_handed_over: bool,
}

impl Session<'_> {
    /// Trains all epochs and measures the test split with the best checkpoint.
    ///
    /// A raised stop flag ends it after the step it is in.
    pub fn train(&self) -> Result<Completion<()>, TrainError> {
        let done = self.epochs_done();
        let plan = self.plan.in_epoch(done + 1);
        let network = network::build(&plan, self.device)?;
        self.refuse_other_weights(&network)?;
        let Completion::Done(splits) = self.read_splits(&plan, network.trainee.frame())? else {
            return Ok(Completion::Stopped);
        };
        let untrained = self.as_it_ends(&plan, network.trainee.clone())?;
        let tensors = network::named_tensors(&untrained.0, &untrained.1);
        self.events.send(Event::Model(model_facts(&untrained.0, &network.weights_hash, &tensors)));
        let before = self.moment(&untrained, &tensors)?;
        drop((tensors, untrained));
        self.events.send(Event::TensorsBefore(before.clone()));
        self.send_bill(&plan, &splits);
        let history = History::new(self.resume.as_ref().map(|resume| resume.history.clone()).unwrap_or_default());
        let recorded = self.resume.as_ref().map_or(&[][..], |resume| &resume.checkpoints);
        let checkpoints = Checkpoints::new(self.run_dir, recorded);
        let Completion::Done(trained) = self.all_steps(network.trainee, &splits, &history, &checkpoints)? else {
            return Ok(Completion::Stopped);
        };
        let as_it_ends = self.as_it_ends(&trained.plan, trained.trainee.clone())?;
        let tensors = network::named_tensors(&as_it_ends.0, &as_it_ends.1);
        self.prove(&before, self.moment(&as_it_ends, &tensors)?)?;
        self.events.send(Event::Trained(TrainedFacts {
            frozen_hash: hash(&tensors.frozen),
            trained_hash: hash(&tensors.trained),
        }));
        drop((tensors, as_it_ends));
        let best = self.best(trained, &history, &checkpoints)?;
        match self.record_predictions(&best, &splits)? {
            Completion::Done(()) => self.test(&best, &splits),
            Completion::Stopped => Ok(Completion::Stopped),
        }
    }

    /// A network cut as in the last step, whose frozen layers no step trains.
    fn as_it_ends<'p>(&'p self, plan: &Plan, trainee: Trainee) -> Result<(Cow<'p, Plan>, Trainee), TrainError> {
        let last = self.plan.in_epoch(u32::MAX);
        let trainee = self.recut(plan, trainee, &last)?;
        Ok((last, trainee))
    }

    fn recut(&self, from: &Plan, trainee: Trainee, to: &Plan) -> Result<Trainee, TrainError> {
        if from.network.freeze == to.network.freeze {
            return Ok(trainee);
        }
        Ok(network::recut(from, &trainee, to, self.device)?)
    }

    fn reading<'p>(&'p self, plan: &'p Plan) -> Reading<'p> {
        Reading { plan, resources: self.resources, events: &self.events, stop: &self.stop, cache: self.cache.as_ref() }
    }

    fn read_splits(&self, plan: &Plan, frame: &Frame) -> Result<Completion<Splits>, TrainError> {
        let Completion::Done(splits) = self.reading(plan).all(Some(frame))? else { return Ok(Completion::Stopped) };
        let facts = data_facts(plan, &splits);
        self.refuse_other_data(&facts)?;
        self.events.send(Event::Accepted);
        self.events.send(Event::Data(facts));
        Ok(Completion::Done(splits))
    }

    fn moment(&self, (plan, trainee): &(Cow<'_, Plan>, Trainee), tensors: &NamedTensors) -> Result<Moment, TrainError> {
        proof::moment(plan, trainee, tensors).map_err(|error| TrainError::Engine(error.to_string()))
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

    fn send_bill(&self, plan: &Plan, splits: &Splits) {
        let n_used = |split, images: &Images| batches::of_split(plan, split, images.labels()).n_members();
        let images: Vec<_> = splits.iter().map(|(split, images)| (*split, u64::from(n_used(*split, images)))).collect();
        self.events.send(Event::Bill(bill::of(plan, &images, self.resources, self.cache.as_ref())));
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
        self.resume.as_ref().map_or(0, ResumePoint::epoch)
    }

    /// Trains from where the run is to its last epoch, step after step of its plan; gives the last epoch's plan and network.
    /// `untrained` has the cut of the first epoch that there is to train.
    fn all_steps(
        &self,
        untrained: Trainee,
        splits: &Splits,
        history: &History,
        checkpoints: &Checkpoints,
    ) -> Result<Completion<Trained<'_>>, TrainError> {
        let mut done = self.epochs_done();
        if done >= self.plan.spec.epochs || (done > 0 && self.stops_early(history)) {
            let plan = self.plan.in_epoch(done);
            let trainee = self.at_epoch(&plan, done, checkpoints)?;
            return Ok(Completion::Done(Trained { plan, trainee, epoch: done, valid: None }));
        }
        let starts = self.plan.spec.step_starts();
        let mut untrained = Some(untrained);
        loop {
            if self.until_epoch.is_some_and(|until| done >= until) {
                return Ok(Completion::Stopped);
            }
            let plan = self.plan.in_epoch(done + 1);
            let step = self.plan.spec.step_of(done + 1);
            let end = starts.get(step + 1).copied().unwrap_or(self.plan.spec.epochs);
            if starts.len() > 1 {
                self.events.send(Event::StepOfPlan(step_facts(&plan, step, &starts)));
            }
            // Where layers come free, the checkpoint is that of a network with another cut.
            let before = Some(done).filter(|done| *done > 0).map(|done| self.plan.in_epoch(done));
            let before = before.filter(|before| before.network.freeze != plan.network.freeze);
            let trainee = match (&before, untrained.take()) {
                (Some(before), _) => self.recut(before, self.at_epoch(before, done, checkpoints)?, &plan)?,
                (None, Some(untrained)) => untrained,
                (None, None) => network::build(&plan, self.device)?.trainee,
            };
            let Completion::Done(sources) = self.sources(&plan, splits, &trainee)? else {
                return Ok(Completion::Stopped);
            };
            let section = Section { plan: &plan, done, end, is_handed_over: before.is_some() };
            let Completion::Done(trainee) = self.fit(&section, trainee, &sources, (history, checkpoints))? else {
                return Ok(Completion::Stopped);
            };
            if end >= self.plan.spec.epochs || self.stops_early(history) {
                let epoch = self.last_epoch(history);
                return Ok(Completion::Done(Trained { plan, trainee, epoch, valid: Some(sources.valid) }));
            }
            done = end;
        }
    }

    /// The network of an epoch's checkpoint, whose plan is that of the epoch.
    fn at_epoch(&self, plan: &Plan, epoch: u32, checkpoints: &Checkpoints) -> Result<Trainee, TrainError> {
        evaluate::load(network::build(plan, self.device)?.trainee, plan, &checkpoints.open(epoch)?)
    }

    fn sources(&self, plan: &Plan, splits: &Splits, trainee: &Trainee) -> Result<Completion<Sources>, TrainError> {
        let mut made = Vec::new();
        for wanted in [Split::Train, Split::Valid] {
            let images = of_split(splits, wanted).expect("a plan has a train and a valid split");
            let Completion::Done(source) = self.reading(plan).source(Arc::clone(images), wanted, trainee.frame())?
            else {
                return Ok(Completion::Stopped);
            };
            made.push(Arc::new(source));
        }
        let [train, valid] = <[Arc<Source>; 2]>::try_from(made).expect("two were made");
        Ok(Completion::Done(Sources { train, valid }))
    }

    /// Whether the last epoch so far is the last of all; not where more was asked for after it.
    fn stops_early(&self, history: &History) -> bool {
        let Some(stopping) = &self.plan.spec.early_stopping else { return false };
        let values = history.values(stopping.monitor.key());
        let goes_past = |epoch: u32| self.past_early_stops().contains(&epoch);
        history::stops_early(&values, stopping) && !values.last().is_some_and(|(epoch, _)| goes_past(*epoch))
    }

    /// The epochs after which the training goes on, although early stopping had ended it.
    fn past_early_stops(&self) -> Vec<u32> {
        let past = self.stretches.iter().filter(|stretch| stretch.is_past_early_stop);
        past.map(|stretch| stretch.after_epoch).collect()
    }

    fn course(&self, history: &History, steps_per_epoch: u64) -> Course {
        let spec = &self.plan.spec;
        let stretches = match self.stretches.as_slice() {
            [] => vec![Stretch::whole(spec.epochs, spec.schedule.value())],
            stretches => stretches.to_vec(),
        };
        Course { schedule: spec.schedule.clone(), stretches, steps_per_epoch, history: history.clone() }
    }

    /// Hands a section of epochs to burn-train.
    fn fit(
        &self,
        section: &Section<'_>,
        trainee: Trainee,
        sources: &Sources,
        (history, checkpoints): (&History, &Checkpoints),
    ) -> Result<Completion<Trainee>, TrainError> {
        let Section { plan, done, end, is_handed_over } = *section;
        let spec = &plan.spec;
        let steps_per_epoch = sources.train.steps_per_epoch();
        let last = self.until_epoch.map_or(end, |until| until.min(end));
        let interrupter = Interrupter::new();
        let feed = |source: &Arc<Source>| {
            let feed = Feed::new(Arc::clone(source), done, self.stop.clone(), interrupter.clone());
            feed.map(Arc::new).map_err(|error| TrainError::Engine(error.to_string()))
        };
        let writer = Arc::new(EpochWriter {
            checkpoints: checkpoints.clone(),
            network: plan.network.clone(),
            frozen: FrozenObjects::of(plan, self.objects_dir)?,
            events: self.events.clone(),
            steps_per_epoch,
            written: Mutex::default(),
        });
        let restored = is_handed_over.then(|| trainee.clone().into_record());
        let trained = TrainedWriter { writer: Arc::clone(&writer), restored };
        let guard = (spec.on_nan == OnNan::Stop).then(|| NanGuard::new(interrupter.clone()));
        let settings = RecorderSettings {
            log_every: spec.log_every,
            accumulation: spec.gradient_accumulation_steps,
            step: u64::from(done) * steps_per_epoch,
            guard: guard.clone(),
        };
        let recorder = Recorder::new(self.events.clone(), history.clone(), settings);
        let device = self.device.device.clone().autodiff();
        let training = SupervisedTraining::new(self.run_dir, feed(&sources.train)?, feed(&sources.valid)?)
            .num_epochs(last as usize)
            .with_application_logger(None)
            .with_metric_logger(recorder)
            .renderer(Box::new(ProgressBridge::new(self.events.clone(), spec.epochs, done)))
            .with_interrupter(interrupter)
            .with_custom_checkpointers(trained, OptimizerWriter(writer), ScheduleWriter)
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
                let patience = Patience::new(self.events.clone(), history.clone(), stopping.clone());
                training.early_stopping(patience.except_after(self.past_early_stops()))
            }
            None => training,
        };
        let course = self.course(history, steps_per_epoch);
        let schedule = |base| StepSchedule::new(course.clone(), base, done);
        let (groups, _) = rate_groups::of(spec, &plan.network);
        let schedule = rate_groups::scheduler(spec.optimizer.learning_rate(), &groups, schedule);
        let learner = Learner::new(trainee, optimizer::from_spec(&spec.optimizer), schedule);
        let result = training.launch(learner);
        if let Some(NotFinite { epoch, step, loss }) = guard.and_then(|guard| guard.found()) {
            return Err(TrainError::NotFinite { epoch, step, loss });
        }
        let is_paused = last < end && !self.stops_early(history);
        match (result.error, result.interrupted) {
            (Some(error), _) => Err(TrainError::Engine(error.to_string())),
            (None, Some(_)) => Ok(Completion::Stopped),
            (None, None) if is_paused => Ok(Completion::Stopped),
            (None, None) => Ok(Completion::Done(result.model)),
        }
    }
}

/// The optimizer's steps in an epoch.
fn steps_per_epoch(plan: &Plan, splits: &Splits) -> u64 {
    let n_batches = of_split(splits, Split::Train)
        .map_or(0, |images| batches::of_split(plan, Split::Train, images.labels()).batches_per_epoch());
    n_batches.div_ceil(u64::from(plan.spec.gradient_accumulation_steps))
}

fn model_facts(plan: &Plan, weights_hash: &str, tensors: &NamedTensors) -> ModelFacts {
    let count = count_parameters(&plan.network);
    ModelFacts {
        weights_hash: weights_hash.to_owned(),
        n_parameters: count.total,
        n_trained_parameters: count.trained,
        n_frozen_layers: plan.network.freeze.n_rows,
        cut: plan.cut().to_owned(),
        frozen_hash: hash(&tensors.frozen),
    }
}

fn step_facts(plan: &Plan, step: usize, starts: &[u32]) -> PlanStepFacts {
    PlanStepFacts {
        step: step + 1,
        n_steps: starts.len(),
        first_epoch: starts[step] + 1,
        n_frozen_layers: plan.network.freeze.n_rows,
        n_trained_parameters: count_parameters(&plan.network).trained,
    }
}
