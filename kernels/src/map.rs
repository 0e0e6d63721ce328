//! Feature maps of one image.

/// The extent of a map, and the zeros around each of its planes.
///
/// A plane has `border` rows of zeros above and below, and `border` columns of zeros after each row, which are also
/// those before the next; the first row has `border` zeros before it. So a pixel's neighbours up to `border` away lie at
/// fixed distances, at the edges too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub n_channels: usize,
    pub height: usize,
    pub width: usize,
    pub border: usize,
}

/// Values of the longest vector.
const MAX_LANES: usize = 16;

/// Values that a tile may read or write behind the last plane.
pub const SLACK: usize = 128;

impl Extent {
    /// From a pixel to the one below it.
    pub fn pitch(&self) -> usize {
        self.width + self.border
    }

    /// From a channel to the next. A vector that begins at a plane's last pixel ends before the next plane.
    pub fn plane(&self) -> usize {
        (self.height + 2 * self.border) * self.pitch() + self.border + MAX_LANES
    }

    /// The first pixel of a plane.
    pub fn origin(&self) -> usize {
        self.border * self.pitch() + self.border
    }

    /// Pixels from the first to the last one of a plane, with what stands between rows.
    pub fn n_flat(&self) -> usize {
        (self.height * self.pitch()).saturating_sub(self.border)
    }

    /// Values of all planes and the slack behind them.
    pub fn len(&self) -> usize {
        self.n_channels * self.plane() + SLACK
    }

    pub fn is_empty(&self) -> bool {
        self.n_channels * self.height * self.width == 0
    }
}

/// One image's map.
#[derive(Clone, Debug)]
pub struct Map {
    pub extent: Extent,
    pub values: Vec<f32>,
}

impl Map {
    /// A map whose values are to be written; zeros are written around them by [`Map::clear_border`].
    pub fn new(extent: Extent, mut values: Vec<f32>) -> Self {
        values.resize(extent.len(), 0.0);
        Self { extent, values }
    }

    /// A map from planes without anything around them.
    pub fn from_planes(planes: &[f32], extent: Extent, values: Vec<f32>) -> Self {
        let mut map = Self::new(extent, values);
        for (channel, plane) in planes.chunks_exact((extent.height * extent.width).max(1)).enumerate() {
            for (y, row) in plane.chunks_exact(extent.width).enumerate() {
                map.row_mut(channel, y).copy_from_slice(row);
            }
        }
        map.clear_border();
        map
    }

    /// The planes without anything around them: `[channels, height, width]`.
    pub fn write_planes(&self, planes: &mut [f32]) {
        let Extent { height, width, .. } = self.extent;
        for (channel, plane) in planes.chunks_exact_mut((height * width).max(1)).enumerate() {
            for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                row.copy_from_slice(self.row(channel, y));
            }
        }
    }

    pub fn row(&self, channel: usize, y: usize) -> &[f32] {
        let start = channel * self.extent.plane() + self.extent.origin() + y * self.extent.pitch();
        &self.values[start..start + self.extent.width]
    }

    pub fn row_mut(&mut self, channel: usize, y: usize) -> &mut [f32] {
        let start = channel * self.extent.plane() + self.extent.origin() + y * self.extent.pitch();
        &mut self.values[start..start + self.extent.width]
    }

    /// Writes zeros around every plane.
    pub fn clear_border(&mut self) {
        let Extent { height, width, border, .. } = self.extent;
        if border == 0 {
            return;
        }
        let (pitch, origin) = (self.extent.pitch(), self.extent.origin());
        for plane in self.values.chunks_exact_mut(self.extent.plane()) {
            plane[..origin].fill(0.0);
            for y in 0..height {
                plane[origin + y * pitch + width..origin + (y + 1) * pitch].fill(0.0);
            }
            plane[origin + height * pitch..].fill(0.0);
        }
    }
}
