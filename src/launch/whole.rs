//! Files that are replaced whole or stay as they are, whenever a write fails or the process is killed.

use std::fs;
use std::io;
use std::path::Path;

/// Writes a file beside its place and then moves it there; nothing of it is left when that fails.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let done = fs::write(&name, bytes).and_then(|()| fs::rename(&name, path));
    if done.is_err() {
        let _ = fs::remove_file(&name);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolved.json");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        // Something is in the way of the new file, so the old one stays.
        fs::create_dir(folder.path().join("resolved.json.partial")).unwrap();
        assert!(write(&path, b"third").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(write(&folder.path().join("taken"), b"file").is_err());
        assert!(!folder.path().join("taken.partial").exists());
    }
}
