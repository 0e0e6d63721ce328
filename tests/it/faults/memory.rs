//! Memory that runs out while images are loaded.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::faults::{n_committed, state};
use crate::support::{Place, printed};

/// Twice what a run of small images takes, and less than one image of 12,000 × 12,000 pixels does in RGB.
const LIMIT: &str = "--as=419430400";
const SIDE: u32 = 12_000;

/// A command that may take so much address space; threads take some each, so their number is fixed.
fn limited(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(LIMIT).arg(assert_cmd::cargo::cargo_bin("xp")).args(arguments).args(["--loader-threads", "2"]);
    command.current_dir(place.folder.path()).env_remove("XP_HOME").env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    // Each thread would reserve address space for SQLite's allocations, as much as there is: who came last had none.
    command.env("RAYON_NUM_THREADS", "2").env("MALLOC_ARENA_MAX", "1");
    command
}

/// A black PNG of one bit a pixel: a small file, a large image.
fn write_large_image(path: &Path) {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(data);
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(name);
        file.extend(data);
        file.extend(crc.sum().to_be_bytes());
    };
    let [a, b] = [SIDE.to_be_bytes(); 2];
    chunk(b"IHDR", &[&a[..], &b, &[1, 0, 0, 0, 0]].concat());
    let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    rows.write_all(&vec![0; (SIDE * (1 + SIDE / 8)) as usize]).unwrap();
    chunk(b"IDAT", &rows.finish().unwrap());
    chunk(b"IEND", &[]);
    fs::write(path, file).unwrap();
}

#[test]
fn a_run_that_has_too_little_ends_as_crashed_and_goes_on_with_more() {
    let place = Place::new();
    let ended = printed(&limited(&place, &["run", "spec.yaml", "--name", "squeezed"]).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let large = place.path("data/train/red/large.png");
    write_large_image(&large);
    let ended = printed(&limited(&place, &["resume", "squeezed", "--epochs", "9"]).output().unwrap());
    // No exit code: the process aborts.
    assert_eq!(ended.code, -1, "{}", ended.stderr);
    let is_for_memory = ended.stderr.contains("memory allocation of ") && ended.stderr.contains(" bytes failed");
    assert!(is_for_memory, "{}", ended.stderr);
    // Its images were not read, so nothing of its record has changed.
    assert_eq!((state(&place, "squeezed"), n_committed(&place, "squeezed")), ("finished".to_owned(), 2));
    let ended = printed(&limited(&place, &["run", "spec.yaml", "--name", "new"]).output().unwrap());
    assert_eq!((ended.code, state(&place, "new")), (-1, "crashed".to_owned()), "{}", ended.stderr);
    fs::remove_file(large).unwrap();
    for (resume, n_epochs) in [(&["resume", "squeezed", "--epochs", "9"][..], 9), (&["resume", "new"], 2)] {
        let ended = printed(&limited(&place, resume).output().unwrap());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!((state(&place, resume[1]), n_committed(&place, resume[1])), ("finished".to_owned(), n_epochs));
    }
}
