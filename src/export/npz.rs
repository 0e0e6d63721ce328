//! An archive of .npy files for NumPy: `<layer>/<variable>`, axes as Keras has them.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;

use crate::data::npy::Header;
use crate::export::{ExportError, Trained};
use crate::models::parameters::{Parameters, ParametersError, TensorAddress};
use crate::weights::axes::{from_stored, stored_shape, to_stored};
use crate::weights::format::Convention;

/// The type of every array.
const F32: &str = "<f4";

/// Writes every tensor as a member of its own, uncompressed as `numpy.savez` does.
pub fn write(trained: &Trained, path: &Path) -> Result<(), ExportError> {
    let mut archive = zip::ZipWriter::new(File::create(path)?);
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    for (address, values) in &trained.tensors {
        let shape: Vec<u64> = stored_shape(address, Convention::Keras).into_iter().map(|side| side as u64).collect();
        let values = to_stored(values.clone(), address, Convention::Keras);
        archive.start_file(format!("{}.npy", address.keras), options)?;
        archive.write_all(&Header::of(F32, &shape).bytes())?;
        archive.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    archive.finish()?.sync_all()?;
    Ok(())
}

/// An archive that is read back, asked for tensors by what a network calls them.
pub struct Arrays {
    archive: RefCell<zip::ZipArchive<File>>,
}

impl Arrays {
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        Ok(Self { archive: RefCell::new(zip::ZipArchive::new(File::open(path)?)?) })
    }
}

impl fmt::Debug for Arrays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrays").field("n_arrays", &self.archive.borrow().len()).finish()
    }
}

impl Parameters for Arrays {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let name = &address.keras;
        let unreadable = |error: &dyn fmt::Display| ParametersError::Unreadable(format!("{name}: {error}"));
        let mut archive = self.archive.borrow_mut();
        let mut member = archive.by_name(&format!("{name}.npy")).map_err(|error| match error {
            zip::result::ZipError::FileNotFound => ParametersError::Missing { name: name.clone() },
            error => unreadable(&error),
        })?;
        let n_bytes = member.size();
        let header = Header::read(&mut member).map_err(|error| unreadable(&error))?;
        if header.descr != F32 {
            return Err(ParametersError::Type { name: name.clone(), dtype: header.descr });
        }
        header.check_length(size_of::<f32>() as u64, n_bytes).map_err(|error| unreadable(&error))?;
        let found: Vec<usize> = header.shape.iter().map(|side| *side as usize).collect();
        let expected = stored_shape(address, Convention::Keras);
        if found != expected || (header.fortran_order && found.len() > 1) {
            return Err(ParametersError::Shape { name: name.clone(), found, expected });
        }
        // The expected shape, and not what the archive says, decides what memory is taken.
        let mut bytes = vec![0; address.n_values() * size_of::<f32>()];
        member.read_exact(&mut bytes).map_err(|error| unreadable(&error))?;
        // Only the end of a member shows whether its checksum holds.
        let n_after = member.read(&mut [0]).map_err(|error| unreadable(&error))?;
        debug_assert_eq!(n_after, 0);
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok(from_stored(values, address, Convention::Keras))
    }

    fn hash(&self) -> String {
        // Nothing is trained from such a file.
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::operation::Names;
    use crate::models::parameters::{Axes, Role};

    fn address(name: &'static str, shape: &[usize]) -> TensorAddress {
        Names::torch(name).tensor(Role::Bias, Axes::Vector, shape.to_vec())
    }

    #[test]
    fn what_was_written_is_read_and_what_was_not_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let written = address("a", &[3]);
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        archive.start_file(format!("{}.npy", written.keras), options).unwrap();
        archive.write_all(&Header::of(F32, &[3]).bytes()).unwrap();
        archive.write_all(&[1.5_f32, -2.0, f32::NAN].map(f32::to_le_bytes).concat()).unwrap();
        archive.finish().unwrap();
        let read = Arrays::open(&path).unwrap();
        let values = read.values(&written).unwrap();
        assert_eq!(
            values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            [1.5, -2.0, f32::NAN].map(f32::to_bits)
        );
        assert!(matches!(read.values(&address("b", &[3])), Err(ParametersError::Missing { .. })));
        assert!(matches!(read.values(&address("a", &[4])), Err(ParametersError::Shape { .. })));
        // A bit of the values: the archive has a checksum of each member.
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(4).position(|four| four == 1.5_f32.to_le_bytes()).unwrap();
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let damaged = Arrays::open(&path).unwrap().values(&written);
        assert!(matches!(damaged, Err(ParametersError::Unreadable(_))), "{damaged:?}");
    }
}
