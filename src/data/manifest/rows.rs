//! The rows of a CSV manifest, with the line each begins on and limits on what is read.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use crate::data::location::open_regular;
use crate::data::manifest::{ManifestError, ManifestFault};
use crate::run::metric::Split;

const MAX_BYTES: u64 = 1 << 30;

/// Longest row, bytes; what is longer has lost a quotation mark.
const MAX_ROW_BYTES: u64 = 1 << 16;

/// Longest path, bytes: that of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// Longest label, bytes: that of a folder's name on most file systems.
const MAX_LABEL_BYTES: usize = 255;

/// The rows of a file after its header.
pub struct Rows {
    file: PathBuf,
    /// The folder that paths are relative to.
    pub root: Arc<Path>,
    reader: Reader<Limited>,
    /// Where the row that is being read begins, bytes.
    row_start: Rc<Cell<u64>>,
    columns: Columns,
    record: ByteRecord,
}

/// Places of the columns, from 0.
#[derive(Default)]
struct Columns {
    n: usize,
    path: usize,
    label: usize,
    split: Option<usize>,
}

/// What one row says.
pub struct Row<'a> {
    pub path: &'a str,
    pub label: &'a str,
    pub split: Option<Split>,
}

impl Rows {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, ManifestError> {
        let at = |line, fault| ManifestError { path: path.to_owned(), line, fault };
        let (file, _) = open_regular(path).map_err(|error| at(None, error.into()))?;
        let row_start = Rc::new(Cell::new(0));
        let limited = Limited { file, n_read: 0, last: b'\n', row_start: Rc::clone(&row_start) };
        let mut rows = Self {
            file: path.to_owned(),
            root: path.parent().unwrap_or(Path::new("")).into(),
            reader: ReaderBuilder::new()
                .has_headers(false)
                // A wrong number of fields is told with more than their number.
                .flexible(true)
                // With `\r\n` as one end, the reader counts lines late.
                .terminator(Terminator::Any(b'\n'))
                .from_reader(limited),
            row_start,
            columns: Columns::default(),
            record: ByteRecord::new(),
        };
        let line = rows.next()?.ok_or_else(|| at(None, ManifestFault::Empty))?;
        rows.columns = Columns::find(&rows.record).map_err(|fault| at(Some(line), fault))?;
        Ok(rows)
    }

    /// Reads a row; returns the line it begins on, `None` after the last one.
    pub fn next(&mut self) -> Result<Option<u64>, ManifestError> {
        loop {
            let start = self.reader.position();
            self.row_start.set(start.byte());
            let start = start.line();
            let read = self.reader.read_byte_record(&mut self.record);
            let at = |error: csv::Error| ManifestError {
                path: self.file.clone(),
                line: Some(start),
                fault: ManifestFault::Io(error.into()),
            };
            if !read.map_err(at)? {
                return Ok(None);
            }
            // Empty lines may come first. A row ends in a line feed, and a field may have some, too.
            let n_lines = 1 + self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            let line = start.max(self.reader.position().line().saturating_sub(n_lines));
            if self.strip_carriage_return() {
                return Ok(Some(line));
            }
        }
    }

    /// Takes the first half of `\r\n` off the last field; tells whether anything is left of the row.
    fn strip_carriage_return(&mut self) -> bool {
        let last = self.record.len().saturating_sub(1);
        let stripped = self.record.get(last).and_then(|field| field.strip_suffix(b"\r")).map(<[u8]>::to_vec);
        if let Some(stripped) = stripped {
            self.record.truncate(last);
            self.record.push_field(&stripped);
        }
        self.record.len() > 1 || !self.record.as_slice().is_empty()
    }

    /// Whether every row names its split.
    pub fn name_splits(&self) -> bool {
        self.columns.split.is_some()
    }

    /// Takes apart the row that was read last.
    pub fn row(&self) -> Result<Row<'_>, ManifestFault> {
        let (found, expected) = (self.record.len(), self.columns.n);
        if found != expected {
            return Err(ManifestFault::FieldCount { found, expected });
        }
        let split = self.columns.split.map(|place| {
            let name = self.field(place, "split", MAX_LABEL_BYTES)?;
            let split = [Split::Train, Split::Valid, Split::Test].into_iter().find(|split| split.as_str() == name);
            split.ok_or_else(|| ManifestFault::UnknownSplit { name: name.to_owned() })
        });
        Ok(Row {
            path: self.field(self.columns.path, "path", MAX_PATH_BYTES)?,
            label: self.field(self.columns.label, "label", MAX_LABEL_BYTES)?,
            split: split.transpose()?,
        })
    }

    fn field(&self, place: usize, column: &'static str, most: usize) -> Result<&str, ManifestFault> {
        let field = &self.record[place];
        match str::from_utf8(field) {
            Ok("") => Err(ManifestFault::EmptyField { column }),
            Ok(_) if field.len() > most => Err(ManifestFault::LongField { column, n_bytes: field.len(), most }),
            Ok(text) => Ok(text),
            Err(_) => Err(ManifestFault::NotUtf8 { what: column }),
        }
    }
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, ManifestFault> {
        let names = header.iter().map(|name| str::from_utf8(name).map(str::to_owned)).collect::<Result<Vec<_>, _>>();
        let names = names.map_err(|_| ManifestFault::NotUtf8 { what: "the header" })?;
        let place = |wanted: &'static str| {
            let mut places = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(place, _)| place);
            match (places.next(), places.next()) {
                (_, Some(_)) => Err(ManifestFault::RepeatedColumn { name: wanted }),
                (place, None) => Ok(place),
            }
        };
        let needed = |wanted| {
            let found = || names.iter().map(|name| name.chars().take(MAX_LABEL_BYTES).collect()).collect();
            place(wanted)?.ok_or_else(|| ManifestFault::MissingColumn { missing: wanted, found: found() })
        };
        Ok(Self { n: names.len(), path: needed("path")?, label: needed("label")?, split: place("split")? })
    }
}

/// A file that ends in a line feed, or in an error where it, or a row of it, is too long.
struct Limited {
    file: File,
    n_read: u64,
    /// The last byte that was read.
    last: u8,
    row_start: Rc<Cell<u64>>,
}

impl Read for Limited {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.n_read > MAX_BYTES {
            return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
        }
        if self.n_read.saturating_sub(self.row_start.get()) > MAX_ROW_BYTES {
            let what = format!("a row is longer than {MAX_ROW_BYTES} bytes; is a quotation mark missing?");
            return Err(io::Error::other(what));
        }
        let mut n_read = self.file.read(bytes)?;
        if n_read == 0 && self.last != b'\n' && !bytes.is_empty() {
            bytes[0] = b'\n';
            n_read = 1;
        }
        self.n_read += n_read as u64;
        self.last = bytes[..n_read].last().copied().unwrap_or(self.last);
        Ok(n_read)
    }
}
