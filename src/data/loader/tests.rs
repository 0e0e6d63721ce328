use super::*;
use crate::data::batching::{LastSingle, Order};
use crate::data::images::ReadSettings;
use crate::data::sample::{self, IMAGE_BYTES, SETTINGS};

/// Batches of four, in an order of their own every pass.
fn shuffled(n_images: u32) -> LoaderSettings {
    let batching = Batching {
        n_images,
        batch_size: 4,
        order: Order::Shuffled { seed: 7 },
        last_single: LastSingle::Stays,
        steps_per_epoch: None,
    };
    let augment = Augment { rotation_degrees: 30.0, horizontal_flip: true, ..Augment::NONE };
    LoaderSettings { batching, augment, seed: 7, threads: 4 }
}

fn sequential(n_images: u32) -> LoaderSettings {
    let settings = shuffled(n_images);
    LoaderSettings { batching: Batching { order: Order::Sequential, ..settings.batching }, ..settings }
}

fn batches(loader: &Loader, epoch: u32) -> Vec<Batch> {
    loader.epoch(epoch, &StopFlag::default()).map(Result::unwrap).collect()
}

fn samples(batches: &[Batch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| batch.samples.clone()).collect()
}

#[test]
fn neither_threads_nor_the_cache_change_a_batch() {
    let (_root, folder) = sample::folder(30);
    let reference =
        Loader::new(Arc::new(sample::read(&folder, &SETTINGS)), LoaderSettings { threads: 1, ..shuffled(30) });
    for budget in [0, 11 * IMAGE_BYTES, u64::MAX] {
        let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: budget, ..SETTINGS }));
        for threads in [1, 4] {
            let loader = Loader::new(Arc::clone(&images), LoaderSettings { threads, ..shuffled(30) });
            assert_eq!(batches(&loader, 3), batches(&reference, 3));
        }
    }
    assert_ne!(batches(&reference, 3), batches(&reference, 4));
}

#[test]
fn every_image_comes_once_an_epoch_with_its_label_and_pixels() {
    let (_root, folder) = sample::folder(30);
    let images = Arc::new(sample::read(&folder, &SETTINGS));
    let settings = LoaderSettings { augment: Augment::NONE, ..shuffled(30) };
    let loader = Loader::new(Arc::clone(&images), settings);
    assert_eq!(loader.batching().batches_per_epoch(), 8);
    let pixels = sample::pixels(&images);
    let found = batches(&loader, 1);
    assert_eq!(found.iter().map(|batch| batch.samples.len()).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 4, 4, 2]);
    for batch in &found {
        assert_eq!(batch.shape, SampleShape::Pixels { height: 6, width: 8 });
        for (i, sample) in batch.samples.iter().map(|sample| *sample as usize).enumerate() {
            assert_eq!(batch.labels[i], images.labels()[sample]);
            let n = images.image_bytes();
            assert_eq!(batch.bytes_nhwc[i * n..][..n], pixels[sample]);
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
    let loader = Loader::new(images, sequential(10));
    for epoch in 1..3 {
        assert_eq!(samples(&batches(&loader, epoch)), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn an_epoch_of_set_steps_goes_on_where_the_last_one_ended() {
    let (_root, folder) = sample::folder(10);
    let images = Arc::new(sample::read(&folder, &SETTINGS));
    let whole = Loader::new(Arc::clone(&images), shuffled(10));
    let mut settings = shuffled(10);
    settings.batching.steps_per_epoch = Some(2);
    let steps = Loader::new(images, settings);
    let of = |loader: &Loader, epochs: u32| (1..=epochs).flat_map(|epoch| batches(loader, epoch)).collect::<Vec<_>>();
    assert_eq!(of(&steps, 3), of(&whole, 2));
    assert_eq!(of(&steps, 3).iter().map(|batch| batch.pass).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
}

#[test]
fn dropping_batches_early_leaves_no_thread_with_the_images() {
    let (_root, folder) = sample::folder(30);
    let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: 0, ..SETTINGS }));
    let loader = Loader::new(Arc::clone(&images), shuffled(30));
    let mut epoch = loader.epoch(1, &StopFlag::default());
    epoch.next().unwrap().unwrap();
    drop(epoch);
    drop(loader);
    assert_eq!(Arc::strong_count(&images), 1);
}

#[test]
fn a_raised_flag_ends_the_epoch() {
    let (_root, folder) = sample::folder(30);
    let loader = Loader::new(Arc::new(sample::read(&folder, &SETTINGS)), shuffled(30));
    let stop = StopFlag::default();
    let mut epoch = loader.epoch(1, &stop);
    assert!(epoch.next().is_some());
    stop.raise();
    assert!(epoch.next().is_none());
    assert!(loader.epoch(2, &stop).next().is_none());
}

#[test]
fn a_changed_file_ends_the_epoch_with_its_error() {
    let (_root, folder) = sample::folder(12);
    let images = Arc::new(sample::read(&folder, &ReadSettings { cache_budget_bytes: 0, ..SETTINGS }));
    sample::write_image(&folder.images[6].location.path(), 99);
    let loader = Loader::new(images, sequential(12));
    let found: Vec<_> = loader.epoch(1, &StopFlag::default()).collect();
    assert_eq!(found.len(), 2);
    let error = found[1].as_ref().unwrap_err();
    assert!(matches!(error, ImageError::Changed { path } if *path == folder.images[6].location.path()), "{error}");
}
