use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use std::ffi::OsStr;

use super::*;
use crate::data::listing::OtherFiles;

/// A folder with these files; a name that ends in a slash is a folder.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        if file.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }
    root
}

fn paths(listing: &Listing) -> Vec<(String, u32)> {
    listing.images.iter().map(|image| (image.location.name().to_str().unwrap().to_owned(), image.label)).collect()
}

fn expected<const N: usize>(paths: [(&str, u32); N]) -> [(String, u32); N] {
    paths.map(|(path, label)| (path.to_owned(), label))
}

#[test]
fn classes_and_files_are_sorted_bytewise() {
    let root = folder(&["b/2.png", "b/10.png", "a/z.JPG", "a/sub/x.webp", "a/a.jpeg", "Zoo/1.bmp", "é/1.Png"]);
    let found = scan(root.path()).unwrap();
    assert_eq!(found.classes, ["Zoo", "a", "b", "é"]);
    let first = [("Zoo/1.bmp", 0), ("a/a.jpeg", 1), ("a/sub/x.webp", 1), ("a/z.JPG", 1), ("b/10.png", 2)];
    assert_eq!(paths(&found)[..5], expected(first));
    assert_eq!(paths(&found)[5..], expected([("b/2.png", 2), ("é/1.Png", 3)]));
    assert_eq!(found.others, OtherFiles::default());
}

#[test]
fn other_files_are_counted_and_hidden_ones_are_not() {
    let files =
        ["a/1.png", "a/notes.txt", "b/1.png", "b/x.svg", "b/png", "c.txt", ".git/x.png", "a/.x.png", "a/.t/1.png"];
    let root = folder(&files);
    let found = scan(root.path()).unwrap();
    assert_eq!(paths(&found), expected([("a/1.png", 0), ("b/1.png", 1)]));
    assert_eq!(found.others, OtherFiles { n: 4, example: Some("c.txt".into()) });
}

#[test]
fn symbolic_links_are_followed_and_loops_end() {
    let root = folder(&["a/1.png", "b/sub/2.png"]);
    let link = |to: &str, at: &str| symlink(to, root.path().join(at)).unwrap();
    link("..", "b/sub/up");
    link("../..", "b/sub/root");
    link("nowhere", "b/gone.png");
    link("nowhere", "b/gone");
    link("self.png", "b/self.png");
    link("b", "c");
    let found = scan(root.path()).unwrap();
    let first = [("a/1.png", 0), ("b/gone.png", 1), ("b/self.png", 1), ("b/sub/2.png", 1)];
    assert_eq!(paths(&found)[..4], expected(first));
    assert_eq!(paths(&found)[4..], expected([("c/gone.png", 2), ("c/self.png", 2), ("c/sub/2.png", 2)]));

    symlink(".", root.path().join("loop")).unwrap();
    let error = scan(root.path()).unwrap_err();
    assert!(matches!(&error, FolderError::EmptyClasses { classes, .. } if classes == &["loop"]), "{error}");
}

#[test]
fn every_way_to_be_no_data_folder_has_its_error() {
    let root = folder(&["file.png", "none/x.png", "none/y/z.png", "one/a/x.png", "empty/a/x.png", "empty/b/x.txt"]);
    std::fs::create_dir_all(root.path().join("empty/c/sub")).unwrap();
    let error = |name: &str| scan(&root.path().join(name)).unwrap_err();
    assert!(matches!(error("missing"), FolderError::Missing { .. }));
    assert!(matches!(error("file.png"), FolderError::NotAFolder { .. }));
    assert!(matches!(error("none/y"), FolderError::NoClasses { n_images: 1, .. }));
    assert!(matches!(error("one"), FolderError::OneClass { class, .. } if class == "a"));
    let text = error("empty").to_string();
    assert!(text.ends_with(r#"no .jpg/.jpeg/.png/.webp/.bmp/.gif/.tif/.tiff file in "b", "c""#), "{text}");
}

#[test]
fn names_that_are_not_utf8_are_an_error() {
    let root = folder(&["a/1.png", "b/1.png"]);
    let name = OsStr::from_bytes(b"caf\xe9");
    // Some file systems refuse such names; then there is nothing to test.
    if std::fs::create_dir(root.path().join(name)).is_ok() {
        let error = scan(root.path()).unwrap_err();
        assert!(matches!(&error, FolderError::NameNotUtf8 { path } if path.ends_with(name)), "{error}");
    }
}
