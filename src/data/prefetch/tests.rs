use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Images of one byte, which is their index.
fn plan(n: u32, batch_size: usize, fill: Arc<Fill>) -> Plan {
    let n_batches = (n as usize).div_ceil(batch_size);
    Plan { order: (0..n).collect(), batch_size, n_batches, image_bytes: 1, fill, stop: StopFlag::default() }
}

fn index_as_byte(index: u32, pixels: &mut [u8]) -> Result<(), ImageError> {
    pixels[0] = index as u8;
    Ok(())
}

fn all(mut prefetch: Prefetch) -> Vec<Result<Prepared, ImageError>> {
    std::iter::from_fn(|| prefetch.next()).collect()
}

#[test]
fn batches_come_in_order_from_any_number_of_threads() {
    for threads in [0, 1, 4, 9] {
        for (n, batch_size) in [(0, 4), (1, 4), (8, 4), (9, 4), (100, 1), (100, 7)] {
            let found = all(Prefetch::start(plan(n, batch_size, Arc::new(index_as_byte)), threads));
            let order: Vec<u32> = (0..n).collect();
            let expected = order.chunks(batch_size);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.into_iter().zip(expected) {
                let bytes = expected.iter().map(|index| *index as u8).collect();
                assert_eq!(found.unwrap(), (expected.to_vec(), bytes));
            }
        }
    }
}

#[test]
fn the_last_batch_takes_what_is_left() {
    let joined = Plan { n_batches: 2, ..plan(9, 4, Arc::new(index_as_byte)) };
    let found: Vec<Vec<u8>> = all(Prefetch::start(joined, 2)).into_iter().map(|batch| batch.unwrap().1).collect();
    assert_eq!(found, [vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8]]);
}

#[test]
fn no_more_is_prepared_than_a_few_batches_ahead() {
    let n_filled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_filled);
    let fill = move |_: u32, _: &mut [u8]| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let mut prefetch = Prefetch::start(plan(1000, 10, Arc::new(fill)), 3);
    for n_taken in 1..=5 {
        prefetch.next().unwrap().unwrap();
        let n = n_filled.load(Ordering::SeqCst);
        assert!((n_taken * 10..=(n_taken + BATCHES_AHEAD) * 10).contains(&n), "{n}");
    }
    drop(prefetch);
    assert!(n_filled.load(Ordering::SeqCst) <= (5 + BATCHES_AHEAD) * 10);
}

#[test]
fn dropping_it_early_joins_its_threads() {
    let fill: Arc<Fill> = Arc::new(index_as_byte);
    for n_taken in [0, 1, 3] {
        let mut prefetch = Prefetch::start(plan(10_000, 10, Arc::clone(&fill)), 4);
        for _ in 0..n_taken {
            prefetch.next().unwrap().unwrap();
        }
        drop(prefetch);
        // A thread that still ran would hold the plan.
        assert_eq!(Arc::strong_count(&fill), 1);
    }
}

#[test]
fn a_raised_flag_ends_it_while_the_reader_waits() {
    let stop = StopFlag::default();
    let raised = stop.clone();
    let fill = move |index: u32, _: &mut [u8]| {
        if index == 25 {
            raised.raise();
        }
        Ok(())
    };
    let mut prefetch = Prefetch::start(Plan { stop, ..plan(10_000, 10, Arc::new(fill)) }, 4);
    let found: Vec<_> = std::iter::from_fn(|| prefetch.next()).collect();
    assert!(found.len() <= 3 && found.iter().all(Result::is_ok), "{}", found.len());
    assert!(prefetch.next().is_none());
}

#[test]
fn a_panic_is_the_item_of_its_batch_and_the_last() {
    let fill = |index: u32, pixels: &mut [u8]| {
        assert!(index != 25, "image 25 is cursed");
        index_as_byte(index, pixels)
    };
    for threads in [1, 4] {
        let found = all(Prefetch::start(plan(100, 10, Arc::new(fill)), threads));
        assert_eq!(found.len(), 3);
        assert!(found[..2].iter().all(Result::is_ok));
        let error = found[2].as_ref().unwrap_err();
        assert!(matches!(error, ImageError::Panicked { index: 25, reason } if reason == "image 25 is cursed"));
    }
}

#[test]
fn of_two_errors_in_a_batch_the_first_in_order_is_told() {
    // Both images are in work before either fails.
    let both = Barrier::new(2);
    let fill = move |index: u32, _: &mut [u8]| {
        if index == 0 || index == 1 {
            both.wait();
            return Err(ImageError::Panicked { index, reason: String::new() });
        }
        Ok(())
    };
    let found = all(Prefetch::start(plan(10, 10, Arc::new(fill)), 2));
    assert!(matches!(found[..], [Err(ImageError::Panicked { index: 0, .. })]), "{found:?}");
}
