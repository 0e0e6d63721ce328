//! Files that only pretend to be images: each gets one clear line, and none takes the program down.

use std::fs;
use std::io::Write;
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::Value;
use xp::data::decode::decode;

use crate::support::{Place, printed};

/// Address space of a run, in KiB: a decoder that believes a lying header would need more.
const MEMORY_LIMIT_KIB: u32 = 4 << 20;

/// A file's name, its bytes and what must be said about it.
type Hostile = (&'static str, Vec<u8>, &'static str);

#[test]
fn every_hostile_file_has_its_error() {
    let files = hostile_files();
    assert!(files.len() >= 40, "{}", files.len());
    let mut faults = Vec::new();
    for (name, bytes, says) in files {
        match decode(&bytes) {
            Ok(_) => faults.push(format!("{name} was decoded")),
            Err(error) => {
                let text = error.to_string();
                if !text.contains(says) || text.lines().count() != 1 || text.len() > 200 || text.contains("panicked") {
                    faults.push(format!("{name}: {text:?}, expected {says:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn one_run_names_every_hostile_file_in_a_line_of_its_own() {
    let place = Place::new();
    let files = hostile_files();
    fs::create_dir_all(place.path("data/train/red/bad")).unwrap();
    for (name, bytes, _) in &files {
        fs::write(place.path(&format!("data/train/red/bad/{name}")), bytes).unwrap();
    }
    for (link, to) in [("gone.jpg", "nowhere.jpg"), ("itself.png", "itself.png")] {
        std::os::unix::fs::symlink(to, place.path(&format!("data/train/red/bad/{link}"))).unwrap();
    }
    fs::write(place.path("data/train/red/bad/\x1B[2Jtwo\nlines.png"), "").unwrap();
    // What is no file at all is not read: a pipe would be waited for.
    let pipe = place.path("data/train/red/bad/pipe.png");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    fs::create_dir_all(place.path("data/train/red/bad/folder.jpg")).unwrap();

    let printed = run_with_little_memory(&place, &["--name", "strict", "--set", "epochs=1"]);
    assert_eq!(printed.code, 1, "{}", printed.stderr);
    assert!(!printed.stderr.contains("panicked"), "{}", printed.stderr);
    assert!(!printed.stderr.contains('\x1B'), "{}", printed.stderr);
    let n_bad = files.len() + 3;
    let n_all = n_bad + 12;
    assert!(printed.stderr.contains(&format!("read {n_bad} of {n_all} train images")), "{}", printed.stderr);
    let lines: Vec<&str> = printed.stderr.lines().filter(|line| line.starts_with("warning: train red/bad/")).collect();
    assert_eq!(lines.len(), n_bad, "{}", printed.stderr);
    for name in files.iter().map(|(name, ..)| *name).chain(["gone.jpg", "itself.png", " [2Jtwo lines.png"]) {
        let named = format!("warning: train red/bad/{name}: cannot ");
        assert_eq!(lines.iter().filter(|line| line.starts_with(&named)).count(), 1, "{name}: {}", printed.stderr);
    }
    let strict = place.json(&["show", "strict", "--json"]);
    assert_eq!(strict["state"], "failed");
    assert_eq!(reasons(&strict).len(), n_bad);

    for link in ["gone.jpg", "itself.png", "\x1B[2Jtwo\nlines.png"] {
        fs::remove_file(place.path(&format!("data/train/red/bad/{link}"))).unwrap();
    }
    let skip = ["--name", "lenient", "--set", "epochs=1", "--set", "data.on_bad_image=skip"];
    let printed = run_with_little_memory(&place, &skip);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stderr.contains(&format!("{} images skipped", files.len())), "{}", printed.stderr);
    let lenient = place.json(&["show", "lenient", "--json"]);
    assert_eq!(lenient["state"], "finished");
    let told = reasons(&lenient);
    assert_eq!(told.len(), files.len());
    for (name, bytes, _) in &files {
        let expected = (format!("red/bad/{name}"), decode(bytes).unwrap_err().to_string());
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
}

#[test]
fn turned_photos_are_told_and_turned_on_request() {
    let place = Place::new();
    for (split, orientation) in [("train", 6), ("train", 1), ("test", 3)] {
        let photo = fixture(&format!("exif_{orientation}.jpg"));
        fs::write(place.path(&format!("data/{split}/red/photo{orientation}.jpg")), photo).unwrap();
    }
    let run = |name: &str, sets: &[&str]| {
        let printed = place.xp(&[&["run", "spec.yaml", "--name", name, "--set", "epochs=1"], sets].concat());
        assert_eq!(printed.code, 0, "{}", printed.stderr);
        let shown = place.json(&["show", name, "--json"]);
        (printed.stderr, shown["data"].clone(), shown["metrics"]["train.loss"]["last"].clone())
    };
    let (ignored, data, loss) = run("stored", &[]);
    let warned = ignored.lines().filter(|line| line.contains("`data.exif: apply` turns them")).collect::<Vec<_>>();
    assert_eq!(warned.len(), 2, "{ignored}");
    assert!(warned[0].starts_with("warning: 1 train images, such as red/photo6.jpg, are stored"), "{ignored}");
    let (applied, same_data, other_loss) = run("upright", &["--set", "data.exif=apply"]);
    assert_eq!(applied, "");
    assert!(data["splits"]["train"]["hash"].is_string());
    assert_eq!(data, same_data);
    assert_ne!(loss, other_loss);
    let evaluated = place.xp(&["evaluate", "stored"]);
    assert!(evaluated.stderr.starts_with("warning: 1 test images, such as red/photo3.jpg"), "{}", evaluated.stderr);
}

fn run_with_little_memory(place: &Place, arguments: &[&str]) -> crate::support::Printed {
    let mut command = Command::new("sh");
    command.current_dir(place.folder.path()).env_remove("XP_HOME").env_remove("RUST_LOG").env("COLUMNS", "80");
    command.arg("-c").arg(format!("ulimit -v {MEMORY_LIMIT_KIB} && exec \"$0\" run spec.yaml \"$@\""));
    command.arg(assert_cmd::cargo::cargo_bin("xp")).args(arguments);
    printed(&command.output().unwrap())
}

/// Path and reason of everything that a run left out.
fn reasons(shown: &Value) -> Vec<(String, String)> {
    let text = |skipped: &Value, key: &str| skipped[key].as_str().unwrap().to_owned();
    shown["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skipped| (text(skipped, "path"), text(skipped, "reason")))
        .collect()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/fixtures/image_formats/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The first bytes of a fixture.
fn cut(name: &str, n_bytes: usize) -> Vec<u8> {
    fixture(name)[..n_bytes].to_vec()
}

/// A fixture with other bytes at a place behind the first occurrence of a marker.
fn changed(name: &str, marker: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = fixture(name);
    let at = file.windows(marker.len()).position(|window| window == marker).unwrap() + offset;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn hostile_files() -> Vec<Hostile> {
    [other_files(), jpegs(), pngs(), webps(), bmps(), gifs(), tiffs()].concat()
}

const UNKNOWN: &str = "the file does not begin as JPEG, PNG, WebP, BMP, GIF or TIFF files do";

/// Files of other kinds under names of images.
fn other_files() -> Vec<Hostile> {
    vec![
        ("empty.png", Vec::new(), "the file is empty"),
        ("one_byte.jpg", vec![0xFF], UNKNOWN),
        ("zeros.bmp", vec![0; 4096], UNKNOWN),
        ("text.png", b"not an image\n".to_vec(), UNKNOWN),
        ("page.jpg", b"<!DOCTYPE html><html><title>404 Not Found</title></html>".to_vec(), UNKNOWN),
        ("drawing.png", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(), UNKNOWN),
        ("document.jpg", b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n".to_vec(), UNKNOWN),
        ("photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), UNKNOWN),
        ("modern.webp", b"\0\0\0\x1Cftypavif\0\0\0\0avifmif1".to_vec(), UNKNOWN),
        ("jpeg2000.jpg", b"\0\0\0\x0CjP  \r\n\x87\n".to_vec(), UNKNOWN),
        ("archive.gif", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec(), UNKNOWN),
        ("program.tiff", b"\x7FELF\x02\x01\x01\0".to_vec(), UNKNOWN),
        ("sound.webp", b"RIFF\x24\0\0\0WAVEfmt ".to_vec(), UNKNOWN),
    ]
}

fn jpegs() -> Vec<Hostile> {
    let start_of_frame = b"\xFF\xC0\0\x11\x08";
    let whole = fixture("baseline.jpg");
    let n = whole.len();
    let mut no_tables = whole.clone();
    while let Some(at) = no_tables.windows(2).position(|marker| marker == b"\xFF\xDB") {
        no_tables[at + 1] = 0xFE;
    }
    vec![
        ("start_only.jpg", whole[..3].to_vec(), "the file ends before the image does"),
        ("cut_in_headers.jpg", whole[..100].to_vec(), "the file ends before the image does"),
        ("cut_in_scan.jpg", whole[..n - 60].to_vec(), "the file ends before the image does"),
        ("cut_before_end.jpg", whole[..n - 2].to_vec(), "the file ends before the image does"),
        ("cut_progressive.jpg", cut("progressive.jpg", 600), "the file ends before the image does"),
        ("huge.jpg", changed("baseline.jpg", start_of_frame, 5, &[0xFF; 4]), "65535 x 65535 pixels are more than"),
        ("lying_height.jpg", changed("baseline.jpg", start_of_frame, 5, &[0xE9, 0x0E]), "the file ends before"),
        ("no_width.jpg", changed("baseline.jpg", start_of_frame, 7, &[0, 0]), "decode the JPEG image: "),
        ("twelve_bits.jpg", changed("baseline.jpg", start_of_frame, 4, &[12]), "decode the JPEG image: "),
        ("arithmetic.jpg", changed("baseline.jpg", start_of_frame, 1, &[0xC9]), "not supported: it is lossless"),
        ("lossless.jpg", changed("baseline.jpg", start_of_frame, 1, &[0xC3]), "not supported: it is lossless"),
        ("no_tables.jpg", no_tables, "decode the JPEG image: "),
        ("overfull_huffman.jpg", changed("baseline.jpg", b"\xFF\xC4", 5, &[0xFF; 16]), "decode the JPEG image: "),
        ("short_segment.jpg", changed("baseline.jpg", b"\xFF\xE0", 2, &[0, 0]), "decode the JPEG image: "),
    ]
}

fn pngs() -> Vec<Hostile> {
    let start = b"\x89PNG\r\n\x1A\n".to_vec();
    let header = |width: u32, height: u32, depth: u8, color: u8| {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        png_chunk(b"IHDR", &[&sides[..], &[depth, color, 0, 0, 0]].concat())
    };
    let end = png_chunk(b"IEND", b"");
    let file = |chunks: &[Vec<u8>]| [&start[..], &chunks.concat(), &end].concat();
    let data = |bytes: &[u8]| png_chunk(b"IDAT", &deflated(bytes));
    let whole = fixture("rgb8.png");
    let mut bad_checksum = whole.clone();
    bad_checksum[whole.len() - end.len() - 1] ^= 1;
    vec![
        ("start_only.png", start.clone(), "the file ends before the image does"),
        ("cut.png", whole[..whole.len() / 2].to_vec(), "the file ends before the image does"),
        ("bad_checksum.png", bad_checksum, "CRC error"),
        ("bad_data.png", changed("rgb8.png", b"IDAT", 20, b"oops"), "decode the PNG image: "),
        ("huge.png", file(&[header(0x7FFF_FFFF, 0x7FFF_FFFF, 8, 6), data(b"")]), "pixels are more than"),
        ("bomb.png", file(&[header(60_000, 60_000, 8, 0), data(&[0; 1 << 20])]), "60000 x 60000 pixels are more than"),
        ("no_pixels.png", file(&[header(0, 14, 8, 2), data(b"")]), "it has no pixels"),
        ("bad_depth.png", file(&[header(1, 1, 3, 0), data(&[0, 0])]), "decode the PNG image: "),
        ("no_palette.png", file(&[header(1, 1, 8, 3), data(&[0, 0])]), "decode the PNG image: "),
        ("no_data.png", file(&[header(1, 1, 8, 2)]), "decode the PNG image: "),
        ("too_little_data.png", file(&[header(64, 64, 8, 2), data(&[0; 100])]), "decode the PNG image: "),
        ("bad_filter.png", file(&[header(1, 1, 8, 0), data(&[9, 0])]), "decode the PNG image: "),
        ("no_deflate.png", file(&[header(1, 1, 8, 0), png_chunk(b"IDAT", b"not deflated")]), "decode the PNG image: "),
    ]
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(kind);
    checksum.update(data);
    let size = (data.len() as u32).to_be_bytes();
    [&size[..], kind, data, &checksum.sum().to_be_bytes()].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn webps() -> Vec<Hostile> {
    // Sides are stored less one, 14 bits each.
    let sides = (15_999_u32 | 15_999 << 14).to_le_bytes();
    let animation_without_frames =
        [&b"RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0"[..], &[20, 0, 0, 13, 0, 0], b"ANIM\x06\0\0\0\0\0\0\0\0\0"];
    vec![
        ("start_only.webp", cut("lossless.webp", 12), "the file ends before the image does"),
        ("cut.webp", cut("lossy.webp", 120), "decode the WebP image: "),
        ("huge.webp", changed("lossless.webp", b"VP8L", 9, &sides), "16000 x 16000 pixels are more than"),
        ("bad_start_code.webp", changed("lossy.webp", b"\x9D\x01\x2A", 0, &[0; 3]), "decode the WebP image: "),
        ("no_frames.webp", animation_without_frames.concat(), "decode the WebP image: "),
        ("unknown_chunk.webp", changed("lossy.webp", b"VP8 ", 0, b"VP9 "), "decode the WebP image: "),
    ]
}

fn bmps() -> Vec<Hostile> {
    let header = |at: usize, bytes: &[u8]| changed("rgb24.bmp", b"BM", at, bytes);
    vec![
        ("start_only.bmp", b"BM".to_vec(), "the file ends before the image does"),
        ("cut.bmp", cut("rgb24.bmp", 500), "the file ends before the image does"),
        ("huge.bmp", header(18, &[0xFF, 0xFF, 0, 0, 0xFF, 0xFF, 0, 0]), "65535 x 65535 pixels are more than"),
        ("negative_width.bmp", header(18, &[0xFF; 4]), "decode the BMP image: "),
        ("lowest_height.bmp", header(22, &[0, 0, 0, 0x80]), "decode the BMP image: "),
        ("no_height.bmp", header(22, &[0; 4]), "decode the BMP image: "),
        ("seven_bits.bmp", header(28, &[7, 0]), "decode the BMP image: "),
        ("jpeg_inside.bmp", header(30, &[4]), "decode the BMP image: "),
        ("unknown_header.bmp", header(14, &[99]), "decode the BMP image: "),
    ]
}

fn gifs() -> Vec<Hostile> {
    let whole = fixture("palette.gif");
    let no_frames = [&whole[..13 + 3 * 16], b";"].concat();
    let descriptor = b",\0\0\0\0";
    vec![
        ("start_only.gif", b"GIF89a".to_vec(), "the file ends before the image does"),
        ("cut.gif", whole[..whole.len() / 2].to_vec(), "decode the GIF image: "),
        ("no_frames.gif", no_frames, "no image follows its header"),
        ("huge_screen.gif", changed("palette.gif", b"GIF8", 6, &[0xFF; 4]), "65535 x 65535 pixels are more than"),
        ("huge_frame.gif", changed("palette.gif", descriptor, 5, &[0xFF; 4]), "65535 x 65535 pixels are more than"),
        ("far_frame.gif", changed("palette.gif", descriptor, 1, &[0xFF; 4]), "pixels are more than"),
        ("no_pixels.gif", changed("palette.gif", descriptor, 5, &[0; 2]), "it has no pixels"),
        ("endless_extension.gif", [&whole[..13 + 3 * 16], b"!\xFE\xFFabc"].concat(), "the file ends before"),
        ("bad_codes.gif", changed("palette.gif", descriptor, 10, &[13]), "decode the GIF image: "),
    ]
}

fn tiffs() -> Vec<Hostile> {
    let entry = |tag: u8, high: u8| [tag, high, 3, 0, 1, 0, 0, 0];
    let tagged = |tag: [u8; 8], bytes: &[u8]| changed("gray8_inverted.tif", &tag, 8, bytes);
    let (width, height) = (entry(0, 1), entry(1, 1));
    let mut huge = tagged(width, &[0xFF, 0xFF]);
    let at = huge.windows(8).position(|window| window == height).unwrap() + 8;
    huge[at..at + 2].fill(0xFF);
    let whole = fixture("gray8_inverted.tif");
    let directory = u32::from_le_bytes([whole[4], whole[5], whole[6], whole[7]]);
    let n = whole.len();
    let mut looping = whole.clone();
    looping[n - 4..].copy_from_slice(&directory.to_le_bytes());
    let mut many_entries = whole.clone();
    many_entries[directory as usize..directory as usize + 2].fill(0xFF);
    let long = |tag: u8| [tag, 1, 4, 0, 1, 0, 0, 0];
    vec![
        ("start_only.tif", whole[..4].to_vec(), "the file ends before the image does"),
        ("cut.tif", whole[..n / 2].to_vec(), "decode the TIFF image: "),
        ("huge.tif", huge, "65535 x 65535 pixels are more than"),
        ("no_height.tif", tagged(height, &[0, 0]), "decode the TIFF image: "),
        ("looping.tif", looping, "decode the TIFF image: "),
        ("many_entries.tif", many_entries, "decode the TIFF image: "),
        ("directory_outside.tif", changed("gray8_inverted.tif", b"II", 4, &[0xFF; 4]), "the file ends before"),
        ("strip_outside.tif", tagged(long(17), &[0xF0, 0xFF, 0xFF, 0x7F]), "the file ends before"),
        ("lying_strip.tif", tagged(long(23), &[0xFF; 4]), "decode the TIFF image: "),
        ("float.tif", fixture("float.tif"), "decode the TIFF image: "),
        ("palette4.tif", fixture("palette4.tif"), "decode the TIFF image: "),
    ]
}
