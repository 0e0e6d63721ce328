//! An archive of .npy files for NumPy: `<layer>/<variable>`, axes as Keras has them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;

use crate::data::npy::Header;
use crate::export::{ExportError, Trained};
use crate::weights::axes::{stored_shape, to_stored};
use crate::weights::format::Convention;

/// Writes every tensor as a member of its own, uncompressed as `numpy.savez` does.
pub fn write(trained: &Trained, path: &Path) -> Result<(), ExportError> {
    let mut archive = zip::ZipWriter::new(File::create(path)?);
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    for (address, values) in &trained.tensors {
        let shape: Vec<u64> = stored_shape(address, Convention::Keras).into_iter().map(|side| side as u64).collect();
        let values = to_stored(values.clone(), address, Convention::Keras);
        archive.start_file(format!("{}.npy", address.keras), options)?;
        archive.write_all(&Header::of("<f4", &shape).bytes())?;
        archive.write_all(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    archive.finish()?.sync_all()?;
    Ok(())
}
