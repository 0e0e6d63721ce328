//! Standard output and standard error that nobody reads, or that cannot be written.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::faults::state;
use crate::support::Place;

#[test]
fn a_reader_who_has_gone_stops_nothing() {
    let place = Place::new();
    // `xp run | head -1`, and the same with standard error.
    for (name, both) in [("one", false), ("both", true)] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = place.command(&["-v", "run", "spec.yaml", "--name", name, "--set", "epochs=30"]);
        let stderr = if both { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::null() };
        let mut child = command.stdout(writer).stderr(stderr).spawn().unwrap();
        drop(command);
        let mut first = String::new();
        BufReader::new(reader).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        assert_eq!(state(&place, name), "finished");
    }
}

#[test]
fn a_failure_that_nobody_can_read_has_its_exit_code() {
    let place = Place::new();
    for arguments in [&["show", "nobody"][..], &["check", "nowhere.yaml"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{arguments:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_does_not_fit_its_disk_is_a_failure_except_for_progress() {
    let place = Place::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut child =
        place.command(&["run", "spec.yaml", "--name", "unheard"]).stdout(full()).stderr(full()).spawn().unwrap();
    // The run is recorded; the last lines are what the command failed to say.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(state(&place, "unheard"), "finished");
    let output = place.command(&["list"]).stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"));
}
