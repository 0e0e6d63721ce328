//! Writing checkpoints while burn-train trains: it drives three checkpointers, each on a thread of its own.
//!
//! Two of them write into a folder with another name. The last of them writes the manifest with everyone's hashes and gives
//! the folder its name, so a folder with the name is whole. The third is that of the learning-rate schedule, which needs
//! none: it is a function of the epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use burn::optim::OptimizerRecord;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::store::ModuleRecord;
use burn::train::checkpoint::{Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;

use crate::models::classifier::NetworkPlan;
use crate::run::event::Event;
use crate::train::bridge::wait_for_metrics;
use crate::train::channel::Events;
use crate::train::checkpoint::objects::FrozenObjects;
use crate::train::checkpoint::tensors::Tensors;
use crate::train::checkpoint::{
    CheckpointError, Checkpoints, FORMAT, FileHash, Manifest, OPTIMIZER, TRAINED, at, folder, records, sync_folder,
    write_tensors,
};

/// Writes the checkpoints of epochs that train the same network, and tells of each once it is whole.
#[derive(Debug)]
pub struct EpochWriter {
    pub checkpoints: Checkpoints,
    pub network: NetworkPlan,
    pub frozen: FrozenObjects,
    pub events: Events,
    pub steps_per_epoch: u64,
    /// Files written so far, by epoch.
    pub written: Mutex<BTreeMap<u32, BTreeMap<String, FileHash>>>,
}

impl EpochWriter {
    fn write(&self, epoch: u32, name: &str, tensors: &Tensors) -> Result<(), CheckpointError> {
        let partial = self.checkpoints.run_dir.join(format!("checkpoints/.epoch-{epoch:04}.partial"));
        at(&partial, fs::create_dir_all(&partial))?;
        let file = write_tensors(&partial.join(name), tensors)?;
        let mut written = self.written.lock().expect("nothing panics while it holds this lock");
        let files = written.entry(epoch).or_default();
        files.insert(name.to_owned(), file);
        if files.len() == 2 {
            let files = written.remove(&epoch).unwrap_or_default();
            self.complete(epoch, files, partial)?;
        }
        Ok(())
    }

    fn complete(&self, epoch: u32, files: BTreeMap<String, FileHash>, partial: PathBuf) -> Result<(), CheckpointError> {
        let manifest = Manifest {
            format: FORMAT,
            epoch,
            step: u64::from(epoch) * self.steps_per_epoch,
            xp: env!("CARGO_PKG_VERSION").to_owned(),
            backbone: self.network.layout.name.to_owned(),
            files,
            frozen: self.frozen.rows().clone(),
        };
        let saved = manifest.write(&partial, folder(epoch))?;
        let whole = self.checkpoints.run_dir.join(folder(epoch));
        at(&whole, fs::rename(&partial, &whole))?;
        at(&whole, sync_folder(&self.checkpoints.run_dir.join("checkpoints")))?;
        self.checkpoints.add(saved.clone());
        self.events.send(Event::CheckpointSaved(saved));
        Ok(())
    }
}

/// Writes the tensors that train.
#[derive(Debug)]
pub struct TrainedWriter {
    pub writer: Arc<EpochWriter>,
    /// What the training goes on from, where that is not the file.
    pub restored: Option<ModuleRecord>,
}

/// Writes the optimizer's state.
#[derive(Debug)]
pub struct OptimizerWriter(pub Arc<EpochWriter>);

/// Writes nothing.
#[derive(Debug)]
pub struct ScheduleWriter;

impl Checkpointer<ModuleRecord> for TrainedWriter {
    fn save(&self, epoch: usize, record: ModuleRecord) -> Result<(), CheckpointerError> {
        let bytes = record.into_bytes().map_err(CheckpointerError::Record)?;
        let tensors = records::trained(bytes, &self.writer.network).map_err(CheckpointerError::Unknown)?;
        self.writer.write(epoch as u32, TRAINED, &tensors).map_err(failed)
    }

    /// Old checkpoints are removed by whoever commits the newer ones.
    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, epoch: usize) -> Result<ModuleRecord, CheckpointerError> {
        match &self.restored {
            Some(record) => Ok(record.clone()),
            None => {
                let checkpoint = self.writer.checkpoints.open(epoch as u32).map_err(failed)?;
                checkpoint.module_record(&self.writer.network).map_err(failed)
            }
        }
    }
}

impl Checkpointer<OptimizerRecord> for OptimizerWriter {
    fn save(&self, epoch: usize, record: OptimizerRecord) -> Result<(), CheckpointerError> {
        let bytes = record.into_bytes().map_err(CheckpointerError::Record)?;
        let state = records::optimizer_state(bytes, &self.0.network).map_err(CheckpointerError::Unknown)?;
        self.0.write(epoch as u32, OPTIMIZER, &state).map_err(failed)
    }

    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, epoch: usize) -> Result<OptimizerRecord, CheckpointerError> {
        let checkpoint = self.0.checkpoints.open(epoch as u32).map_err(failed)?;
        checkpoint.optimizer_record(&self.0.network).map_err(failed)
    }
}

impl Checkpointer<LrSchedulerRecord> for ScheduleWriter {
    fn save(&self, _: usize, _: LrSchedulerRecord) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, _: usize) -> Result<LrSchedulerRecord, CheckpointerError> {
        Ok(LrSchedulerRecord::new())
    }
}

fn failed(error: CheckpointError) -> CheckpointerError {
    CheckpointerError::Unknown(error.to_string())
}

/// Saves after every epoch: which checkpoints stay is decided once an epoch is committed.
#[derive(Debug)]
pub struct EveryEpoch;

impl CheckpointingStrategy for EveryEpoch {
    fn checkpointing(&mut self, epoch: usize, store: &EventStoreClient) -> Vec<CheckpointingAction> {
        // The next epoch's learning rate may depend on what this one measured.
        wait_for_metrics(epoch, store);
        vec![CheckpointingAction::Save]
    }
}
