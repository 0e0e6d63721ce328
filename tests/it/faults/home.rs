//! Homes that cannot be written, cannot be made, or lie in odd places.

use std::fs;
use std::path::PathBuf;

use crate::faults::mounts::{Mounted, with_mounts};
use crate::faults::{Going, InLibrary, goes_on_to_the_same_bytes, n_committed};
use crate::support::{Place, printed};

#[test]
fn one_that_cannot_be_written_can_be_read() {
    with_mounts("faults::home::one_that_cannot_be_written_can_be_read", || {
        let place = Place::new();
        let home = place.path(".xp");
        let disk = Mounted::tmpfs(&home, 32 * 1024);
        assert_eq!(place.xp(&["run", "spec.yaml", "--name", "whole"]).code, 0);
        // Its end is in the write-ahead log alone.
        Going::start(place.command(&["run", "spec.yaml", "--name", "killed", "--set", "epochs=100000"])).kill();
        disk.make_read_only();
        for arguments in [
            &["list"][..],
            &["show", "whole"],
            &["show", "killed"],
            &["compare", "whole", "killed"],
            &["evaluate", "whole"],
            &["evaluate", "killed"],
            &["summary", "whole"],
        ] {
            let printed = place.xp(arguments);
            assert_eq!(printed.code, 0, "{arguments:?}: {}", printed.stderr);
        }
        let shown = place.json(&["list", "--json"]);
        assert_eq!([&shown["runs"][0]["state"], &shown["runs"][1]["state"]], ["crashed", "finished"]);
        for arguments in [&["run", "spec.yaml"][..], &["resume", "killed"]] {
            let printed = place.xp(arguments);
            assert_eq!(printed.code, 1, "{arguments:?}: {}", printed.stderr);
            let text = &printed.stderr;
            assert!(text.contains("Read-only") && text.contains("hint: make it writable"), "{arguments:?}: {text}");
        }
        let doctor = place.xp(&["doctor"]);
        assert_eq!(doctor.code, 1);
        assert!(doctor.stdout.contains("BAD  home"), "{}", doctor.stdout);
        disk.make_writable();
        assert!(n_committed(&place, "killed") > 0);
        goes_on_to_the_same_bytes(&place, "killed");
    });
}

#[test]
fn a_path_may_hold_anything_that_is_text() {
    let place = Place::new();
    for name in ["two words", "Größe 尺寸", "50%20?a=1#b&c", "it's \"quoted\"", "file:memory"] {
        let home = place.path(name).join(".xp");
        let home = home.to_str().unwrap();
        let printed = place.xp(&["run", "spec.yaml", "--home", home, "--name", "here"]);
        assert_eq!(printed.code, 0, "{name}: {}", printed.stderr);
        assert_eq!(place.json(&["show", "here", "--home", home, "--json"])["state"], "finished", "{name}");
        assert!(place.path(name).join(".xp/xp.db").is_file(), "{name}");
    }
}

#[test]
fn a_path_that_cannot_be_one_says_so() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let deep: PathBuf = std::iter::repeat_n("d".repeat(100), 6).collect();
    let too_long = "d".repeat(300);
    for (home, expected) in [
        ("file", "a file is where a folder should be"),
        ("file/.xp", "a file is where a folder should be"),
        (deep.to_str().unwrap(), "shorter than 500 bytes"),
        (too_long.as_str(), "shorter than 500 bytes"),
    ] {
        let printed = place.xp(&["run", "spec.yaml", "--home", home]);
        assert_eq!(printed.code, 1, "{home}: {}", printed.stderr);
        assert!(printed.stderr.contains(expected), "{home}: {}", printed.stderr);
        assert_eq!(place.xp(&["list", "--home", home]).code, 3, "{home}");
    }
    // A file where the home itself would be made.
    fs::write(place.path(".xp"), "").unwrap();
    let printed = place.xp(&["run", "spec.yaml"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("a file is where a folder should be"), "{}", printed.stderr);
    assert_eq!(place.xp(&["list"]).stdout, "no runs\n");
}

#[test]
#[cfg(target_os = "linux")]
fn a_path_that_is_no_text_says_so() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let home = place.path("").join(std::ffi::OsStr::from_bytes(b"not\xfftext"));
    let printed = printed(&place.command(&["run", "spec.yaml", "--home"]).arg(home).output().unwrap());
    assert_eq!(printed.code, 1, "{}", printed.stderr);
    assert!(printed.stderr.contains("a path that is UTF-8"), "{}", printed.stderr);
}

#[test]
fn neither_a_home_of_the_user_nor_a_working_folder_is_needed() {
    let place = Place::new();
    let mut command = place.command(&["run", "spec.yaml", "--name", "homeless"]);
    let ended = printed(&command.env_clear().output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    // A shell stands in a folder that is then removed.
    let (xp, home, spec) = (assert_cmd::cargo::cargo_bin("xp"), place.path(".xp"), place.path("spec.yaml"));
    let in_removed = |arguments: &[&str]| {
        fs::create_dir(place.path("gone")).unwrap();
        let script = "cd \"$1\" && rmdir \"$1\" && shift && exec \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "sh"]).arg(place.path("gone")).arg(&xp).args(arguments).env_remove("XP_HOME");
        printed(&command.output().unwrap())
    };
    let [home, spec] = [&home, &spec].map(|path| path.to_str().unwrap());
    let lost = in_removed(&["list"]);
    assert_eq!(lost.code, 2, "{}", lost.stderr);
    assert!(lost.stderr.contains("change into a folder that is there"), "{}", lost.stderr);
    assert_eq!(in_removed(&["list", "--home", home]).code, 0);
    let ended = in_removed(&["run", spec, "--home", home]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn what_is_known_before_a_run_begins_is_told_and_recorded_once() {
    let place = Place::new();
    let text = "the home lies on nfs4";
    let library = InLibrary { warnings: vec![text.to_owned()], ..InLibrary::new(&place) };
    let mut told = Vec::new();
    library
        .run("warned", |event, _| {
            if let xp::run::event::Event::Warning(text) = event {
                told.push(text.clone());
            }
        })
        .unwrap();
    assert_eq!(told, [text]);
    assert_eq!(place.json(&["show", "warned", "--json"])["warnings"][0]["text"], text);
}
