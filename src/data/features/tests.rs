//! Against files that NumPy wrote: tests/fixtures/make_npy.py.

use std::fs;

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/npy").join(name)
}

fn labels_of(listing: &Listing) -> Vec<u32> {
    listing.images.iter().map(|image| image.label).collect()
}

#[test]
fn labels_of_every_type_mean_the_same() {
    for labels in ["labels.npy", "labels_u8.npy", "labels_f32.npy", "labels_bool.npy"] {
        let listing = list(&fixture("features.npy"), &fixture(labels), None).unwrap();
        assert_eq!(listing.classes, ["0", "1"], "{labels}");
        assert_eq!(labels_of(&listing), [0, 1, 1, 0, 1, 0], "{labels}");
    }
}

#[test]
fn rows_are_those_of_numpy_whatever_their_order() {
    let file = FeatureFile::open(&fixture("features.npy")).unwrap();
    assert_eq!(file.shape(), FeatureShape { height: 2, width: 3, channels: 4 });
    for index in [5, 0, 3] {
        let row: Vec<f32> = values(&file.row(index).unwrap()).collect();
        let expected: Vec<f32> = (0..24).map(|i| (index * 24 + i) as f32 / 7.0).collect();
        assert_eq!(row, expected);
    }
    let vectors = FeatureFile::open(&fixture("vectors.npy")).unwrap();
    assert_eq!(vectors.shape(), FeatureShape { height: 1, width: 1, channels: 24 });
    assert_eq!(vectors.row(4).unwrap(), file.row(4).unwrap());
}

#[test]
fn channels_come_first_for_the_network() {
    let rows: Vec<u8> = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let nchw = nchw_from_nhwc(&rows, FeatureShape { height: 2, width: 2, channels: 3 });
    // NumPy: np.arange(24).reshape(2, 2, 2, 3).transpose(0, 3, 1, 2).ravel()
    let expected = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23];
    assert_eq!(nchw, expected.map(|i: i32| i as f32));
}

#[test]
fn rows_of_any_number_of_channels_are_turned() {
    for (height, width, channels) in [(2, 3, 16), (3, 1, 37), (1, 1, 50), (5, 7, 1)] {
        let shape = FeatureShape { height, width, channels };
        let n_pixels = (height * width) as usize;
        let rows: Vec<u8> = (0..2 * shape.n_values()).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let nchw = nchw_from_nhwc(&rows, shape);
        assert_eq!(nchw.len(), 2 * shape.n_values());
        for (place, value) in nchw.iter().enumerate() {
            let (image, within) = (place / shape.n_values(), place % shape.n_values());
            let (channel, pixel) = (within / n_pixels, within % n_pixels);
            let stored = image * shape.n_values() + pixel * channels as usize + channel;
            assert_eq!(*value, stored as f32, "{shape} at {place}");
        }
    }
}

#[test]
fn classes_are_named_by_the_spec_by_a_file_or_by_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["features.npy", "labels.npy"] {
        fs::copy(fixture(name), folder.path().join(name)).unwrap();
    }
    let (features, labels) = (folder.path().join("features.npy"), folder.path().join("labels.npy"));
    fs::write(folder.path().join("classes.txt"), "cats\ndogs\n\n").unwrap();
    assert_eq!(list(&features, &labels, None).unwrap().classes, ["cats", "dogs"]);
    fs::write(folder.path().join("classes.json"), r#"["Cats", "Dogs"]"#).unwrap();
    assert_eq!(list(&features, &labels, None).unwrap().classes, ["Cats", "Dogs"]);
    let named = ["a", "b"].map(str::to_owned);
    assert_eq!(list(&features, &labels, Some(&named)).unwrap().classes, ["a", "b"]);

    let fault = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let error = list(&features, &labels, Some(&names)).unwrap_err();
        (error.key, error.fault.to_string())
    };
    assert_eq!(fault(&["a"]), ("classes", "label 1 is 1, and there are only 1 classes, counted from 0".into()));
    assert_eq!(fault(&["a", "b", "c"]), ("classes", r#"no row has the label of "c""#.into()));
    assert_eq!(fault(&["a", "a"]), ("classes", r#"the class "a" is named twice"#.into()));
}

#[test]
fn what_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, descr: &str, shape: &[u64], n_bytes: usize| {
        let path = folder.path().join(name);
        fs::write(&path, [Header::of(descr, shape).bytes(), vec![0; n_bytes]].concat()).unwrap();
        path
    };
    let text = |features: &Path, labels: &Path| {
        let error = list(features, labels, None).unwrap_err();
        (error.key, error.fault.to_string())
    };
    let (features, labels) = (fixture("features.npy"), fixture("labels.npy"));
    let of_features = |path: &Path, expected: &str| {
        let (key, text) = text(path, &labels);
        assert!(key == "features" && text.contains(expected), "{text}");
    };
    of_features(&fixture("fortran.npy"), "Fortran's order");
    of_features(&write("f8.npy", "<f8", &[6, 2], 96), "of the type <f8, and float32 (<f4) is needed");
    of_features(&write("short.npy", "<f4", &[6, 2], 47), "promise 176 bytes, and it has 175");
    of_features(&write("long.npy", "<f4", &[6, 2], 49), "promise 176 bytes, and it has 177");
    of_features(&write("three.npy", "<f4", &[6, 2, 2], 96), "its shape is [6, 2, 2]");
    of_features(&write("none.npy", "<f4", &[0, 2], 0), "without a 0");
    of_features(&write("large.npy", "<f4", &[1, 1 << 25], 0), "larger than");
    of_features(&write("huge.npy", "<f4", &[u64::MAX, 1 << 20, 1 << 20, 1 << 20], 0), "larger than");
    let of_labels = |path: &Path, expected: &str| {
        let (key, text) = text(&features, path);
        assert!(key == "labels" && text.contains(expected), "{text}");
    };
    of_labels(&write("five.npy", "<i8", &[5], 40), "it has 5 labels for 6 rows of features");
    of_labels(&write("one_hot.npy", "<f4", &[6, 2], 48), "its shape is [6, 2], and (n) or (n, 1) is needed");
    of_labels(&write("big.npy", ">i8", &[6], 48), "of the type >i8");
    of_labels(&write("same.npy", "<i8", &[6], 48), "all of its labels are 0");
    let halves = folder.path().join("halves.npy");
    let values: Vec<u8> = [0.0_f32, 1.0, 0.5, 0.0, 1.0, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(&halves, [Header::of("<f4", &[6]).bytes(), values].concat()).unwrap();
    of_labels(&halves, "label 2 is 0.5");
}
