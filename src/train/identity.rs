//! What a plan would be trained on, found out without training.

use crate::run::event::DataFacts;
use crate::run::stop::StopFlag;
use crate::settings::Resources;
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::network;
use crate::train::plan::Plan;
use crate::train::splits::{Reading, data_facts};
use crate::train::{Completion, TrainError};

/// The images' facts and the weights' hash, as a run of the plan would record them.
pub fn inputs(
    plan: &Plan,
    device: &TrainDevice,
    resources: Resources,
    events: &Events,
    stop: &StopFlag,
) -> Result<Completion<(DataFacts, String)>, TrainError> {
    let network = network::build(plan, device)?;
    let reading = Reading { plan, resources, events, stop, cache: None };
    match reading.all(None)? {
        Completion::Done(splits) => Ok(Completion::Done((data_facts(plan, &splits), network.weights_hash))),
        Completion::Stopped => Ok(Completion::Stopped),
    }
}
