//! One axis of an image that is read between its pixels and beyond its ends.
//!
//! Follows `scipy.ndimage` of SciPy 1.17: a position is first folded into the image and then rounded, which decides what
//! lies halfway, and `wrap` has one pixel less than the image as its period.

use crate::spec::schema::augment::Fill;

/// The rows or the columns of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    len: usize,
    /// The last pixel's position.
    last: f64,
    fill: Fill,
}

impl Axis {
    /// `len` is at least 1.
    pub(super) fn new(len: usize, fill: Fill) -> Self {
        Self { len, last: (len - 1) as f64, fill }
    }

    /// The pixel nearest to a position, the later of two; `None` where the fill's level stands.
    #[inline]
    pub(super) fn nearest(&self, at: f64) -> Option<usize> {
        if at >= 0.0 && at <= self.last {
            // By way of u32, which a processor converts to at once.
            return Some((at + 0.5) as u32 as usize);
        }
        self.folded(at).map(|at| self.reflected((at + 0.5).floor() as i64))
    }

    /// The pixels before and after a position, and how far it is from the first to the second, below 1.
    #[inline]
    pub(super) fn between(&self, at: f64) -> Option<(usize, usize, f64)> {
        if at >= 0.0 && at < self.last {
            let before = at as u32 as usize;
            return Some((before, before + 1, at - before as f64));
        }
        let at = self.folded(at)?;
        let before = at.floor();
        Some((self.reflected(before as i64), self.reflected(before as i64 + 1), at - before))
    }

    /// The position in the image, up to one pixel beyond its ends, that stands for a position anywhere.
    fn folded(&self, at: f64) -> Option<f64> {
        let len = self.len as f64;
        // As often as a period fits; SciPy's conversion to an integer, too, cuts off towards zero.
        let times = |by: f64, period: f64| (by / period).trunc();
        let is_before = at < 0.0;
        if !is_before && at <= self.last {
            return Some(at);
        }
        match self.fill {
            Fill::Constant => None,
            Fill::Nearest => Some(if is_before { 0.0 } else { self.last }),
            Fill::Reflect if is_before => {
                let period = 2.0 * len;
                let at = if at < -period { at + period * times(-at, period) } else { at };
                Some(if at < -len { at + period } else { -at - 1.0 })
            }
            Fill::Reflect => {
                let period = 2.0 * len;
                let at = at - period * times(at, period);
                Some(if at >= len { period - at - 1.0 } else { at })
            }
            Fill::Wrap if self.len == 1 => Some(0.0),
            Fill::Wrap if is_before => Some(at + self.last * (times(-at, self.last) + 1.0)),
            Fill::Wrap => Some(at - self.last * times(at, self.last)),
        }
    }

    /// The pixel that stands for one just outside, which only reflection leaves there with any weight.
    fn reflected(&self, index: i64) -> usize {
        let period = 2 * self.len as i64;
        let index = index.rem_euclid(period);
        index.min(period - 1 - index) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &[u8] = b"abcd";

    /// The pixels at whole positions from -6 to 9.
    fn seen(fill: Fill) -> String {
        let axis = Axis::new(LETTERS.len(), fill);
        let letter = |at: i32| {
            let (before, _, part) = axis.between(f64::from(at)).unwrap_or((usize::MAX, 0, 0.0));
            assert_eq!(part, 0.0);
            assert_eq!(axis.nearest(f64::from(at)).unwrap_or(usize::MAX), before, "{fill:?} {at}");
            LETTERS.get(before).map_or('k', |byte| char::from(*byte))
        };
        (-6..10).map(letter).collect()
    }

    #[test]
    fn beyond_the_image_stands_what_the_fill_says() {
        assert_eq!(seen(Fill::Nearest), "aaaaaaabcddddddd");
        assert_eq!(seen(Fill::Constant), "kkkkkkabcdkkkkkk");
        assert_eq!(seen(Fill::Reflect), "cddcbaabcddcbaab");
        // The last pixel and the first of the next image stand at the same place.
        assert_eq!(seen(Fill::Wrap), "dbcdbcabcdbcabca");
    }

    #[test]
    fn one_pixel_is_everywhere() {
        for fill in [Fill::Nearest, Fill::Reflect, Fill::Wrap] {
            let axis = Axis::new(1, fill);
            for at in [-7.3, -0.5, 0.0, 0.5, 12.0] {
                assert_eq!(axis.nearest(at), Some(0), "{fill:?} {at}");
                let (before, after, _) = axis.between(at).unwrap();
                assert_eq!((before, after), (0, 0), "{fill:?} {at}");
            }
        }
    }

    #[test]
    fn halfway_the_later_pixel_is_nearest() {
        let axis = Axis::new(4, Fill::Nearest);
        assert_eq!([0.49, 0.5, 2.5, 3.0].map(|at| axis.nearest(at)), [Some(0), Some(1), Some(3), Some(3)]);
    }
}
