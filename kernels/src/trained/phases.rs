//! Which pixels windows are made of, and planes in which a step to the next window is a step of one.

/// Windows on a map.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    /// Height and width of the map.
    pub size: [usize; 2],
    /// From a window to the next, in pixels.
    pub step: usize,
    /// From a window's place to each of its pixels; pixels outside the map are 0.
    pub taps: Vec<[isize; 2]>,
    /// Rows and columns of windows.
    pub output: [usize; 2],
}

/// A padded plane: the pixels of each phase of the step lie together.
#[derive(Clone, Debug)]
pub(super) struct Phases {
    /// Values of a plane.
    pub len: usize,
    /// From a row of windows to the next.
    pub pitch: usize,
    /// From a window to each of its pixels.
    pub offsets: Vec<usize>,
    /// Rows of a phase that a row of windows reads besides its own.
    pub reach: usize,
    pub lines: Vec<Line>,
    /// The plane is the map as it is.
    pub in_place: bool,
}

/// Pixels of the map that follow each other in the plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub from: usize,
    /// From a pixel of the map to the next.
    pub step: usize,
    pub to: usize,
    pub len: usize,
    /// In its phase.
    pub row: usize,
}

impl Phases {
    pub fn new(grid: &Grid) -> Self {
        let Grid { size, step, output, .. } = *grid;
        let axis = |axis: usize| {
            let taps = || grid.taps.iter().map(|tap| tap[axis]);
            let first = taps().min().unwrap_or(0);
            let reach = (taps().max().unwrap_or(0) - first) as usize;
            (first, step.min(reach + 1), output[axis] + reach / step)
        };
        let ((first_y, n_y, height), (first_x, n_x, pitch)) = (axis(0), axis(1));
        let phase = |y: usize, x: usize| (y * n_x + x) * height * pitch;
        let offset = |tap: &[isize; 2]| {
            let [y, x] = [(tap[0] - first_y) as usize, (tap[1] - first_x) as usize];
            phase(y % step, x % step) + y / step * pitch + x / step
        };
        let mut lines = Vec::new();
        for (y, x) in (0..n_y).flat_map(|y| (0..n_x).map(move |x| (y, x))) {
            let (before, columns) = within(first_x + x as isize, step, pitch, size[1]);
            let (above, rows) = within(first_y + y as isize, step, height, size[0]);
            if columns == 0 {
                continue;
            }
            for row in above..above + rows {
                let from_y = (first_y + (row * step + y) as isize) as usize;
                let from_x = (first_x + (before * step + x) as isize) as usize;
                let to = phase(y, x) + row * pitch + before;
                lines.push(Line { from: from_y * size[1] + from_x, step, to, len: columns, row });
            }
        }
        let in_place = step == 1 && first_y == 0 && first_x == 0 && [height, pitch] == size;
        if in_place {
            lines = vec![Line { from: 0, step: 1, to: 0, len: size[0] * size[1], row: 0 }];
        }
        let offsets = grid.taps.iter().map(offset).collect();
        let reach = height - output[0];
        Self { len: n_y * n_x * height * pitch, pitch, offsets, reach, lines, in_place }
    }

    /// Whether rows of so many windows follow each other without a gap.
    pub fn is_flat(&self, columns: usize) -> bool {
        self.in_place && self.pitch == columns
    }
}

/// Of the pixels `first`, `first + step`, … those within the map: the first of `n`, and how many.
fn within(first: isize, step: usize, n: usize, size: usize) -> (usize, usize) {
    let before = (-first).max(0) as usize;
    let start = before.div_ceil(step).min(n);
    let end = (size as isize - first).max(0) as usize;
    (start, end.div_ceil(step).min(n).saturating_sub(start))
}
