//! Turns every error into text, a hint and an exit code; nothing else does.

use std::process::ExitCode;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};

use crate::spec::problem::{Place, Problem, SpecError};

/// Usage errors and invalid specs.
const EXIT_USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Failure {
    /// Prints the failure to standard error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {self}");
        match self {
            Self::Spec(SpecError::Unreadable { .. }) => {
                eprintln!("hint: `xp check FILE` takes the path of a YAML file")
            }
            Self::Spec(SpecError::Invalid { path, text, problems }) => {
                for problem in problems {
                    eprint!("{}", render(&path.display().to_string(), text, problem));
                }
            }
        }
        ExitCode::from(EXIT_USAGE)
    }
}

/// One problem with its file, line, column, underlined text and hint.
fn render(file: &str, text: &str, problem: &Problem) -> String {
    let message = match problem.key.as_str() {
        "" => problem.message.clone(),
        key => format!("{key}: {}", problem.message),
    };
    let mut diagnostic = MietteDiagnostic::new(message);
    diagnostic.help.clone_from(&problem.hint);
    match &problem.place {
        Some(Place::Text { start, len, .. }) => {
            diagnostic.labels = Some(vec![LabeledSpan::new(None, *start, (*len).max(1))]);
        }
        Some(Place::Argument(argument)) => diagnostic.message = format!("in `{argument}`: {}", diagnostic.message),
        None => diagnostic.message = format!("{file}:1:1: {}", diagnostic.message),
    }
    let report = miette::Report::new(diagnostic).with_source_code(NamedSource::new(file, text.to_owned()));
    let mut rendered = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    // Writing to a string cannot fail; what was written so far is still worth showing.
    let _ = handler.render_report(&mut rendered, report.as_ref());
    rendered
}
