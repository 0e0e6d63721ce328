//! Small and read-only disks: file systems that only the test that mounts them sees.

use std::path::Path;
use std::process::Command;

/// Set in the process that may mount.
const INSIDE: &str = "XP_TEST_INSIDE";

/// Runs a test's body in a process of its own whose mounts nobody else sees, and which end with it.
///
/// That takes either root's right to mount or the right to make a user namespace; where neither is there the test fails.
/// `test` is the test's path as the harness prints it.
pub fn with_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let allowed = |way: &&&[&str]| {
        let tried = Command::new("unshare").args(**way).args(["mount", "-t", "tmpfs", "xp-test", "/mnt"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let way = ways.iter().find(allowed).unwrap_or_else(|| {
        panic!("this test mounts a tmpfs of its own: run it as root, or where users may make namespaces")
    });
    run_again(test, Command::new("unshare").args(*way));
}

/// Runs a test's body in a process of its own, because it changes something that the whole process shares.
/// Returns what that process printed on standard error.
pub fn alone(test: &str, body: impl FnOnce()) -> Option<String> {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return None;
    }
    Some(run_again(test, &mut Command::new("env")))
}

fn run_again(test: &str, command: &mut Command) -> String {
    let this = std::env::current_exe().unwrap();
    let output = command.arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    stderr.into_owned()
}

/// A file system that is there until it is dropped.
pub struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    /// A disk of some size, in KiB.
    pub fn tmpfs(folder: &'a Path, n_kib: u32) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={n_kib}k"), "xp-test"], folder);
        Self(folder)
    }

    /// A folder of another disk in this place.
    pub fn bind(other: &Path, folder: &'a Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        mount(&["--bind", other.to_str().unwrap()], folder);
        Self(folder)
    }

    pub fn make_read_only(&self) {
        mount(&["-o", "remount,bind,ro"], self.0);
    }

    pub fn make_writable(&self) {
        mount(&["-o", "remount,bind,rw"], self.0);
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The folder is removed next, which a mount would keep.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) {
    let output = Command::new("mount").args(arguments).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
