//! Where `tracing` goes: standard error for people, and a run's own `log.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::settings::RUN_LOG as RUN_LOG_NAME;

/// The run that this process records, once there is one.
static RUN_LOG: Mutex<Option<File>> = Mutex::new(None);

/// Installs the process' subscriber: warnings, `-v` for what happens, `-vv` for details, `RUST_LOG` for anything.
pub(crate) fn install(verbosity: u8) {
    let default = match verbosity {
        // What other crates find wrong comes back as an error of ours.
        0 => "off,xp=warn,xp::launch::panics=off",
        1 => "warn,xp=info",
        _ => "info,xp=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let people = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // A reader of standard error who has gone is no reason to panic.
    let people = people.with_target(false).log_internal_errors(false).with_filter(filter);
    let record = tracing_subscriber::fmt::layer()
        .json()
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(RunLog)
        .with_filter(EnvFilter::new("warn,xp=info"));
    tracing_subscriber::registry().with(people).with(record).init();
}

/// From here on, what happens is also written into the run's folder.
pub(crate) fn record_into(run_dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(run_dir.join(RUN_LOG_NAME))?;
    if let Ok(mut log) = RUN_LOG.lock() {
        *log = Some(file);
    }
    Ok(())
}

/// Writes lines into the run's log, and nowhere while there is no run.
struct RunLog;

struct RunLogLine;

impl<'a> MakeWriter<'a> for RunLog {
    type Writer = RunLogLine;

    fn make_writer(&'a self) -> RunLogLine {
        RunLogLine
    }
}

impl Write for RunLogLine {
    /// A log that cannot be written must not stop a training, so failures end here.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Ok(mut log) = RUN_LOG.lock()
            && let Some(file) = log.as_mut()
        {
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
