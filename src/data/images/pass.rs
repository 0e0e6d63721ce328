//! The one pass over all files of a split that decides which are used.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::data::decode::decode;
use crate::data::folder::{Folder, ImageFile};
use crate::data::images::{
    BadImage, Fault, Images, MAX_LISTED_BAD_IMAGES, ReadError, ReadSettings, image_bytes, resized,
};
use crate::run::event::SkippedInput;
use crate::run::metric::Split;
use crate::run::stop::StopFlag;
use crate::spec::schema::data::OnBadImage;

/// Files between two looks at how much room is left. A constant, so that threads do not decide what is cached.
const CHUNK_FILES: usize = 512;

/// Largest file that is read; uncompressed, the most pixels that are allowed take less.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A file that is an image: the hash of its bytes, and its resized pixels if there was room for them.
struct Usable {
    hash: blake3::Hash,
    is_turned: bool,
    pixels: Option<Box<[u8]>>,
}

impl Images {
    /// Reads, hashes and decodes every file of a folder.
    ///
    /// Memory: the cache's budget, and for each thread one file and its image. `progress` is told how many files are
    /// done, from any thread. The result does not depend on `settings.threads`.
    ///
    /// Errors: all bad files together; with `on_bad_image: skip`, those that could not be read at all (which says
    /// nothing about the image) and classes that lost every image; `Stopped` once `stop` is raised.
    pub fn read(
        split: Split,
        folder: &Folder,
        settings: &ReadSettings,
        stop: &StopFlag,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self, ReadError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.max(1))
            .thread_name(|i| format!("xp-read-{i}"))
            .build()
            .map_err(|source| ReadError::Threads { source })?;
        let n_done = AtomicU64::new(0);
        let mut pass = Pass::new(split, folder, settings);
        for files in folder.files.chunks(CHUNK_FILES) {
            let room = pass.room();
            let look = |(i, file): (usize, &ImageFile)| {
                let found = (!stop.is_raised()).then(|| look_at(&folder.root.join(&file.path), settings, i < room));
                progress(n_done.fetch_add(1, Ordering::Relaxed) + 1);
                found
            };
            let found: Vec<_> = pool.install(|| files.par_iter().enumerate().map(look).collect());
            for (file, found) in files.iter().zip(found) {
                pass.add(file, found.ok_or(ReadError::Stopped { split })?);
            }
        }
        pass.finish()
    }
}

/// What the pass has found so far.
struct Pass {
    images: Images,
    n_cached: usize,
    bad: Vec<BadImage>,
    n_bad: u64,
    n_files: u64,
}

impl Pass {
    fn new(split: Split, folder: &Folder, settings: &ReadSettings) -> Self {
        let n_files = folder.files.len();
        let images = Images {
            split,
            root: folder.root.clone(),
            classes: folder.classes.clone(),
            settings: *settings,
            paths: Vec::with_capacity(n_files),
            labels: Vec::with_capacity(n_files),
            hashes: Vec::with_capacity(n_files),
            cached: Vec::with_capacity(n_files),
            skipped: Vec::new(),
            n_turned: 0,
            turned_example: None,
        };
        Self { images, n_cached: 0, bad: Vec::new(), n_bad: 0, n_files: n_files as u64 }
    }

    /// Images that the cache still has room for.
    fn room(&self) -> usize {
        let settings = &self.images.settings;
        let capacity = settings.cache_budget_bytes / (image_bytes(settings) as u64).max(1);
        usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(self.n_cached)
    }

    fn add(&mut self, file: &ImageFile, found: Result<Usable, Fault>) {
        let path = file.path.clone();
        match (found, self.images.settings.on_bad_image) {
            (Ok(usable), _) => {
                if usable.is_turned {
                    self.images.n_turned += 1;
                    self.images.turned_example.get_or_insert_with(|| path.clone());
                }
                self.images.paths.push(path);
                self.images.labels.push(file.label);
                self.images.hashes.push(usable.hash);
                self.n_cached += usize::from(usable.pixels.is_some());
                self.images.cached.push(usable.pixels);
            }
            (Err(fault @ Fault::Undecodable(_)), OnBadImage::Skip) => {
                self.images.skipped.push(SkippedInput { split: self.images.split, path, reason: fault.to_string() });
            }
            (Err(fault), _) => {
                self.n_bad += 1;
                if self.bad.len() < MAX_LISTED_BAD_IMAGES {
                    self.bad.push(BadImage { path, fault });
                }
            }
        }
    }

    fn finish(self) -> Result<Images, ReadError> {
        let Self { images, bad, n_bad, n_files, .. } = self;
        let (split, root) = (images.split, &images.root);
        if n_bad > 0 {
            return Err(ReadError::BadImages { split, root: root.clone(), n_images: n_files, n_bad, bad });
        }
        let lost = classes_without_images(&images);
        if !lost.is_empty() {
            return Err(ReadError::ClassesLost { split, root: root.clone(), classes: lost, skipped: images.skipped });
        }
        Ok(images)
    }
}

fn classes_without_images(images: &Images) -> Vec<String> {
    let mut is_lost = vec![true; images.classes.len()];
    for label in &images.labels {
        is_lost[*label as usize] = false;
    }
    images.classes.iter().zip(is_lost).filter(|(_, is_lost)| *is_lost).map(|(class, _)| class.clone()).collect()
}

fn look_at(path: &Path, settings: &ReadSettings, keep: bool) -> Result<Usable, Fault> {
    let bytes = file_bytes(path)?;
    let hash = blake3::hash(&bytes);
    let decoded = decode(&bytes)?;
    drop(bytes);
    let is_turned = decoded.is_turned();
    let pixels = keep.then(|| resized(decoded, settings).pixels_hwc.into_boxed_slice());
    Ok(Usable { hash, is_turned, pixels })
}

/// All bytes of a file of reasonable size.
pub(super) fn file_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    // Opening a pipe waits for who writes into it.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_FILE_BYTES) as usize);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
