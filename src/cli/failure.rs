//! Turns every error into text, a hint and an exit code; nothing else does.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic};

use crate::cli::excerpt::Excerpt;
use crate::cli::output;
use crate::data::feature_cache::CacheError;
use crate::data::images::ImageError;
use crate::export::ExportError;
use crate::launch::LaunchError;
use crate::run::summary::RunError;
use crate::spec::problem::{Place, Problem, SpecError};
use crate::store::StoreError;
use crate::store::fault::Fault;
use crate::train::TrainError;
use crate::train::device::DeviceError;
use crate::weights::WeightsError;

/// The work failed.
const EXIT_FAILED: u8 = 1;
/// Usage errors and invalid specs.
const EXIT_USAGE: u8 = 2;
/// A run or file named on the command line is not there.
const EXIT_NOT_THERE: u8 = 3;
/// Ended by a signal, as shells count it: 128 + SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Columns that a report is laid out in; its longest words may stand out.
const REPORT_WIDTH: usize = 100;

/// Longest message, characters: some repeat what was written.
const MAX_MESSAGE: usize = 600;

/// Most problems of a spec that are shown.
const MAX_PROBLEMS: usize = 20;

/// Most candidates that an ambiguous run name lists.
const MAX_CANDIDATES: usize = 10;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("failed to use the device: {0}")]
    Device(#[from] DeviceError),
    #[error("failed to {0}")]
    Store(#[from] StoreError),
    #[error("failed to {0}")]
    Launch(#[from] LaunchError),
    #[error("failed to {0}")]
    Train(#[from] TrainError),
    #[error("failed to {0}")]
    Image(#[from] ImageError),
    #[error("the run {name} failed: {}", error.message)]
    Run { name: String, error: RunError },
    #[error("the run {name} was stopped; its finished epochs are kept, and `xp resume {name}` goes on")]
    Interrupted { name: String },
    #[error("the sweep {name} was stopped; its trials' finished epochs are kept, and `xp sweep resume {name}` goes on")]
    SweepStopped { name: String },
    #[error("{n_failed} {} of the sweep {name} failed", if *n_failed == 1 { "trial" } else { "trials" })]
    Trials { name: String, n_failed: usize },
    #[error("stopped: {what}; the same command goes on where it was")]
    Unfinished { what: String },
    #[error("failed to {error}")]
    Weights { error: WeightsError, hint: Option<String> },
    #[error("{what}")]
    NotThere { what: String, hint: String },
    #[error("{what}")]
    Usage { what: String, hint: String },
    #[error("{repeated} did not come out as {recorded}")]
    NotRepeated { recorded: String, repeated: String },
    #[error("failed to {what}: cannot {source}")]
    Cache { what: String, source: CacheError },
    #[error("failed to {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("failed to find the runs: {} is missing, and {n_runs} folders of runs lie beside it", database.display())]
    DatabaseGone { database: PathBuf, n_runs: usize },
    #[error("failed to {0}")]
    Export(#[from] ExportError),
    #[error("{} is not what was to be written: {what}", path.display())]
    Unlike { path: PathBuf, what: String },
    #[error("{n_bad} of the images could not be used")]
    BadImages { n_bad: usize },
    #[error("{n_bad} of these need attention")]
    Unsound { n_bad: usize },
}

impl Failure {
    /// Prints the failure to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        output::say(&format!("error: {self}\n"));
        if let Self::Run { error: RunError { cause: Some(cause), .. }, .. }
        | Self::Launch(LaunchError::Refused { error: RunError { cause: Some(cause), .. }, .. }) = self
        {
            output::say(&format!("{cause}\n"));
        }
        if let Self::Spec(SpecError::Invalid { path, text, problems }) = self {
            for problem in problems.iter().take(MAX_PROBLEMS) {
                output::say(&render(&path.display().to_string(), text, problem));
            }
            if problems.len() > MAX_PROBLEMS {
                output::say(&format!("and {} problems more\n", problems.len() - MAX_PROBLEMS));
            }
        }
        if let Some(hint) = self.hint() {
            output::say(&format!("hint: {hint}\n"));
        }
        ExitCode::from(self.exit_code())
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(SpecError::Unreadable { .. } | SpecError::Missing { .. }) => {
                Some("this takes the path of a YAML file".to_owned())
            }
            Self::Device(_) => Some("`device: cpu` works everywhere; `xp doctor` shows what is here".to_owned()),
            Self::Store(error) | Self::Launch(LaunchError::Store(error)) => store_hint(error),
            Self::Launch(LaunchError::Refused { run, .. }) => Some(format!(
                "nothing of it was changed; once the cause is put right, `xp resume {run}` goes on from its last finished \
                epoch"
            )),
            Self::Launch(LaunchError::Recording { run, source }) => {
                let first = source.fault().map_or_else(|| "once that is put right".to_owned(), fault_hint);
                Some(format!("{first}; `xp resume {run}` then goes on from its last finished epoch"))
            }
            Self::Launch(LaunchError::Io { source, .. }) | Self::Io { source, .. } => {
                Fault::of_io(source).map(fault_hint)
            }
            Self::Run { name, error } => {
                let place = error.place.as_ref().map(|place| format!("it happened at {place}; "));
                Some(format!(
                    "{}`xp show {name}` has the details; once the cause is put right, `xp resume {name}` goes on from \
                    its last finished epoch; a change of the spec starts a new run",
                    place.unwrap_or_default()
                ))
            }
            Self::DatabaseGone { .. } => Some(
                "put it back from a copy; without one the folders still hold each run's spec, checkpoints and log"
                    .to_owned(),
            ),
            Self::Trials { name, .. } => Some(format!(
                "`xp sweep show {name} --json` says why; `xp sweep resume {name} --retry-failed` tries them again"
            )),
            Self::NotThere { hint, .. } | Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Weights { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Spec(SpecError::Missing { .. }) => EXIT_NOT_THERE,
            Self::Spec(_) | Self::Device(_) | Self::Usage { .. } => EXIT_USAGE,
            Self::Store(StoreError::NotFound { .. } | StoreError::NoSuchSweep { .. }) | Self::NotThere { .. } => {
                EXIT_NOT_THERE
            }
            Self::Store(StoreError::Ambiguous { .. } | StoreError::AmbiguousSweep { .. })
            | Self::Store(StoreError::NameTaken { .. })
            | Self::Launch(LaunchError::Store(StoreError::NameTaken { .. })) => EXIT_USAGE,
            Self::Interrupted { .. } | Self::Unfinished { .. } | Self::SweepStopped { .. } => EXIT_INTERRUPTED,
            _ => EXIT_FAILED,
        }
    }
}

fn store_hint(error: &StoreError) -> Option<String> {
    match error {
        StoreError::NotFound { .. } => {
            Some("`xp list` shows the runs; RUN is an id, a name or @1 for the newest".to_owned())
        }
        StoreError::Ambiguous { candidates, .. } => {
            let names = candidates.iter().take(MAX_CANDIDATES).map(|run| format!("{} ({})", run.name, run.id.short()));
            let more = if candidates.len() > MAX_CANDIDATES { ", …" } else { "" };
            Some(format!("they are {}{more}", names.collect::<Vec<_>>().join(", ")))
        }
        StoreError::NoSuchSweep { .. } => Some("`xp sweep list` shows the sweeps".to_owned()),
        StoreError::AmbiguousSweep { names, .. } => Some(format!("they are {}", names.join(", "))),
        StoreError::NameTaken { .. } => Some("choose another `--name`, or leave it out".to_owned()),
        StoreError::LockHeld { .. } => Some("wait for it, or stop it with Ctrl-C".to_owned()),
        error => error.fault().map(fault_hint),
    }
}

/// What to do about a fault.
fn fault_hint(fault: Fault) -> String {
    let hint = match fault {
        Fault::DiskFull => "free some space on that disk",
        Fault::ReadOnly => "make it writable, or name another folder with `--home` or XP_HOME",
        Fault::NotAFolder => "a file is where a folder should be; move it, or name another folder with `--home`",
        Fault::Disk => "the disk is full or fails; `df` and the system's log say which",
        Fault::Unopenable => {
            "SQLite needs a folder that can be written, and a path that is UTF-8 and shorter than 500 bytes; \
            `--home` or XP_HOME names another"
        }
        Fault::Damaged => {
            "put a copy of it back, or move it away to begin anew; `sqlite3 xp.db .recover` saves what can be read"
        }
        Fault::Memory => "the process may take too little memory; see `ulimit -v` and what else runs",
        Fault::Busy => "other processes are writing all the time; try again when they have ended",
    };
    hint.to_owned()
}

/// One problem with its file, line, column, underlined text and hint.
fn render(file: &str, text: &str, problem: &Problem) -> String {
    let message = match problem.key.as_str() {
        "" => problem.message.clone(),
        key => format!("{}: {}", shortened(key, REPORT_WIDTH), problem.message),
    };
    let message = match &problem.place {
        Some(Place::Argument(argument)) => format!("in `{}`: {message}", shortened(argument, REPORT_WIDTH)),
        Some(Place::Text { .. }) => message,
        None => format!("{file}:1:1: {message}"),
    };
    let mut diagnostic = MietteDiagnostic::new(printable(&shortened(&message, MAX_MESSAGE)));
    diagnostic.help = problem.hint.as_deref().map(printable);
    let report = match &problem.place {
        Some(Place::Text { start, len, .. }) => {
            let excerpt = Excerpt::new(file, text, *start, *len);
            diagnostic.labels = Some(vec![LabeledSpan::new_with_span(None, excerpt.span)]);
            miette::Report::new(diagnostic).with_source_code(excerpt)
        }
        _ => miette::Report::new(diagnostic),
    };
    let mut rendered = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(REPORT_WIDTH);
    // Writing to a string cannot fail; what was written so far is still worth showing.
    let _ = handler.render_report(&mut rendered, report.as_ref());
    rendered
}

/// Text as far as a report has room for it.
fn shortened(text: &str, n_chars: usize) -> String {
    match text.char_indices().nth(n_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Text from a file, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
