//! The layout of an IDX file, and the checks that come before memory is taken for it.
//!
//! Two zero bytes, the type of the values, the number of dimensions, each dimension as a big-endian `u32`, then the
//! values, the last dimension fastest. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::data::idx::IdxFault;
use crate::data::location::open_regular;
use crate::run::stop::StopFlag;

const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

const UNSIGNED_BYTE: u8 = 0x08;

/// Deflate needs at least two bits for the longest repetition, 258 bytes. Source: RFC 1951, section 3.2.5.
const MAX_GZIP_RATIO: u64 = 1032;

/// Values between two looks at the stop flag.
const CHUNK: usize = 1 << 20;

/// A file whose header was read.
pub struct Opened {
    pub shape: Vec<u32>,
    /// The product of the shape; the file may hold as many.
    pub n_values: u64,
    rest: Box<dyn Read>,
}

/// Reads a header and holds it against the file's length.
pub fn open(path: &Path) -> Result<Opened, IdxFault> {
    let (file, n_bytes) = open_regular(path)?;
    let mut file = BufReader::new(file);
    let is_gzipped = file.fill_buf()?.starts_with(&GZIP_MAGIC);
    let mut rest: Box<dyn Read> = if is_gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let [zero, also_zero, kind, n_dimensions] = header_bytes(&mut rest)?;
    // Four dimensions are more than anything here has.
    if (zero, also_zero) != (0, 0) || !(1..=4).contains(&n_dimensions) {
        return Err(IdxFault::NotIdx);
    }
    if kind != UNSIGNED_BYTE {
        return Err(IdxFault::ValueType { kind });
    }
    let mut shape = Vec::new();
    for _ in 0..n_dimensions {
        shape.push(u32::from_be_bytes(header_bytes(&mut rest)?));
    }
    let n_values = shape.iter().try_fold(1_u64, |n, side| n.checked_mul(u64::from(*side))).unwrap_or(u64::MAX);
    let promised = n_values.saturating_add(4 + 4 * u64::from(n_dimensions));
    if is_gzipped && promised > n_bytes.saturating_mul(MAX_GZIP_RATIO) {
        return Err(IdxFault::ShortGzip { promised, n_bytes });
    }
    if !is_gzipped && promised > n_bytes {
        return Err(IdxFault::Short { promised, n_bytes });
    }
    Ok(Opened { shape, n_values, rest })
}

fn header_bytes(file: &mut impl Read) -> Result<[u8; 4], IdxFault> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => IdxFault::NotIdx,
        _ => IdxFault::Io(error),
    })?;
    Ok(bytes)
}

impl Opened {
    /// Reads all values; there must be exactly as many as the shape says.
    pub fn values(mut self, stop: &StopFlag) -> Result<Vec<u8>, IdxFault> {
        let promised = self.n_values;
        let n_values = usize::try_from(promised).map_err(|_| IdxFault::Memory { n_bytes: promised })?;
        let mut values = Vec::new();
        values.try_reserve_exact(n_values).map_err(|_| IdxFault::Memory { n_bytes: promised })?;
        while values.len() < n_values {
            if stop.is_raised() {
                return Err(IdxFault::Stopped);
            }
            let n_wanted = CHUNK.min(n_values - values.len());
            match self.rest.by_ref().take(n_wanted as u64).read_to_end(&mut values) {
                Ok(n_read) if n_read == n_wanted => {}
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
                _ => return Err(IdxFault::Truncated { promised, found: values.len() as u64 }),
            }
        }
        // Reading past the last value also lets gzip check its sum.
        match self.rest.read(&mut [0]) {
            Ok(0) => Ok(values),
            Ok(_) => Err(IdxFault::Longer { promised }),
            Err(error) => Err(error.into()),
        }
    }
}
