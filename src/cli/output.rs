//! Standard output: written whole, quiet when the reader has gone.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::train::plan::Plan;

/// Columns to lay a table out in when nobody says how many there are.
const DEFAULT_WIDTH: usize = 80;

/// Prints text as it is. A reader that has closed the pipe, as `head` does, is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io { what: "write to standard output".into(), source })
        }
        _ => Ok(()),
    }
}

/// Says something on standard error. Where nobody can read it there is nothing more to say.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Says what should be known of a plan before its work begins.
pub(crate) fn say_of_plan(plan: &Plan) {
    say_of_plans(std::slice::from_ref(plan));
}

/// Says what should be known of plans before their work begins, once.
pub(crate) fn say_of_plans(plans: &[Plan]) {
    let mut said: Vec<String> = Vec::new();
    for plan in plans {
        let warnings = plan.warnings.iter().map(|warning| format!("warning: {warning}\n"));
        let notes = plan.notes.iter().map(|note| format!("note: {note}\n"));
        for line in warnings.chain(notes) {
            if !said.contains(&line) {
                say(&line);
                said.push(line);
            }
        }
    }
}

/// Prints indented JSON.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// The folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Whether a file that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Always,
    Never,
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], overwrite: Overwrite) -> io::Result<()> {
    // Made as any other file is: a temporary file of the crate's own making could be read by its owner alone.
    let mut file = tempfile::Builder::new().prefix(".xp-").make_in(folder_of(path), |path| File::create_new(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = match overwrite {
        Overwrite::Always => file.persist(path),
        Overwrite::Never => file.persist_noclobber(path),
    };
    kept.map(drop).map_err(|error| error.error)
}

/// A path as short as it can be typed from the working directory.
pub(crate) fn from_here(path: &Path) -> PathBuf {
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or_else(|| path.to_owned())
}

/// A path as a shell takes it: between quotes where it has spaces or other characters that mean something there.
pub(crate) fn as_typed(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "._-/+,:@%".contains(c);
    if text.starts_with('-') {
        as_typed(&Path::new(".").join(path))
    } else if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The terminal's width in characters, else `COLUMNS`, else 80.
pub(crate) fn width() -> usize {
    let from_terminal = || io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    let from_environment = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width > 0);
    let width = from_terminal().map(|(width, _)| usize::from(width.0)).filter(|width| *width > 0);
    width.or_else(from_environment).unwrap_or(DEFAULT_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_only_where_a_shell_would_take_it_apart() {
        let cases = [
            ("spec.yaml", "spec.yaml"),
            ("/a/Grüße/b-c.yaml", "/a/Grüße/b-c.yaml"),
            ("my spec.yaml", "'my spec.yaml'"),
            ("it's.yaml", r"'it'\''s.yaml'"),
            ("$HOME", "'$HOME'"),
            ("~a", "'~a'"),
            ("-n.yaml", "./-n.yaml"),
            ("", "''"),
        ];
        for (path, typed) in cases {
            assert_eq!(as_typed(Path::new(path)), typed);
        }
    }
}
