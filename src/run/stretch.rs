//! Stretches of a training: epochs that were trained under one length of it, and what begins a new one.

use serde_json::Value;

/// The parameter of a run that tells its stretches, where they make another training of it.
pub const STRETCHES: &str = "stretches";

/// Epochs that were trained while as many were asked for, up to where the next stretch begins.
///
/// A run has one, and another wherever more or fewer epochs were asked for when it went on.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Epochs before it.
    pub after_epoch: u32,
    /// Epochs that were asked for, those before it included.
    pub epochs: u32,
    /// The schedule of the learning rate, as the spec has it.
    pub schedule: Value,
    /// Epochs before the schedule began: 0, or where it was started over.
    pub schedule_after: u32,
    /// Whether early stopping had ended the training here, and it went on all the same.
    pub is_past_early_stop: bool,
}

impl Stretch {
    /// The only stretch of a run that is trained as its spec says.
    pub fn whole(epochs: u32, schedule: Value) -> Self {
        Self { after_epoch: 0, epochs, schedule, schedule_after: 0, is_past_early_stop: false }
    }

    /// Epochs of the schedule's curve.
    pub fn schedule_epochs(&self) -> u32 {
        self.epochs.saturating_sub(self.schedule_after)
    }
}

/// The stretch that an epoch, counted from 1, is part of; `None` where there are none.
pub fn of_epoch(stretches: &[Stretch], epoch: u32) -> Option<&Stretch> {
    stretches.iter().rev().find(|stretch| stretch.after_epoch < epoch).or(stretches.first())
}

/// Each stretch with its last epoch, the last one's being `last_epoch`; those in which no epoch was trained are left out.
pub fn trained(stretches: &[Stretch], last_epoch: u32) -> Vec<(&Stretch, u32)> {
    let ends = stretches.iter().skip(1).map(|next| next.after_epoch).chain([last_epoch]);
    stretches.iter().zip(ends).filter(|(stretch, end)| stretch.after_epoch < *end).collect()
}

/// What the schedule of a stretch is called: `cosine`.
pub fn schedule_name(stretch: &Stretch) -> &str {
    let named = stretch.schedule.as_object().and_then(|map| map.keys().next()).map(String::as_str);
    named.or(stretch.schedule.as_str()).unwrap_or("unknown")
}

/// Several stretches in one line, as a parameter of the run; `None` for one.
pub fn text(stretches: &[Stretch]) -> Option<String> {
    let last = stretches.last().filter(|_| stretches.len() > 1)?;
    let mut parts: Vec<String> =
        trained(stretches, last.after_epoch).into_iter().map(|(stretch, end)| part(stretch, Some(end))).collect();
    parts.push(part(last, None));
    Some(parts.join("; "))
}

/// What one stretch was trained under: `1-3 of 3`.
fn part(stretch: &Stretch, end: Option<u32>) -> String {
    let first = stretch.after_epoch + 1;
    let epochs = match end {
        Some(end) if end == first => first.to_string(),
        Some(end) => format!("{first}-{end}"),
        None => format!("{first} on"),
    };
    let restarted = match stretch.schedule_after {
        0 => String::new(),
        after => format!(", schedule restarted at {}", after + 1),
    };
    let past = if stretch.is_past_early_stop { ", past its early stop" } else { "" };
    format!("{epochs} of {}{restarted}{past}", stretch.epochs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stretch(after_epoch: u32, epochs: u32) -> Stretch {
        Stretch { after_epoch, ..Stretch::whole(epochs, json!({ "cosine": {} })) }
    }

    #[test]
    fn an_epoch_is_part_of_the_last_stretch_that_begins_before_it() {
        let stretches = [stretch(0, 3), stretch(3, 5), stretch(5, 9)];
        let epochs = [1, 3, 4, 5, 6, 20].map(|epoch| of_epoch(&stretches, epoch).unwrap().epochs);
        assert_eq!(epochs, [3, 3, 5, 5, 9, 9]);
        assert_eq!(of_epoch(&[], 1), None);
        let ends: Vec<u32> = trained(&stretches, 8).into_iter().map(|(_, end)| end).collect();
        assert_eq!(ends, [3, 5, 8]);
        assert_eq!(trained(&stretches, 5).len(), 2);
    }

    #[test]
    fn several_stretches_are_one_line() {
        assert_eq!(text(&[stretch(0, 3)]), None);
        let restarted = Stretch { schedule_after: 3, ..stretch(3, 5) };
        assert_eq!(text(&[stretch(0, 3), restarted]).unwrap(), "1-3 of 3; 4 on of 5, schedule restarted at 4");
        let past = Stretch { is_past_early_stop: true, ..stretch(1, 60) };
        assert_eq!(text(&[stretch(0, 60), past]).unwrap(), "1 of 60; 2 on of 60, past its early stop");
    }
}
