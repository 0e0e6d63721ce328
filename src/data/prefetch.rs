//! Batches of pixels prepared ahead by threads, handed out in a fixed order.
//!
//! Knows indices and bytes; what an image is and how it changes is for the function that fills in its pixels.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::data::images::ImageError;
use crate::run::panic;
use crate::run::stop::StopFlag;

/// Batches that are prepared or being prepared beside the one in use.
const BATCHES_AHEAD: usize = 4;

/// Writes the pixels of the image with this index.
pub type Fill = dyn Fn(u32, &mut [u8]) -> Result<(), ImageError> + Send + Sync;

/// What is to be prepared.
pub struct Plan {
    /// Image indices; every `batch_size` of them make a batch.
    pub order: Vec<u32>,
    /// At least 1.
    pub batch_size: usize,
    /// The last batch has all that the others leave.
    pub n_batches: usize,
    pub image_bytes: usize,
    pub fill: Arc<Fill>,
    pub stop: StopFlag,
}

/// The threads at work on a plan; dropping it ends and joins them.
pub struct Prefetch {
    shared: Arc<Shared>,
    /// Empty once it has ended.
    workers: Vec<JoinHandle<()>>,
    spawn_error: Option<io::Error>,
}

/// One batch: its image indices and their pixels, one image after the other.
pub type Prepared = (Vec<u32>, Vec<u8>);

struct Shared {
    plan: Plan,
    state: Mutex<State>,
    /// There may be an image to prepare, or nothing left to do.
    work: Condvar,
    /// The first batch may be ready.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// Place in the order of the next image that no thread has taken.
    next: usize,
    /// Batches that were handed out.
    n_taken: usize,
    /// The batches that follow, begun or ready.
    window: VecDeque<Batch>,
    /// Nothing more is to be prepared.
    ended: bool,
}

#[derive(Default)]
struct Batch {
    images: Vec<Option<Result<Vec<u8>, ImageError>>>,
    n_missing: usize,
    /// All images together, or the error of the first one that has one.
    pixels: Option<Result<Vec<u8>, ImageError>>,
}

impl Prefetch {
    /// Starts threads, at least one.
    pub fn start(plan: Plan, threads: usize) -> Self {
        let shared = Arc::new(Shared { plan, state: Mutex::default(), work: Condvar::new(), ready: Condvar::new() });
        let mut prefetch = Self { shared, workers: Vec::new(), spawn_error: None };
        for i in 0..threads.max(1) {
            let shared = Arc::clone(&prefetch.shared);
            match std::thread::Builder::new().name(format!("xp-load-{i}")).spawn(move || shared.work()) {
                Ok(worker) => prefetch.workers.push(worker),
                Err(source) => {
                    prefetch.spawn_error = Some(source);
                    break;
                }
            }
        }
        prefetch
    }

    /// Waits for the next batch; `None` after the last one, after an error, and once the plan's flag is raised.
    pub fn next(&mut self) -> Option<Result<Prepared, ImageError>> {
        if let Some(source) = self.spawn_error.take() {
            self.end();
            return Some(Err(ImageError::Threads { source }));
        }
        if self.workers.is_empty() {
            return None;
        }
        let next = self.shared.next();
        if !matches!(next, Some(Ok(_))) {
            self.end();
        }
        next
    }

    fn end(&mut self) {
        self.shared.end();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing more to say: its image already holds the error.
            let _ = worker.join();
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Plan {
    fn batch(&self, batch: usize) -> Option<&[u32]> {
        let start = batch * self.batch_size;
        let end = if batch + 1 == self.n_batches { self.order.len() } else { start + self.batch_size };
        (batch < self.n_batches).then(|| &self.order[start..end])
    }

    /// The batch of a place in the order, and the place within it.
    fn batch_of(&self, place: usize) -> (usize, usize) {
        let batch = (place / self.batch_size).min(self.n_batches - 1);
        (batch, place - batch * self.batch_size)
    }
}

impl Shared {
    /// A state is whole between two statements, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Waits for the first batch in the window and hands it out.
    fn next(&self) -> Option<Result<Prepared, ImageError>> {
        let mut state = self.lock();
        let indices = self.plan.batch(state.n_taken)?.to_vec();
        loop {
            if self.plan.stop.is_raised() {
                return None;
            }
            if let Some(pixels) = state.window.front_mut().and_then(|batch| batch.pixels.take()) {
                state.window.pop_front();
                state.n_taken += 1;
                self.work.notify_all();
                return Some(pixels.map(|pixels| (indices, pixels)));
            }
            if state.ended {
                return Some(Err(ImageError::ThreadsLost));
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What every thread does.
    fn work(&self) {
        let _end = EndOnPanic(self);
        while let Some(place) = self.take() {
            if self.plan.stop.is_raised() {
                return self.end();
            }
            let image = self.prepare(self.plan.order[place]);
            self.put(place, image);
        }
    }

    /// Waits for an image that may be prepared now.
    fn take(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let place = state.next;
            if state.ended || place == self.plan.order.len() {
                return None;
            }
            let (batch, in_batch) = self.plan.batch_of(place);
            if batch < state.n_taken + BATCHES_AHEAD {
                state.next += 1;
                if in_batch == 0 {
                    let n_missing = self.plan.batch(batch).map_or(0, <[u32]>::len);
                    let images = (0..n_missing).map(|_| None).collect();
                    state.window.push_back(Batch { images, n_missing, pixels: None });
                }
                return Some(place);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn prepare(&self, index: u32) -> Result<Vec<u8>, ImageError> {
        let mut pixels = vec![0; self.plan.image_bytes];
        let filled = catch_unwind(AssertUnwindSafe(|| (self.plan.fill)(index, &mut pixels)));
        filled.unwrap_or_else(|payload| Err(ImageError::Panicked { index, reason: panic::text(&*payload) }))?;
        Ok(pixels)
    }

    /// Hands an image in; whoever brings the last one puts the batch together.
    fn put(&self, place: usize, image: Result<Vec<u8>, ImageError>) {
        let (batch, in_batch) = self.plan.batch_of(place);
        let mut state = self.lock();
        let slot = batch - state.n_taken;
        let open = &mut state.window[slot];
        open.images[in_batch] = Some(image);
        open.n_missing -= 1;
        if open.n_missing > 0 {
            return;
        }
        let images = std::mem::take(&mut open.images);
        drop(state);
        let pixels = together(images);
        let mut state = self.lock();
        let slot = batch - state.n_taken;
        state.window[slot].pixels = Some(pixels);
        drop(state);
        self.ready.notify_all();
    }
}

fn together(images: Vec<Option<Result<Vec<u8>, ImageError>>>) -> Result<Vec<u8>, ImageError> {
    let images = images.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
    Ok(images.concat())
}

/// Wakes the reader when a thread dies of something that was not foreseen.
struct EndOnPanic<'a>(&'a Shared);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

#[cfg(test)]
mod tests;
