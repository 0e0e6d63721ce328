//! A part of a split that stands for all of it: so many images, each class in its proportion.

use crate::run::draw::{Address, Draws, Purpose};

/// Draws `n` images, fewer where there are not so many, each class as often as its share says; sorted by index.
///
/// Shares are rounded down, and what is left goes to the classes with the largest remainders, the first of equals first.
/// Within a class images are drawn from `seed`, so that the same ones come out every time.
pub fn stratified(labels: &[u32], n: usize, seed: u64) -> Vec<u32> {
    let n_classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); n_classes];
    for (image, label) in (0..).zip(labels) {
        by_class[*label as usize].push(image);
    }
    let sizes: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let mut chosen = Vec::new();
    for (label, (images, n_taken)) in (0..).zip(by_class.iter_mut().zip(shares(&sizes, n))) {
        let address = Address { seed, epoch: 0, sample: label, purpose: Purpose::ValidationSubset, name: "" };
        let mut draws = Draws::at(address);
        for i in 0..n_taken {
            let j = i + draws.below((images.len() - i) as u64) as usize;
            images.swap(i, j);
        }
        chosen.extend_from_slice(&images[..n_taken]);
    }
    chosen.sort_unstable();
    chosen
}

/// How many of each class, by largest remainder.
fn shares(sizes: &[usize], n: usize) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    let n = n.min(total);
    if total == 0 {
        return vec![0; sizes.len()];
    }
    let exact = |size: usize| size as u128 * n as u128;
    let mut shares: Vec<usize> = sizes.iter().map(|&size| (exact(size) / total as u128) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(exact(sizes[class]) % total as u128));
    let left = n - shares.iter().sum::<usize>();
    for &class in by_remainder.iter().take(left) {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_keeps_its_share() {
        let labels: Vec<u32> = [vec![0; 50], vec![1; 30], vec![2; 20]].concat();
        let chosen = stratified(&labels, 10, 0);
        let of = |class: u32| chosen.iter().filter(|&&image| labels[image as usize] == class).count();
        assert_eq!([of(0), of(1), of(2)], [5, 3, 2]);
        assert!(chosen.is_sorted() && chosen.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_is_left_goes_to_the_largest_remainders() {
        assert_eq!(shares(&[3, 3, 3], 4), [2, 1, 1]);
        assert_eq!(shares(&[7, 2, 1], 5), [4, 1, 0]);
        assert_eq!(shares(&[2, 1], 9), [2, 1]);
        assert_eq!(shares(&[], 3), [0; 0]);
    }

    #[test]
    fn the_seed_alone_decides() {
        let labels = [0, 1].repeat(100);
        assert_eq!(stratified(&labels, 20, 1), stratified(&labels, 20, 1));
        assert_ne!(stratified(&labels, 20, 1), stratified(&labels, 20, 2));
        assert_eq!(stratified(&labels, 1000, 1).len(), 200);
    }
}
