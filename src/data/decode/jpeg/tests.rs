use proptest::prelude::*;

use super::*;
use crate::data::decode;
use crate::data::golden;

fn fixture(name: &str) -> Vec<u8> {
    golden::bytes(&format!("jpeg/{name}"))
}

/// Name, width, height and pixels of each fixture, as Pillow reads it.
fn expected() -> Vec<(String, u32, u32, Vec<u8>)> {
    let expected = golden::json("jpeg/expected.json");
    let files = expected["files"].as_object().unwrap();
    let size = |file: &serde_json::Value, key: &str| file[key].as_u64().unwrap() as u32;
    let entry = |(name, file): (&String, &serde_json::Value)| {
        (name.clone(), size(file, "width"), size(file, "height"), golden::base64(&file["rgb"]))
    };
    files.iter().map(entry).collect()
}

/// Where the content of the first segment of a kind begins.
fn content_of(file: &[u8], marker: u8) -> usize {
    file.windows(2).position(|bytes| bytes == [0xFF, marker]).unwrap() + 4
}

fn error_of(file: &[u8]) -> DecodeError {
    decode(file, Decode::LibjpegTurbo).unwrap_err()
}

fn is_corrupt(file: &[u8], what: &str) -> bool {
    matches!(error_of(file), DecodeError::Corrupt { reason, .. } if reason.contains(what))
}

#[test]
fn gray_and_every_subsampling_decode_bit_for_bit_as_libjpeg_turbo_decodes_them() {
    for (name, width, height, pixels) in expected() {
        let image = decode(&fixture(&name), Decode::LibjpegTurbo).unwrap_or_else(|e| panic!("{name}: {e}")).image;
        assert_eq!((image.width, image.height), (width, height), "{name}");
        let (largest, _) = golden::differences(&image.pixels_hwc, &pixels);
        assert_eq!(largest, 0, "{name}");
    }
}

#[test]
fn plain_is_near_libjpeg_turbo_where_all_planes_are_of_one_size() {
    let full = |name: &str| name.starts_with("gray") || name.starts_with("444");
    let compared = expected().into_iter().filter(|(name, ..)| full(name) && !name.ends_with("first_scan_only.jpg"));
    for (name, _, _, pixels) in compared {
        let image = decode(&fixture(&name), Decode::Plain).unwrap().image;
        let (largest, _) = golden::differences(&image.pixels_hwc, &pixels);
        assert!(largest <= 3, "{name}: {largest}");
    }
}

#[test]
fn rgb_and_cmyk_are_the_same_either_way() {
    for name in ["cmyk_adobe.jpg", "cmyk_unmarked.jpg", "ycck.jpg", "rgb_adobe.jpg", "rgb_unmarked.jpg"] {
        let file = golden::bytes(&format!("image_formats/{name}"));
        assert_eq!(decode(&file, Decode::LibjpegTurbo), decode(&file, Decode::Plain), "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    for name in ["420_33x31_restart.jpg", "422_33x31_progressive.jpg", "gray_17x9.jpg"] {
        let file = fixture(name);
        for n in 3..file.len() {
            assert_eq!(error_of(&file[..n]), DecodeError::Truncated { format: Format::Jpeg }, "{name} at {n}");
        }
    }
}

#[test]
fn blocks_that_are_missing_before_the_end_are_an_error() {
    for name in ["420_33x31.jpg", "444_33x31.jpg", "gray_17x9.jpg"] {
        let file = fixture(name);
        let scan = content_of(&file, 0xDA) + 12;
        let cut = [&file[..(scan + file.len()) / 2], b"\xFF\xD9"].concat();
        assert_eq!(error_of(&cut), DecodeError::Truncated { format: Format::Jpeg }, "{name}");
    }
}

#[test]
fn a_damaged_segment_is_an_error() {
    let whole = fixture("420_33x31_restart.jpg");
    let length_is = |marker: u8, length: u8| {
        let mut file = whole.clone();
        let at = content_of(&file, marker);
        file[at - 1] = length;
        file
    };
    let byte_is = |marker: u8, at: usize, byte: u8| {
        let mut file = whole.clone();
        let content = content_of(&file, marker);
        file[content + at] = byte;
        file
    };
    for (marker, length) in [(0xC0, 14), (0xDA, 11), (0xDB, 66), (0xDD, 5), (0xDB, 2)] {
        assert!(decode(&length_is(marker, length), Decode::LibjpegTurbo).is_err(), "{marker:x}");
    }
    // Three codes of one bit; a table in the fifth place; a size of 16 bits; a first detail behind the last.
    assert!(is_corrupt(&byte_is(0xC4, 1, 3), "a Huffman table is damaged"));
    assert!(is_corrupt(&byte_is(0xC4, 0, 4), "a Huffman table is damaged"));
    assert!(is_corrupt(&byte_is(0xC4, 17, 16), "a Huffman table is damaged"));
    assert!(is_corrupt(&byte_is(0xDA, 7, 64), "the head of a scan is damaged"));
    assert!(is_corrupt(&byte_is(0xDB, 0, 0x20), "a marker's segment is damaged"));
    // Three components, of which the frame has only one.
    assert!(is_corrupt(&byte_is(0xC0, 5, 1), "a marker's segment is damaged"));
}

#[test]
fn a_missing_huffman_table_is_an_error() {
    let mut file = fixture("444_33x31.jpg");
    let at = content_of(&file, 0xC4);
    let n_bytes = usize::from(file[at - 1]);
    file.drain(at - 4..at - 2 + n_bytes);
    assert!(is_corrupt(&file, "a Huffman table is missing"));
}

#[test]
fn a_second_frame_and_a_second_beginning_are_errors() {
    let file = fixture("444_33x31.jpg");
    let frame = content_of(&file, 0xC0) - 4;
    let tables = content_of(&file, 0xC4) - 4;
    let twice = [&file[..tables], &file[frame..]].concat();
    assert!(is_corrupt(&twice, "a marker stands where none can be"));
    for marker in [0xD8, 0x02, 0xC8, 0xF0] {
        let mut file = fixture("444_33x31.jpg");
        let end = file.len() - 2;
        file.splice(end..end, [0xFF, marker, 0, 2]);
        assert!(is_corrupt(&file, "a marker stands where none can be"), "{marker:x}");
    }
}

#[test]
fn a_size_that_the_file_is_too_short_for_is_an_error() {
    let mut file = fixture("gray_1x1.jpg");
    let frame = content_of(&file, 0xC0);
    file[frame + 1..frame + 5].copy_from_slice(&[0x10, 0, 0x10, 0]);
    assert_eq!(error_of(&file), DecodeError::Truncated { format: Format::Jpeg });
}

#[test]
fn stray_bytes_and_a_second_image_behind_the_end_do_no_harm() {
    let file = fixture("420_21x15_q95.jpg");
    let whole = decode(&file, Decode::LibjpegTurbo);
    let tables = content_of(&file, 0xDB) - 4;
    let mut stray = file.clone();
    stray.splice(tables..tables, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(decode(&stray, Decode::LibjpegTurbo), whole);
    assert_eq!(decode(&[&file[..], &file[..]].concat(), Decode::LibjpegTurbo), whole);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_files_never_panic(
        entry in prop::sample::select(expected()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = fixture(&entry.0);
        for (index, byte) in changes {
            let index = index.index(file.len());
            file[index] = byte;
        }
        if let Ok(decoded) = decode::decode(&file) {
            let image = decoded.image;
            prop_assert_eq!(image.pixels_hwc.len(), image.height as usize * image.width as usize * 3);
        }
    }
}
