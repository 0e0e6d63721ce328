use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::data::images::{Images, ReadError};
use crate::data::sample::{self, SETTINGS};
use crate::run::metric::Split;

/// An IDX file of bytes.
fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with a file of images and one of labels.
struct Files {
    _folder: tempfile::TempDir,
    images: PathBuf,
    labels: PathBuf,
}

fn files(images: &[u8], labels: &[u8]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let (images_path, labels_path) = (folder.path().join("images.gz"), folder.path().join("labels.gz"));
    std::fs::write(&images_path, images).unwrap();
    std::fs::write(&labels_path, labels).unwrap();
    Files { _folder: folder, images: images_path, labels: labels_path }
}

impl Files {
    fn list(&self, classes: Option<&[&str]>) -> Result<Listing, IdxError> {
        let classes = classes.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        list(&self.images, &self.labels, classes.as_deref())
    }
}

/// Four images of 6 x 8 pixels, the size of [`SETTINGS`], so that nothing is resized.
fn four_images() -> Vec<u8> {
    idx(&[4, 6, 8], &(0..4 * 48).map(|i| i as u8).collect::<Vec<_>>())
}

#[test]
fn plain_and_gzipped_files_give_the_same_images() {
    let labels = idx(&[4], &[1, 0, 0, 1]);
    let plain = files(&four_images(), &labels);
    let packed = files(&gzipped(&four_images()), &gzipped(&labels));
    let read = |files: &Files| sample::read(&files.list(None).unwrap(), &SETTINGS);
    let images = read(&plain);
    assert_eq!(images.hash(), read(&packed).hash());
    assert_eq!((images.classes(), images.labels()), (&["0".to_owned(), "1".to_owned()][..], &[1, 0, 0, 1][..]));
    assert_eq!(images.name(2), Path::new("images.gz#2"));
    let gray: Vec<u8> = (48..96).flat_map(|level| [level; 3]).collect();
    assert_eq!(sample::pixels(&images)[1], gray);
}

#[test]
fn colour_images_stay_as_they_are() {
    let values: Vec<u8> = (0..2 * 6 * 8 * 3).map(|i| i as u8).collect();
    let files = files(&idx(&[2, 6, 8, 3], &values), &idx(&[2], &[0, 1]));
    assert_eq!(sample::pixels(&sample::read(&files.list(None).unwrap(), &SETTINGS))[1], values[144..]);
}

#[test]
fn classes_are_the_labels_that_occur_or_the_names_given() {
    let listing = files(&four_images(), &idx(&[4], &[10, 2, 2, 9])).list(None).unwrap();
    let labels = |listing: &Listing| listing.images.iter().map(|image| image.label).collect::<Vec<_>>();
    assert_eq!(listing.classes, ["2", "9", "10"]);
    assert_eq!(labels(&listing), [2, 0, 0, 1]);

    let listing = files(&four_images(), &idx(&[4], &[1, 0, 2, 1])).list(Some(&["z", "y", "x"])).unwrap();
    assert_eq!((listing.classes.join(""), labels(&listing)), ("zyx".to_owned(), vec![1, 0, 2, 1]));
}

#[test]
fn every_fault_is_found_before_an_image_is_used_and_names_its_key() {
    let (images, labels) = (four_images(), idx(&[4], &[0, 1, 0, 1]));
    let with =
        |images: &[u8], labels: &[u8], classes: Option<&[&str]>| files(images, labels).list(classes).unwrap_err();
    let huge = |shape: &[u32]| gzipped(&idx(shape, &[0; 1000]));
    let cases = [
        ("idx", with(b"", &labels, None), "does not begin as IDX"),
        ("idx", with(b"\x89PNG\r\n", &labels, None), "does not begin as IDX"),
        ("idx", with(&gzipped(b"text")[..12], &labels, None), "does not begin as IDX"),
        ("idx", with(&[0, 0, 0x0D, 3, 0, 0], &labels, None), "type 0x0d"),
        ("idx", with(&labels, &labels, None), "shape is [4], and [n, height, width]"),
        ("idx", with(&idx(&[4, 6, 8, 4], &[0; 768]), &labels, None), "shape is [4, 6, 8, 4]"),
        ("idx", with(&idx(&[0, 6, 8], &[]), &labels, None), "shape is [0, 6, 8], so there are no pixels"),
        ("idx", with(&images[..100], &labels, None), "promises 208 bytes, and its 100 bytes are fewer"),
        ("idx", with(&huge(&[4000, 1000, 1000]), &labels, None), "promises 4000000016 bytes, more than"),
        ("idx", with(&idx(&[u32::MAX; 4], &[0; 8]), &labels, None), "promises"),
        ("labels", with(&images, &images, None), "shape is [4, 6, 8], and [n]"),
        ("labels", with(&images, &idx(&[3], &[0; 3]), None), "3 labels for 4 images"),
        ("labels", with(&images, &[&labels[..], b"more"].concat(), None), "goes on after the 4 values"),
        ("labels", with(&images, &gzipped(&labels)[..25], None), "unexpected end of file"),
        ("labels", with(&images, &idx(&[4], &[7; 4]), None), "all of its labels are 7"),
        ("labels", with(&images, &idx(&[4], &[0, 1, 2, 1]), Some(&["a", "b"])), "label 2 is 2"),
        ("classes", with(&images, &labels, Some(&["a", "b", "c"])), "the label of \"c\""),
        ("classes", with(&images, &labels, Some(&["a", "a"])), "\"a\" is named twice"),
        ("classes", with(&images, &labels, Some(&["a", ""])), "empty name"),
    ];
    for (key, error, says) in cases {
        assert!(error.key == key && error.to_string().contains(says), "{says}: {} {error}", error.key);
    }
    let device = list(Path::new("/dev/zero"), Path::new("labels.gz"), None).unwrap_err();
    assert!(device.to_string().contains("not a regular file"), "{device}");
    let missing = list(Path::new("nowhere.gz"), Path::new("labels.gz"), None).unwrap_err();
    assert!(missing.to_string().starts_with("use the IDX file nowhere.gz: No such file"), "{missing}");
}

#[test]
fn pixels_that_are_too_many_are_refused_before_memory_is_taken() {
    // A sparse file, as long as its header says.
    let files = files(&idx(&[5000, 1000, 1000], &[]), &idx(&[1], &[0]));
    let file = std::fs::OpenOptions::new().append(true).open(&files.images).unwrap();
    file.set_len(16 + 5_000_000_000).unwrap();
    let error = files.list(None).unwrap_err();
    assert!(matches!(error.fault, IdxFault::TooLarge { n_bytes: 5_000_000_000 }), "{error}");
}

#[test]
fn a_file_of_images_that_is_not_whole_is_an_error_when_it_is_read() {
    let labels = idx(&[4], &[0, 1, 0, 1]);
    let bomb = gzipped(&[four_images(), vec![0; 50_000_000]].concat());
    assert!(bomb.len() < 100_000);
    let packed = gzipped(&four_images());
    let mut corrupt = packed.clone();
    *corrupt.iter_mut().nth_back(6).unwrap() ^= 1;
    let cases = [
        (bomb, "goes on after the 192 values"),
        (packed[..packed.len() / 2].to_vec(), "ends after"),
        (packed[..packed.len() - 2].to_vec(), "unexpected end of file"),
        (corrupt, "corrupt gzip"),
        ([&four_images()[..], b"more"].concat(), "goes on after the 192 values"),
    ];
    for (images, says) in cases {
        let listing = files(&images, &labels);
        let read = |stop| Images::read(Split::Train, &listing.list(None).unwrap(), &SETTINGS, &stop, &|_| ());
        let error = read(StopFlag::default()).unwrap_err();
        assert!(matches!(&error, ReadError::Idx { source } if source.to_string().contains(says)), "{says}: {error}");
        let stopped = StopFlag::default();
        stopped.raise();
        assert!(matches!(read(stopped), Err(ReadError::Stopped { split: Split::Train })));
    }
}
