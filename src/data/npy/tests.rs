//! Against files that NumPy wrote: tests/fixtures/make_npy.py.

use super::*;

const FILES: [(&str, &[u8], &str, &[u64]); 6] = [
    ("features", include_bytes!("../../../tests/fixtures/npy/features.npy"), "<f4", &[6, 2, 3, 4]),
    ("vectors", include_bytes!("../../../tests/fixtures/npy/vectors.npy"), "<f4", &[6, 24]),
    ("labels", include_bytes!("../../../tests/fixtures/npy/labels.npy"), "<i8", &[6]),
    ("labels_f32", include_bytes!("../../../tests/fixtures/npy/labels_f32.npy"), "<f4", &[6, 1]),
    ("scalar", include_bytes!("../../../tests/fixtures/npy/scalar.npy"), "<f4", &[]),
    ("version_3", include_bytes!("../../../tests/fixtures/npy/version_3.npy"), "<f4", &[6]),
];

#[test]
fn numpys_headers_are_read() {
    for (name, file, descr, shape) in FILES {
        let header = Header::read(&mut &*file).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((header.descr.as_str(), header.shape.as_slice()), (descr, shape), "{name}");
        let n_value_bytes = if descr == "<i8" { 8 } else { 4 };
        header.check_length(n_value_bytes, file.len() as u64).unwrap();
    }
}

#[test]
fn headers_are_written_as_numpy_writes_them() {
    for (name, file, descr, shape) in FILES.iter().take(5) {
        let bytes = Header::of(descr, shape).bytes();
        assert_eq!(&file[..bytes.len()], bytes, "{name}");
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }
    let grown = |n| Header::of("<f4", &[n, 4, 4, 512]).bytes().len();
    assert_eq!(grown(1), grown(20_000), "a file's first side may grow without moving its values");
}

#[test]
fn what_is_no_array_is_an_error() {
    let file = FILES[0].1;
    let start = Header::read(&mut &*file).unwrap().start as usize;
    for len in 0..start {
        assert!(Header::read(&mut &file[..len]).is_err(), "{len} bytes");
    }
    for bit in 0..start * 8 {
        let mut damaged = file.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Another shape or type is for the file's length and its reader to object to; the padding may be anything.
        if let Ok(header) = Header::read(&mut damaged.as_slice()) {
            assert!(header.start as usize <= MAX_HEADER_BYTES + 12);
        }
    }
    let with = |text: &str| {
        let n = u16::try_from(text.len()).unwrap().to_le_bytes();
        Header::read(&mut [MAGIC.as_slice(), &[1, 0], &n, text.as_bytes()].concat().as_slice())
    };
    for text in [
        "",
        "{}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x",
        &"(".repeat(9000),
    ] {
        assert!(matches!(with(text), Err(NpyFault::Header { .. })), "{text:.60}");
    }
    let huge = with("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}").unwrap();
    assert!(matches!(huge.check_length(4, 100), Err(NpyFault::Length { promised: u64::MAX, .. })));
    let long = [MAGIC.as_slice(), &[2, 0], &u32::MAX.to_le_bytes()].concat();
    assert!(matches!(Header::read(&mut long.as_slice()), Err(NpyFault::LongHeader { .. })));
}
