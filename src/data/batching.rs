//! How a split is cut into batches, pass after pass, and which of them make an epoch.
//!
//! A pass goes over all images once, in an order of its own. Epochs of a set number of steps go on where the one before
//! ended, so an epoch may begin in the middle of a pass and end in the middle of another.

use std::ops::Range;
use std::sync::Arc;

use crate::run::draw::permutation;

/// The order of the images in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another one every pass, drawn from this seed.
    Shuffled { seed: u64 },
    /// By index.
    Sequential,
    /// These images alone, in this order.
    Members(Arc<[u32]>),
}

/// What happens to a last batch of a single image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSingle {
    Stays,
    /// It joins the batch before it: the statistics of a single image are no statistics.
    Joins,
}

/// The batches of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Images of the split.
    pub n_images: u32,
    /// Images a batch, at least 1; the last batch of a pass may be smaller.
    pub batch_size: u32,
    pub order: Order,
    pub last_single: LastSingle,
    /// Batches an epoch; `None` for one pass.
    pub steps_per_epoch: Option<u32>,
}

/// Batches that follow one another in one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// 1-based.
    pub pass: u32,
    /// Numbers of the batches within the pass, from 0.
    pub batches: Range<u64>,
}

impl Batching {
    /// Images in a pass.
    pub fn n_members(&self) -> u32 {
        match &self.order {
            Order::Members(members) => u32::try_from(members.len()).expect("a subset is no larger than its split"),
            Order::Shuffled { .. } | Order::Sequential => self.n_images,
        }
    }

    pub fn batches_per_pass(&self) -> u64 {
        let (n, size) = (self.n_members(), self.batch_size.max(1));
        let joins = self.last_single == LastSingle::Joins && size > 1 && n > size && n % size == 1;
        u64::from(n.div_ceil(size)) - u64::from(joins)
    }

    pub fn batches_per_epoch(&self) -> u64 {
        self.steps_per_epoch.map_or_else(|| self.batches_per_pass(), u64::from)
    }

    /// Images of a batch of a pass.
    pub fn batch_len(&self, batch: u64) -> u32 {
        let range = self.places(&(batch..batch + 1));
        u32::try_from(range.len()).expect("a batch is no larger than its split")
    }

    /// Images of an epoch, which counts from 1.
    pub fn images_per_epoch(&self, epoch: u32) -> u64 {
        self.sections(epoch).map(|section| self.places(&section.batches).len() as u64).sum()
    }

    /// The stretches of passes that an epoch is made of.
    pub fn sections(&self, epoch: u32) -> impl Iterator<Item = Section> + use<> {
        let (per_pass, per_epoch) = (self.batches_per_pass(), self.batches_per_epoch());
        let mut next = u64::from(epoch.max(1) - 1) * per_epoch;
        let end = if per_pass == 0 { next } else { next + per_epoch };
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let (pass, first) = (next / per_pass, next % per_pass);
                let n = (per_pass - first).min(end - next);
                next += n;
                Section { pass: u32::try_from(pass + 1).unwrap_or(u32::MAX), batches: first..first + n }
            })
        })
    }

    /// The images of a section, in order.
    pub fn images(&self, section: &Section) -> Vec<u32> {
        let places = self.places(&section.batches);
        match &self.order {
            Order::Shuffled { seed } => permutation(*seed, section.pass, self.n_images)[places].to_vec(),
            Order::Sequential => (places.start as u32..places.end as u32).collect(),
            Order::Members(members) => members[places].to_vec(),
        }
    }

    /// The images of each batch of a section.
    pub fn batches(&self, section: &Section) -> Vec<Vec<u32>> {
        let images = self.images(section);
        let start = self.places(&section.batches).start;
        let of = |batch: u64| {
            let places = self.places(&(batch..batch + 1));
            images[places.start - start..places.end - start].to_vec()
        };
        section.batches.clone().map(of).collect()
    }

    /// Where batches begin and end in the order of their pass; the last one takes all that is left.
    fn places(&self, batches: &Range<u64>) -> Range<usize> {
        let place = |batch: u64| match batch {
            batch if batch >= self.batches_per_pass() => self.n_members() as usize,
            batch => batch as usize * self.batch_size.max(1) as usize,
        };
        place(batches.start)..place(batches.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCHING: Batching = Batching {
        n_images: 10,
        batch_size: 4,
        order: Order::Sequential,
        last_single: LastSingle::Stays,
        steps_per_epoch: None,
    };

    fn epoch(batching: &Batching, epoch: u32) -> Vec<(u32, Vec<u32>)> {
        let of = |section: Section| batching.batches(&section).into_iter().map(move |batch| (section.pass, batch));
        batching.sections(epoch).flat_map(of).collect()
    }

    #[test]
    fn an_epoch_is_a_pass_and_its_last_batch_keeps_its_size() {
        let expected = vec![(3, vec![0, 1, 2, 3]), (3, vec![4, 5, 6, 7]), (3, vec![8, 9])];
        assert_eq!(epoch(&BATCHING, 3), expected);
        assert_eq!(BATCHING.images_per_epoch(3), 10);
    }

    #[test]
    fn set_steps_go_on_through_successive_passes() {
        let seed = 5;
        let steps = Batching { order: Order::Shuffled { seed }, steps_per_epoch: Some(2), ..BATCHING.clone() };
        let found: Vec<(u32, Vec<u32>)> = (1..=3).flat_map(|number| epoch(&steps, number)).collect();
        assert_eq!(found.iter().map(|(pass, _)| *pass).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
        assert_eq!(found.iter().map(|(_, batch)| batch.len()).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2]);
        let images = |half: &[(u32, Vec<u32>)]| half.iter().flat_map(|(_, batch)| batch.clone()).collect::<Vec<_>>();
        assert_eq!(images(&found[..3]), permutation(seed, 1, 10));
        assert_eq!(images(&found[3..]), permutation(seed, 2, 10));
        assert_eq!((1..=3).map(|number| steps.images_per_epoch(number)).collect::<Vec<_>>(), [8, 6, 6]);
    }

    #[test]
    fn an_epoch_may_hold_several_passes() {
        let steps = Batching { n_images: 3, steps_per_epoch: Some(5), batch_size: 2, ..BATCHING };
        let passes: Vec<u32> = epoch(&steps, 2).into_iter().map(|(pass, _)| pass).collect();
        assert_eq!(passes, [3, 4, 4, 5, 5]);
    }

    #[test]
    fn a_last_batch_of_one_joins_where_it_must() {
        let lens = |n_images: u32, batch_size: u32| {
            let batching = Batching { n_images, batch_size, last_single: LastSingle::Joins, ..BATCHING };
            let lens: Vec<usize> = epoch(&batching, 1).iter().map(|(_, batch)| batch.len()).collect();
            assert_eq!(lens.iter().sum::<usize>(), n_images as usize);
            let told = (0..batching.batches_per_pass()).map(|batch| batching.batch_len(batch) as usize);
            assert_eq!(told.collect::<Vec<_>>(), lens);
            lens
        };
        assert_eq!(lens(9, 4), [4, 5]);
        assert_eq!(lens(10, 4), [4, 4, 2]);
        // Nothing to join, or nothing but single images.
        assert_eq!(lens(1, 4), [1]);
        assert_eq!(lens(3, 1), [1, 1, 1]);
    }

    #[test]
    fn members_alone_are_batched() {
        let members = Batching { order: Order::Members(Arc::from([7, 2, 9])), batch_size: 2, ..BATCHING };
        assert_eq!(epoch(&members, 4), [(4, vec![7, 2]), (4, vec![9])]);
        assert_eq!(members.n_members(), 3);
    }

    #[test]
    fn nothing_makes_no_batches() {
        let none = Batching { n_images: 0, steps_per_epoch: Some(3), ..BATCHING };
        assert_eq!(epoch(&none, 1), []);
    }
}
