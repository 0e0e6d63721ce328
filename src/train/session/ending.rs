//! What follows the last epoch: the best checkpoint says what it makes of every validation image, and is tested.

use std::sync::Arc;

use crate::data::images::Images;
use crate::run::event::{Event, Phase};
use crate::run::metric::Split;
use crate::train::batches;
use crate::train::checkpoint::Checkpoints;
use crate::train::evaluate;
use crate::train::feed::Source;
use crate::train::history::History;
use crate::train::plan::Plan;
use crate::train::predictions::Measured;
use crate::train::predictions_file;
use crate::train::session::{Session, Trained, steps_per_epoch};
use crate::train::splits::{Splits, of_split};
use crate::train::step::Frame;
use crate::train::{Completion, TrainError};

impl Session<'_> {
    /// The last epoch that is there.
    pub(super) fn last_epoch(&self, history: &History) -> u32 {
        let values = history.values(self.plan.spec.checkpoint.monitor.key());
        values.last().map_or(self.epochs_done(), |(epoch, _)| *epoch)
    }

    /// The checkpoint that the monitored metric says is best. Where every value is NaN, the last epoch is as good as any.
    pub(super) fn best<'p>(
        &'p self,
        last: Trained<'p>,
        history: &History,
        checkpoints: &Checkpoints,
    ) -> Result<Trained<'p>, TrainError> {
        let monitor = self.plan.spec.checkpoint.monitor.key();
        let epoch = history.best_epoch(monitor).unwrap_or_else(|| self.last_epoch(history));
        let plan = self.plan.in_epoch(epoch);
        Ok(match plan.network.freeze == last.plan.network.freeze {
            true => {
                let trainee = evaluate::load(last.trainee, &plan, &checkpoints.open(epoch)?)?;
                Trained { plan, trainee, epoch, valid: last.valid }
            }
            false => Trained { trainee: self.at_epoch(&plan, epoch, checkpoints)?, plan, epoch, valid: None },
        })
    }

    /// Writes what the best checkpoint says of every validation image, unless there are too many. A file that cannot be
    /// written is no reason to lose a training.
    pub(super) fn record_predictions(&self, best: &Trained<'_>, splits: &Splits) -> Result<Completion<()>, TrainError> {
        let images = of_split(splits, Split::Valid).expect("a plan has a valid split");
        let batching = batches::of_split(&best.plan, Split::Valid, images.labels());
        let (n_images, max) = (batching.n_members(), self.plan.spec.max_recorded_predictions);
        if n_images > max {
            let text = format!(
                "what the network says of each of the {n_images} valid images is not kept: `max_recorded_predictions` is {max}"
            );
            if max > 0 {
                self.events.send(Event::Warning(text));
            }
            return Ok(Completion::Done(()));
        }
        let source = match &best.valid {
            Some(source) => Completion::Done(Arc::clone(source)),
            None => self.valid_source(&best.plan, images, best.trainee.frame())?,
        };
        let Completion::Done(source) = source else { return Ok(Completion::Stopped) };
        let measured = Measured { images, batching: &batching, source: &source };
        let predictions = self.events.phase(Phase::Predictions, u64::from(n_images), || {
            measured.predictions(&best.trainee, best.epoch, &self.stop, |n_done| self.events.progress(n_done))
        })?;
        let Completion::Done(predictions) = predictions else { return Ok(Completion::Stopped) };
        self.events.send(match predictions_file::write(self.run_dir, &predictions) {
            Ok(artifact) => Event::Written(artifact),
            Err(error) => {
                Event::Warning(format!("what the network says of each valid image is not kept: cannot write {error}"))
            }
        });
        Ok(Completion::Done(()))
    }

    fn valid_source(
        &self,
        plan: &Plan,
        images: &Arc<Images>,
        frame: &Frame,
    ) -> Result<Completion<Arc<Source>>, TrainError> {
        let source = self.reading(plan).source(Arc::clone(images), Split::Valid, frame)?;
        Ok(match source {
            Completion::Done(source) => Completion::Done(Arc::new(source)),
            Completion::Stopped => Completion::Stopped,
        })
    }

    /// Measures the test split, once.
    pub(super) fn test(&self, best: &Trained<'_>, splits: &Splits) -> Result<Completion<()>, TrainError> {
        let images = of_split(splits, Split::Test).filter(|_| self.measures_test);
        let Some(images) = images else { return Ok(Completion::Done(())) };
        let Trained { plan, trainee, epoch, .. } = best;
        let source = self.reading(plan).source(Arc::clone(images), Split::Test, trainee.frame())?;
        let Completion::Done(test) = source else { return Ok(Completion::Stopped) };
        let n_images = test.len() as u64;
        let measured = self.events.phase(Phase::Test, n_images, || {
            evaluate::measure(trainee, &test, &self.stop, |n_done| self.events.progress(n_done))
        })?;
        let Completion::Done(measured) = measured else { return Ok(Completion::Stopped) };
        let step = u64::from(*epoch) * steps_per_epoch(self.plan, splits);
        self.events.send(Event::Tested { points: measured.points(Split::Test, *epoch, step) });
        Ok(Completion::Done(()))
    }
}
