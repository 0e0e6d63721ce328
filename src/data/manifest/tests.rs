use super::*;
use crate::data::folder::scan;
use crate::data::sample::{self, SETTINGS};

/// A folder with the images `a/1.png` … and a manifest of these bytes.
fn place(manifest: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let (root, _) = sample::folder(6);
    let file = root.path().join("data.csv");
    std::fs::write(&file, manifest).unwrap();
    (root, file)
}

fn listed(manifest: &str, split: Split) -> Vec<(String, u32)> {
    let (_root, file) = place(manifest.as_bytes());
    let listing = list(&file, split).unwrap();
    listing.images.iter().map(|image| (image.location.name().display().to_string(), image.label)).collect()
}

fn owned<const N: usize>(rows: [(&str, u32); N]) -> Vec<(String, u32)> {
    rows.map(|(path, label)| (path.to_owned(), label)).to_vec()
}

#[test]
fn rows_of_the_split_are_listed_by_class_and_path() {
    let manifest = "split,note,label,path\n\
        valid,,dog,b/0001.png\n\
        train,x,dog,b/0004.png\n\
        train,,cat,c/0005.png\n\
        valid,,cat,a/0000.png\n\
        train,,cat,a/0003.png\n";
    assert_eq!(listed(manifest, Split::Train), owned([("a/0003.png", 0), ("c/0005.png", 0), ("b/0004.png", 1)]));
    assert_eq!(listed(manifest, Split::Valid), owned([("a/0000.png", 0), ("b/0001.png", 1)]));
}

#[test]
fn without_a_column_split_all_rows_count() {
    let manifest = "path,label\nb/0001.png,z\na/0000.png,B\n";
    for split in [Split::Train, Split::Test] {
        assert_eq!(listed(manifest, split), owned([("a/0000.png", 0), ("b/0001.png", 1)]));
    }
}

#[test]
fn marks_line_ends_quotes_and_empty_lines_are_read_as_people_write_them() {
    let manifest = "\u{feff}path,label\r\n\r\n\"b/0001.png\",\"dogs, big\"\r\na/0000.png,\"a \"\"cat\"\"\"";
    let (_root, file) = place(manifest.as_bytes());
    let listing = list(&file, Split::Train).unwrap();
    assert_eq!(listing.classes, ["a \"cat\"", "dogs, big"]);
    assert_eq!(listing.images.len(), 2);
}

#[test]
fn absolute_paths_are_taken_as_they_are() {
    let (elsewhere, _) = sample::folder(2);
    let image = elsewhere.path().join("b/0001.png");
    let manifest = format!("path,label\n{},x\na/0000.png,y\n", image.display());
    let (_root, file) = place(manifest.as_bytes());
    assert_eq!(list(&file, Split::Train).unwrap().images[0].location.path(), image);
}

#[test]
fn every_fault_names_its_line() {
    let deep = format!("path,label\na/0000.png,{}\n", "x".repeat(256));
    let cases: [(&[u8], Option<u64>, &str); 18] = [
        (b"", None, "it is empty"),
        (b"file,label\n", Some(1), r#"no column "path"; the columns are "file", "label""#),
        (b"\n\npath;label\n", Some(3), r#"the columns are "path;label""#),
        (b"path,label,path\n", Some(1), "two columns are named \"path\""),
        (b"\xff\xfep\0a\0", Some(1), "the header is not UTF-8"),
        (b"path,label\n", None, "no train images in its 0 rows"),
        (b"path,label,split\na/0000.png,x,test\n", None, "no train images in its 1 rows"),
        (b"path,label\na/0000.png,x\nb/0001.png,x\n", None, "are of the class \"x\""),
        (b"path,label\na/0000.png,x\nb,c/0001.png,y\n", Some(3), "there are 3 fields for 2 columns"),
        (b"path,label\na/0000.png\n", Some(2), "there are 1 fields for 2 columns"),
        (b"path,label\n,x\n", Some(2), "the path is empty"),
        (b"path,label\r\na/0000.png,x\r\n\r\nb/0001.png,\r\n", Some(4), "the label is empty"),
        (b"path,label\na/0000.png,caf\xe9\n", Some(2), "label is not UTF-8"),
        (deep.as_bytes(), Some(2), "the label has 256 bytes"),
        (b"path,label,split\na/0000.png,x,val\n", Some(2), "\"val\" is no split; splits are train, valid and test"),
        (b"path,label\na/0000.png,x\nz.png,y\n", Some(3), "cannot find the image"),
        (b"path,label\na,x\n", Some(2), "is no file"),
        (
            b"path,label\na/0000.png,x\nb/0001.png,y\na/0000.png,y\n",
            Some(4),
            "listed twice for this split, first in line 2",
        ),
    ];
    for (manifest, line, says) in cases {
        let (_root, file) = place(manifest);
        let error = list(&file, Split::Train).unwrap_err();
        assert!(error.line == line && error.fault.to_string().contains(says), "{says}: {error}");
    }
    let missing = list(Path::new("nowhere.csv"), Split::Train).unwrap_err();
    assert!(missing.to_string().starts_with("use the CSV file nowhere.csv: No such file"), "{missing}");
}

#[test]
fn an_open_quotation_mark_ends_before_it_fills_memory() {
    let mut manifest = b"path,label\na/0000.png,x\n\"b/0001.png,y\n".to_vec();
    manifest.extend(b"c/0002.png,z\n".repeat(100_000));
    let (_root, file) = place(&manifest);
    let error = list(&file, Split::Train).unwrap_err();
    assert!(error.line == Some(3) && error.to_string().contains("is a quotation mark missing?"), "{error}");
    let error = list(Path::new("/dev/zero"), Split::Train).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn what_is_written_can_be_read_and_means_the_same() {
    let (root, listing) = sample::folder(9);
    let file = root.path().join("splits.csv");
    write(&file, &[(Split::Train, listing.clone()), (Split::Test, scan(root.path()).unwrap())]).unwrap();
    for split in [Split::Train, Split::Test] {
        let again = list(&file, split).unwrap();
        assert!(again.is_part);
        assert_eq!(again.classes, listing.classes);
        let (again, first) = (sample::read(&again, &SETTINGS), sample::read(&listing, &SETTINGS));
        assert_eq!((again.labels(), again.hashes()), (first.labels(), first.hashes()));
    }
}
