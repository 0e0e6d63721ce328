//! The next batches of an epoch, made while the one before them trains: read or gathered, padded, and on their device.
//!
//! One thread serves all epochs of a split: a device's memory belongs to the thread that takes it.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use burn::data::dataset::DatasetError;

use crate::run::stop::StopFlag;
use crate::train::feed::Source;
use crate::train::step::Input;

/// Batches that wait, beside the one that is being made.
const N_WAITING: usize = 1;

/// Makes the batches of a source; dropping it ends and joins its thread.
#[derive(Debug)]
pub struct Maker {
    /// Empty once it ends.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Request {
    epoch: u32,
    made: SyncSender<Made>,
}

#[derive(Debug)]
enum Made {
    Batch(Box<Result<Input, DatasetError>>),
    /// There are no more.
    End,
    Panic(Box<dyn Any + Send>),
}

/// The batches of one epoch; ends early when the stop flag is raised.
#[derive(Debug)]
pub struct Epoch {
    made: Receiver<Made>,
}

impl Maker {
    /// Errors: the thread could not be started.
    pub fn new(source: Arc<Source>, stop: StopFlag) -> io::Result<Self> {
        let (requests, received) = channel::<Request>();
        let serve = move || {
            for Request { epoch, made } in received {
                let make = || {
                    for input in source.epoch(epoch, &stop) {
                        // Nobody listens to an epoch that was left early.
                        if made.send(Made::Batch(Box::new(input))).is_err() {
                            break;
                        }
                    }
                };
                let last = catch_unwind(AssertUnwindSafe(make)).map_or_else(Made::Panic, |()| Made::End);
                let _ = made.send(last);
            }
        };
        let thread = std::thread::Builder::new().name("batches".to_owned()).spawn(serve)?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Begins with the batches of an epoch.
    pub fn epoch(&self, epoch: u32) -> Epoch {
        let (made, received) = sync_channel(N_WAITING);
        let requests = self.requests.as_ref().expect("only dropping ends it");
        requests.send(Request { epoch, made }).expect("its thread ends with it");
        Epoch { made: received }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.requests = None;
        // What went wrong there was told with the batches.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Iterator for Epoch {
    type Item = Result<Input, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.made.recv().expect("the thread says when it ends") {
            Made::Batch(input) => Some(*input),
            Made::End => None,
            Made::Panic(panic) => resume_unwind(panic),
        }
    }
}
