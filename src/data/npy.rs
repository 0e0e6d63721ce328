//! The .npy format: a header that says type, order and shape of an array, then its values.
//!
//! Owns the header, read and written as NumPy writes it; what the values mean is for others. Source: NumPy's
//! `numpy/lib/_format_impl.py`, versions 1.0 to 3.0 of the format.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::data::location::open_regular;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read, bytes. NumPy refuses those longer than 10,000, too.
const MAX_HEADER_BYTES: usize = 10_000;

/// Values begin at a multiple of so many bytes.
const ALIGNMENT: usize = 64;

/// NumPy leaves room for the first side of the shape to grow to so many digits.
const GROWTH_DIGITS: usize = 21;

/// Most sides of a shape; an array of features has four.
const MAX_SIDES: usize = 8;

/// What is wrong with a .npy file.
#[derive(Debug, thiserror::Error)]
pub enum NpyFault {
    #[error("{0}")]
    Io(#[from] io::Error),

    #[error("it does not begin as .npy files do")]
    NotNpy,

    #[error("it is of version {major} of the format, and 1 to 3 are read")]
    Version { major: u8 },

    #[error("its header of {n_bytes} bytes is longer than {MAX_HEADER_BYTES}")]
    LongHeader { n_bytes: usize },

    #[error("its header cannot be read at {rest:?}")]
    Header { rest: String },

    #[error("its values stand in Fortran's order")]
    FortranOrder,

    #[error("its shape {shape:?} and its type {descr} promise {promised} bytes, and it has {found}")]
    Length { shape: Vec<u64>, descr: String, promised: u64, found: u64 },
}

/// An array in a file, before its values are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type as NumPy spells it: `<f4`.
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<u64>,
    /// Bytes before the first value.
    pub start: u64,
}

/// Opens a file whose values stand in C order and reads its header.
pub fn open(path: &Path) -> Result<(File, Header, u64), NpyFault> {
    let (mut file, n_bytes) = open_regular(path)?;
    let header = Header::read(&mut file)?;
    // With one side or none there is only one order.
    if header.fortran_order && header.shape.len() > 1 {
        return Err(NpyFault::FortranOrder);
    }
    Ok((file, header, n_bytes))
}

impl Header {
    /// The array's own header at the start of a file.
    pub fn of(descr: &str, shape: &[u64]) -> Self {
        let mut header = Self { descr: descr.to_owned(), fortran_order: false, shape: shape.to_vec(), start: 0 };
        header.start = header.bytes().len() as u64;
        header
    }

    /// Reads a header and leaves the file at the first value.
    pub fn read(file: &mut impl Read) -> Result<Self, NpyFault> {
        let begin: [u8; 8] = bytes(file)?;
        if !begin.starts_with(MAGIC) {
            return Err(NpyFault::NotNpy);
        }
        let (n_bytes, n_before) = match begin[6] {
            1 => (usize::from(u16::from_le_bytes(bytes(file)?)), 10),
            2 | 3 => (u32::from_le_bytes(bytes(file)?) as usize, 12),
            major => return Err(NpyFault::Version { major }),
        };
        if n_bytes > MAX_HEADER_BYTES {
            return Err(NpyFault::LongHeader { n_bytes });
        }
        let mut text = vec![0; n_bytes];
        file.read_exact(&mut text).map_err(cut_short)?;
        let text = String::from_utf8_lossy(&text);
        let start = (n_before + n_bytes) as u64;
        let mut scan = Scan { rest: &text };
        scan.header(start).ok_or_else(|| NpyFault::Header { rest: scan.rest.chars().take(40).collect() })
    }

    /// The values that the shape promises; `None` for more than can be counted.
    pub fn n_values(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |n, side| n.checked_mul(*side))
    }

    /// Holds the file's length against what the header promises of values of so many bytes.
    pub fn check_length(&self, n_value_bytes: u64, found: u64) -> Result<(), NpyFault> {
        let promised = self.n_values().and_then(|n| n.checked_mul(n_value_bytes)?.checked_add(self.start));
        match promised {
            Some(promised) if promised == found => Ok(()),
            _ => Err(NpyFault::Length {
                shape: self.shape.clone(),
                descr: self.descr.clone(),
                promised: promised.unwrap_or(u64::MAX),
                found,
            }),
        }
    }

    /// The header as NumPy writes it, byte for byte. Its length depends on nothing but the number of sides, and on
    /// those after the first.
    pub fn bytes(&self) -> Vec<u8> {
        let sides: Vec<String> = self.shape.iter().map(u64::to_string).collect();
        let shape = match sides.as_slice() {
            [only] => format!("({only},)"),
            sides => format!("({})", sides.join(", ")),
        };
        let order = if self.fortran_order { "True" } else { "False" };
        let mut text = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': {shape}, }}", self.descr);
        let growing = if self.fortran_order { sides.last() } else { sides.first() };
        text += &" ".repeat(growing.map_or(0, |side| GROWTH_DIGITS.saturating_sub(side.len())));
        let n_before = MAGIC.len() + 4;
        let n_padding = ALIGNMENT - (n_before + text.len() + 1) % ALIGNMENT;
        text += &" ".repeat(n_padding);
        text.push('\n');
        let n_text = u16::try_from(text.len()).expect("eight sides take less than a kilobyte");
        [MAGIC.as_slice(), &[1, 0], &n_text.to_le_bytes(), text.as_bytes()].concat()
    }
}

fn bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N], NpyFault> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(cut_short)?;
    Ok(bytes)
}

fn cut_short(error: io::Error) -> NpyFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => NpyFault::NotNpy,
        _ => NpyFault::Io(error),
    }
}

/// The header's text, a Python dictionary of three known keys.
///
/// Read by hand: npyz takes any Python literal, and its grammar calls itself for every bracket, so that a header of
/// brackets alone would use up the stack.
struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn header(&mut self, start: u64) -> Option<Header> {
        let (mut descr, mut order, mut shape) = (None, None, None);
        self.take("{")?;
        while self.take("}").is_none() {
            let key = self.text()?;
            self.take(":")?;
            match key.as_str() {
                "descr" => descr = Some(self.text()?),
                "fortran_order" => order = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                _ => return None,
            }
            if self.take(",").is_none() {
                self.take("}")?;
                break;
            }
        }
        self.rest.trim().is_empty().then_some(())?;
        Some(Header { descr: descr?, fortran_order: order?, shape: shape?, start })
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(token)?;
        Some(())
    }

    /// Text between quotes, without escapes.
    fn text(&mut self) -> Option<String> {
        let trimmed = self.rest.trim_start();
        let quote = trimmed.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (text, rest) = trimmed[1..].split_once(quote)?;
        let plain = text.len() <= 16 && text.chars().all(|c| c.is_ascii_graphic() && c != '\\');
        plain.then(|| {
            self.rest = rest;
            text.to_owned()
        })
    }

    fn boolean(&mut self) -> Option<bool> {
        self.take("True").map(|()| true).or_else(|| self.take("False").map(|()| false))
    }

    fn shape(&mut self) -> Option<Vec<u64>> {
        let mut shape = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            let trimmed = self.rest.trim_start();
            let n_digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
            shape.push(trimmed[..n_digits].parse().ok()?);
            self.rest = &trimmed[n_digits..];
            // NumPy for Python 2 wrote whole numbers with an L behind them.
            let _ = self.take("L");
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        (shape.len() <= MAX_SIDES).then_some(shape)
    }
}

#[cfg(test)]
mod tests;
