use super::*;
use crate::data::images::ReadSettings;
use crate::data::sample::{self, IMAGE_BYTES, SETTINGS};

const SHUFFLED: LoaderSettings = LoaderSettings {
    batch_size: 4,
    order: Order::Shuffled,
    augmentation: Augmentation { horizontal_flip: true },
    seed: 7,
    threads: 4,
};

fn batches(loader: &Loader, epoch: u32) -> Vec<Batch> {
    loader.epoch(epoch, &StopFlag::default()).map(Result::unwrap).collect()
}

fn samples(batches: &[Batch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| batch.samples.clone()).collect()
}

#[test]
fn neither_threads_nor_the_cache_change_a_batch() {
    let (_root, folder) = sample::folder(30);
    let reference = Loader::new(Arc::new(sample::read(&folder, &SETTINGS)), LoaderSettings { threads: 1, ..SHUFFLED });
    for budget in [0, 11 * IMAGE_BYTES, u64::MAX] {
        let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: budget, ..SETTINGS }));
        for threads in [1, 4] {
            let loader = Loader::new(Arc::clone(&images), LoaderSettings { threads, ..SHUFFLED });
            assert_eq!(batches(&loader, 3), batches(&reference, 3));
        }
    }
    assert_ne!(batches(&reference, 3), batches(&reference, 4));
}

#[test]
fn every_image_comes_once_an_epoch_with_its_label_and_pixels() {
    let (_root, folder) = sample::folder(30);
    let images = Arc::new(sample::read(&folder, &SETTINGS));
    let settings = LoaderSettings { augmentation: Augmentation::default(), ..SHUFFLED };
    let loader = Loader::new(Arc::clone(&images), settings);
    assert_eq!((loader.len(), loader.n_batches()), (30, 8));
    let pixels = sample::pixels(&images);
    let found = batches(&loader, 1);
    assert_eq!(found.iter().map(|batch| batch.samples.len()).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 4, 4, 2]);
    for batch in &found {
        assert_eq!((batch.height, batch.width), (6, 8));
        for (i, sample) in batch.samples.iter().map(|sample| *sample as usize).enumerate() {
            assert_eq!(batch.labels[i], images.labels()[sample]);
            let n = images.image_bytes();
            assert_eq!(batch.pixels_nhwc[i * n..][..n], pixels[sample]);
        }
    }
    let mut once = samples(&found);
    assert_ne!(once, (0..30).collect::<Vec<_>>());
    once.sort_unstable();
    assert_eq!(once, (0..30).collect::<Vec<_>>());
}

#[test]
fn the_sequential_order_is_the_folders() {
    let (_root, folder) = sample::folder(10);
    let images = Arc::new(sample::read(&folder, &SETTINGS));
    let loader = Loader::new(images, LoaderSettings { order: Order::Sequential, ..SHUFFLED });
    for epoch in 1..3 {
        assert_eq!(samples(&batches(&loader, epoch)), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn dropping_batches_early_leaves_no_thread_with_the_images() {
    let (_root, folder) = sample::folder(30);
    let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: 0, ..SETTINGS }));
    let loader = Loader::new(Arc::clone(&images), LoaderSettings { batch_size: 1, ..SHUFFLED });
    let mut epoch = loader.epoch(1, &StopFlag::default());
    epoch.next().unwrap().unwrap();
    drop(epoch);
    drop(loader);
    assert_eq!(Arc::strong_count(&images), 1);
}

#[test]
fn a_raised_flag_ends_the_epoch() {
    let (_root, folder) = sample::folder(30);
    let loader = Loader::new(Arc::new(sample::read(&folder, &SETTINGS)), SHUFFLED);
    let stop = StopFlag::default();
    let mut epoch = loader.epoch(1, &stop);
    assert!(epoch.next().is_some());
    stop.raise();
    assert!(epoch.next().is_none());
    assert!(loader.epoch(2, &stop).next().is_none());
}

#[test]
fn a_changed_file_ends_the_epoch_with_its_error() {
    let (root, folder) = sample::folder(12);
    let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: 0, ..SETTINGS }));
    sample::write_image(&root.path().join(&folder.files[6].path), 99);
    let loader = Loader::new(images, LoaderSettings { order: Order::Sequential, ..SHUFFLED });
    let found: Vec<_> = loader.epoch(1, &StopFlag::default()).collect();
    assert_eq!(found.len(), 2);
    let error = found[1].as_ref().unwrap_err();
    assert!(matches!(error, ImageError::Changed { path } if path.ends_with(&folder.files[6].path)), "{error}");
}
