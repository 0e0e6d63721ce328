//! Which file system a folder lies on, as far as it matters: SQLite's locks may not hold across a network.
//!
//! The kernel's list of mounts names the type, that of a FUSE file system too, which `statfs` does not.

use std::path::Path;

/// Types, as Linux names them, of file systems that other machines may write to.
#[cfg(any(target_os = "linux", test))]
const NETWORK: [&str; 24] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.davfs",
    "fuse.gcsfuse",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "pvfs2",
    "smb3",
    "smbfs",
    "wekafs",
];

/// The type of the network file system that a path lies on or would be made on; `None` on a local one, where the type
/// is not known, and on other systems than Linux.
#[cfg(target_os = "linux")]
pub fn network_type(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = path.ancestors().find_map(|folder| folder.metadata().ok())?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    type_of(&mounts, &device).filter(|name| NETWORK.contains(name)).map(str::to_owned)
}

#[cfg(not(target_os = "linux"))]
pub fn network_type(_: &Path) -> Option<String> {
    None
}

/// The type of the file system on a device, from the text of `/proc/self/mountinfo` (proc(5)):
/// `36 35 0:52 / /home rw,noatime shared:1 - nfs4 server:/home rw,vers=4.2`.
#[cfg(any(target_os = "linux", test))]
fn type_of<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(device))?;
    // Any number of optional fields end with a dash.
    mount.split(' ').skip_while(|field| *field != "-").nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
24 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 22 0:52 / /home rw,noatime shared:1 master:7 - nfs4 server:/home rw,vers=4.2
37 22 0:53 / /mnt/a\\040b rw - cifs //server/share rw
38 22 0:54 / /mnt/ssh rw - fuse.sshfs me@host: rw,user_id=0
39 22 0:55 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
40 22 0:56 / /mnt/app rw - fuse.appimage app ro
41 22 0:57 / /mnt/c rw - 9p C:\\134 rw,trans=fd
42 22 0:58 / /mnt/vm rw - virtiofs share rw
43 22 0:59 / /merged rw - overlay overlay rw
";

    #[test]
    fn file_systems_of_other_machines_are_told_from_local_ones() {
        for (device, expected) in [
            ("254:0", None),
            ("0:21", None),
            ("0:52", Some("nfs4")),
            ("0:53", Some("cifs")),
            ("0:54", Some("fuse.sshfs")),
            ("0:55", None),
            ("0:56", None),
            ("0:57", Some("9p")),
            ("0:58", None),
            ("0:59", None),
            ("0:5", None),
        ] {
            assert_eq!(type_of(MOUNTS, device).filter(|name| NETWORK.contains(name)), expected, "{device}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_type_of_a_mounted_file_system_is_found_for_a_path_that_is_not_there_yet() {
        use std::os::unix::fs::MetadataExt;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let device = Path::new("/proc").metadata().unwrap().dev();
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        assert_eq!(type_of(&mounts, &device), Some("proc"));
        assert_eq!(network_type(Path::new("/proc/none/.xp")), None);
    }
}
