use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::data::decode::decode;
use crate::data::features;
use crate::data::folder::scan;
use crate::data::golden;
use crate::data::listing::Listing;
use crate::data::sample::{self, IMAGE_BYTES, SETTINGS};

use crate::run::stop::StopFlag;

fn read(folder: &Listing, settings: &ReadSettings) -> Result<Images, ReadError> {
    Images::read(Split::Train, folder, settings, &StopFlag::default(), &|_| ())
}

#[test]
fn what_is_cached_and_how_many_threads_read_changes_no_byte() {
    let (_root, folder) = sample::folder(20);
    let all = sample::read(&folder, &SETTINGS);
    assert_eq!((all.len(), all.n_cached(), all.image_bytes() as u64), (20, 20, IMAGE_BYTES));
    for (budget, n_cached) in [(0, 0), (IMAGE_BYTES - 1, 0), (7 * IMAGE_BYTES + 1, 7)] {
        for threads in [0, 1, 3] {
            let some = sample::read(&folder, &ReadSettings { cache_budget_bytes: budget, threads, ..SETTINGS });
            assert_eq!(some.n_cached(), n_cached);
            assert!(some.cached[..n_cached].iter().all(Option::is_some));
            assert_eq!(sample::pixels(&some), sample::pixels(&all));
            assert_eq!(some.hash(), all.hash());
        }
    }
}

#[test]
fn pixels_are_the_decoded_and_resized_file() {
    let (root, folder) = sample::folder(6);
    let images = sample::read(&folder, &SETTINGS);
    assert_eq!(images.labels(), [0, 0, 1, 1, 2, 2]);
    assert_eq!(images.name(3), Path::new("b/0004.png"));
    let decoded = decode(&std::fs::read(root.path().join("b/0004.png")).unwrap()).unwrap();
    assert_eq!(sample::pixels(&images)[3], resize(&decoded.image, 6, 8, Resize::Bilinear).pixels_hwc);
    assert_eq!((images.n_turned(), images.turned_example()), (0, None));
}

#[test]
fn turned_images_are_counted_and_turned_on_request() {
    let (root, _) = sample::folder(6);
    for (name, fixture) in [("b/6.jpg", "exif_6.jpg"), ("c/3.jpg", "exif_3.jpg"), ("c/1.jpg", "exif_1.jpg")] {
        std::fs::copy(golden::path(&format!("image_formats/{fixture}")), root.path().join(name)).unwrap();
    }
    let folder = scan(root.path()).unwrap();
    let as_stored = sample::read(&folder, &SETTINGS);
    let apply = ReadSettings { exif: Exif::Apply, ..SETTINGS };
    let upright = sample::read(&folder, &apply);
    for images in [&as_stored, &upright] {
        assert_eq!((images.n_turned(), images.turned_example().as_deref()), (2, Some(Path::new("b/6.jpg"))));
    }
    assert_eq!(as_stored.hash(), upright.hash());
    let [stored, turned] = [&as_stored, &upright].map(sample::pixels);
    let differ = |i: usize| stored[i] != turned[i];
    let names: Vec<String> = (0..as_stored.len()).map(|i| as_stored.name(i).display().to_string()).collect();
    let differing: Vec<&String> = names.iter().enumerate().filter(|(i, _)| differ(*i)).map(|(_, name)| name).collect();
    assert_eq!(differing, ["b/6.jpg", "c/3.jpg"]);
    let index = names.iter().position(|name| name == "b/6.jpg").unwrap();
    let decoded = decode(&golden::bytes("image_formats/exif_6.jpg")).unwrap();
    assert_eq!(turned[index], resize(&decoded.upright(), 6, 8, Resize::Bilinear).pixels_hwc);
    let uncached = sample::read(&folder, &ReadSettings { cache_budget_bytes: 0, ..apply });
    assert_eq!(sample::pixels(&uncached), turned);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let (root, mut listing) = sample::folder(6);
    let made = std::process::Command::new("mkfifo").arg(root.path().join("b/pipe.png")).status().unwrap();
    assert!(made.success());
    assert_eq!(scan(root.path()).unwrap().others.n, 1);
    // As it is when the file becomes one after the folder was looked at.
    let Location::File { path, .. } = &mut listing.images[3].location else { panic!("it comes from a folder") };
    *path = "b/pipe.png".into();
    let text = read(&listing, &SETTINGS).unwrap_err().to_string();
    assert!(text.ends_with("b/pipe.png: read the file: it is not a regular file"), "{text}");
}

#[test]
fn the_hash_is_of_names_and_bytes_and_not_of_where_they_are() {
    let (root, folder) = sample::folder(6);
    let (_same_root, same) = sample::folder(6);
    let hash = |folder: &Listing| sample::read(folder, &SETTINGS).hash();
    let first = hash(&folder);
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(&same));
    assert_eq!(first, sample::read(&folder, &ReadSettings { height: 9, ..SETTINGS }).hash());
    std::fs::rename(root.path().join("a/0000.png"), root.path().join("a/0009.png")).unwrap();
    let renamed = hash(&scan(root.path()).unwrap());
    assert_ne!(first, renamed);
    sample::write_image(&root.path().join("a/0009.png"), 77);
    assert_ne!(renamed, hash(&scan(root.path()).unwrap()));
}

#[test]
fn all_bad_images_are_told_at_once() {
    let (root, _) = sample::folder(6);
    std::fs::write(root.path().join("a/bad.png"), b"text").unwrap();
    std::fs::write(root.path().join("c/bad.jpg"), b"").unwrap();
    let error = read(&scan(root.path()).unwrap(), &SETTINGS).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("read 2 of 8 train images in ") && text.contains("first a/bad.png: recognize"), "{text}");
    assert!(text.ends_with("; `data.on_bad_image: skip` leaves such images out"), "{text}");
    let ReadError::BadImages { n_bad: 2, bad, .. } = error else { panic!("{error:?}") };
    assert_eq!(bad[1].path, Path::new("c/bad.jpg"));
    assert!(matches!(bad[1].fault, Fault::Undecodable(DecodeError::Empty)));
}

#[test]
fn no_more_bad_images_are_listed_than_a_reader_can_take() {
    let (root, _) = sample::folder(3);
    for i in 0..1100 {
        std::fs::write(root.path().join(format!("b/bad{i:04}.png")), b"").unwrap();
    }
    let error = read(&scan(root.path()).unwrap(), &SETTINGS).unwrap_err();
    let ReadError::BadImages { n_bad: 1100, n_images: 1103, bad, .. } = error else { panic!("{error:?}") };
    assert_eq!((bad.len(), bad[999].path.as_path()), (MAX_LISTED_BAD_IMAGES, Path::new("b/bad0999.png")));
}

#[test]
fn bad_images_are_skipped_on_request_and_listed() {
    let (root, folder) = sample::folder(6);
    std::fs::write(root.path().join("a/0001.png"), b"text").unwrap();
    let skip = ReadSettings { on_bad_image: OnBadImage::Skip, ..SETTINGS };
    let images = read(&scan(root.path()).unwrap(), &skip).unwrap();
    assert_eq!(images.hash(), sample::read(&folder, &SETTINGS).hash());
    let [skipped] = images.skipped() else { panic!("{:?}", images.skipped()) };
    assert_eq!((skipped.split, skipped.path.as_path()), (Split::Train, Path::new("a/0001.png")));
    assert!(skipped.reason.starts_with("recognize the image"), "{}", skipped.reason);
}

#[test]
fn a_file_that_cannot_be_read_is_not_skipped() {
    let (root, _) = sample::folder(6);
    std::os::unix::fs::symlink("nowhere", root.path().join("a/gone.png")).unwrap();
    let skip = ReadSettings { on_bad_image: OnBadImage::Skip, ..SETTINGS };
    let error = read(&scan(root.path()).unwrap(), &skip).unwrap_err();
    assert!(!error.to_string().contains("skip"), "{error}");
    let ReadError::BadImages { n_bad: 1, bad, .. } = error else { panic!("{error:?}") };
    assert!(matches!(bad[0].fault, Fault::Unreadable(_)));
}

#[test]
fn a_class_must_keep_an_image() {
    let (_root, folder) = sample::folder(6);
    for image in &folder.images[2..4] {
        std::fs::write(image.location.path(), b"text").unwrap();
    }
    let skip = ReadSettings { on_bad_image: OnBadImage::Skip, ..SETTINGS };
    let error = read(&folder, &skip).unwrap_err();
    let ReadError::ClassesLost { classes, skipped, .. } = error else { panic!("{error:?}") };
    assert_eq!((classes, skipped.len()), (vec!["b".to_owned()], 2));
}

#[test]
fn progress_reaches_the_number_of_files_and_a_stop_ends_it() {
    let (_root, folder) = sample::folder(9);
    let (stop, last) = (StopFlag::default(), AtomicU64::new(0));
    let tell = |n| {
        last.fetch_max(n, Ordering::SeqCst);
    };
    Images::read(Split::Valid, &folder, &SETTINGS, &stop, &tell).unwrap();
    assert_eq!(last.into_inner(), 9);
    let stop_at_three = |n| {
        if n == 3 {
            stop.raise();
        }
    };
    let error = Images::read(Split::Valid, &folder, &SETTINGS, &stop, &stop_at_three).unwrap_err();
    assert!(matches!(error, ReadError::Stopped { split: Split::Valid }), "{error}");
}

#[test]
fn a_file_that_changed_since_is_an_error_that_names_it() {
    let (root, folder) = sample::folder(6);
    let images = sample::read(&folder, &ReadSettings { cache_budget_bytes: 2 * IMAGE_BYTES, ..SETTINGS });
    for image in &folder.images {
        sample::write_image(&image.location.path(), 99);
    }
    let mut out = vec![0; images.image_bytes()];
    assert!(images.pixels_into(1, &mut out).is_ok());
    let error = images.pixels_into(2, &mut out).unwrap_err();
    assert!(matches!(&error, ImageError::Changed { path } if path.ends_with("b/0001.png")), "{error}");
    std::fs::remove_file(root.path().join("b/0004.png")).unwrap();
    let error = images.pixels_into(3, &mut out).unwrap_err();
    assert!(matches!(&error, ImageError::Bad { path, fault: Fault::Unreadable(_) } if path.ends_with("b/0004.png")));
}

#[test]
fn a_row_of_features_that_changed_since_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let [features, labels] = ["features.npy", "labels.npy"].map(|name| {
        let path = folder.path().join(name);
        std::fs::copy(golden::path(&format!("npy/{name}")), &path).unwrap();
        path
    });
    let images = read(&features::list(&features, &labels, None).unwrap(), &SETTINGS).unwrap();
    let mut out = vec![0; images.image_bytes()];
    images.pixels_into(2, &mut out).unwrap();
    let stored = std::fs::read(&features).unwrap();
    let first = stored.len() - images.len() * images.image_bytes();
    assert_eq!(out, stored[first + 2 * images.image_bytes()..][..images.image_bytes()]);

    let mut changed = stored.clone();
    changed[first + 2 * images.image_bytes()] ^= 1;
    std::fs::write(&features, &changed).unwrap();
    images.pixels_into(1, &mut out).unwrap();
    let error = images.pixels_into(2, &mut out).unwrap_err();
    assert!(matches!(&error, ImageError::Changed { path } if path.ends_with("features.npy#2")), "{error}");
    std::fs::write(&features, &stored[..stored.len() - 1]).unwrap();
    let error = images.pixels_into(images.len() - 1, &mut out).unwrap_err();
    assert!(matches!(&error, ImageError::Bad { fault: Fault::Unreadable(_), .. }), "{error}");
}
