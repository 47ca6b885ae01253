//! Numbers that say how a picture looks, whatever it shows: statistics by which one is told from known ones, and the measures
//! of the picture checks.
//!
//! All are of grey levels: colour by the luma of `docs/bundles.md`, of other channels the first.

use super::{Channels, Picture, resize};

/// Number of [`statistics`].
pub const STATISTICS: usize = 19;
/// Quantiles of the grey levels, by linear interpolation between the two nearest.
const QUANTILES: [f64; 7] = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98];
/// Side of the square that statistics are taken of, in pixels; it is halved three times.
const SIDE: u32 = 64;
const SCALES: usize = 4;
/// Longest side of the picture that measures are taken of, in pixels.
const LONGEST: u32 = 128;
/// Grey levels from which on a pixel is saturated, and up to which it is dark.
const SATURATED: u8 = 250;
const DARK: u8 = 5;

/// Measures of one picture; see `PictureBounds` of a bundle's manifest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Mean grey level, 0 to 255.
    pub brightness: f64,
    /// Standard deviation of the grey levels.
    pub contrast: f64,
    /// Share of pixels at grey level 250 or above.
    pub saturated: f64,
    /// Share of pixels at grey level 5 or below.
    pub dark: f64,
    /// Variance of the Laplacian over the variance of the grey levels; 0 where all grey levels are equal. Both are taken of the
    /// picture reduced to 128 pixels a side, where it is larger.
    pub sharpness: f64,
}

/// Grey levels of one channel, as numbers.
struct Plane {
    width: usize,
    levels: Vec<f64>,
}

/// Seven quantiles of the grey levels (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98), then at 64, 32, 16 and 8 pixels a side the mean
/// step to the right, the mean step downwards and the standard deviation; all over 255.
///
/// The picture is resized to 64 times 64 pixels as a model's input is; each halving takes the mean of two by two pixels. All
/// arithmetic is in double precision.
pub fn statistics(picture: &Picture) -> [f32; STATISTICS] {
    let grey = resize(&grey(picture), SIDE, SIDE);
    let sorted = ascending(grey.samples());
    let mut all = [0.0; STATISTICS];
    for (at, share) in all.iter_mut().zip(QUANTILES) {
        *at = (quantile(&sorted, share) / 255.0) as f32;
    }
    let levels = grey.samples().iter().map(|level| f64::from(*level)).collect();
    let mut plane = Plane { width: SIDE as usize, levels };
    for scale in 0..SCALES {
        if scale > 0 {
            plane = plane.halved();
        }
        let each = [plane.step_right(), plane.step_down(), plane.deviation()];
        let begin = QUANTILES.len() + scale * each.len();
        for (at, number) in all[begin..].iter_mut().zip(each) {
            *at = (number / 255.0) as f32;
        }
    }
    all
}

/// Measures of a picture.
pub fn measures(picture: &Picture) -> Measures {
    let (width, height) = (picture.width(), picture.height());
    let grey = resize(&grey(picture), width.min(LONGEST), height.min(LONGEST));
    let count = grey.samples().len().max(1) as f64;
    let share = |is: fn(u8) -> bool| grey.samples().iter().filter(|level| is(**level)).count() as f64 / count;
    let (saturated, dark) = (share(|level| level >= SATURATED), share(|level| level <= DARK));
    let levels = grey.samples().iter().map(|level| f64::from(*level)).collect();
    let plane = Plane { width: grey.width() as usize, levels };
    let (brightness, contrast) = (mean(&plane.levels), plane.deviation());
    let variance = contrast * contrast;
    let sharpness = if variance > 0.0 { plane.laplacian_variance() / variance } else { 0.0 };
    Measures { width, height, brightness, contrast, saturated, dark, sharpness }
}

fn grey(picture: &Picture) -> Picture {
    let first = || Picture::grey(picture.width(), picture.height(), picture.plane(0).collect()).ok();
    picture.to_channels(Channels::GREY).or_else(first).unwrap_or_else(|| picture.clone())
}

/// Grey levels in order: there are few of them, so that counting them is all the sorting it takes.
fn ascending(levels: &[u8]) -> Vec<u8> {
    let mut counts = [0_usize; 256];
    levels.iter().for_each(|level| counts[usize::from(*level)] += 1);
    (0..=u8::MAX).zip(counts).flat_map(|(level, count)| std::iter::repeat_n(level, count)).collect()
}

fn quantile(sorted: &[u8], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let level = |at: usize| sorted.get(at).map_or(0.0, |level| f64::from(*level));
    let below = level(place as usize);
    below + (level(place as usize + 1) - below) * place.fract()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

fn mean_step<'a>(pairs: impl Iterator<Item = (&'a f64, &'a f64)>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for (from, to) in pairs {
        sum += (to - from).abs();
        count += 1;
    }
    sum / f64::from(count.max(1))
}

impl Plane {
    fn halved(&self) -> Self {
        let (width, half) = (self.width, self.width / 2);
        let height = self.levels.len() / width;
        let mean = |at: usize| {
            let first = at / half * 2 * width + at % half * 2;
            let four = [first, first + 1, first + width, first + width + 1];
            four.iter().map(|at| self.levels[*at]).sum::<f64>() / 4.0
        };
        Self { width: half, levels: (0..half * (height / 2)).map(mean).collect() }
    }

    /// Mean absolute difference of a pixel and the one to its right.
    fn step_right(&self) -> f64 {
        let pairs = self.levels.chunks(self.width.max(1)).flat_map(|row| row.iter().zip(row.iter().skip(1)));
        mean_step(pairs)
    }

    /// Mean absolute difference of a pixel and the one below it.
    fn step_down(&self) -> f64 {
        mean_step(self.levels.iter().zip(self.levels.iter().skip(self.width)))
    }

    fn deviation(&self) -> f64 {
        let mean = mean(&self.levels);
        let squares: f64 = self.levels.iter().map(|level| (level - mean).powi(2)).sum();
        (squares / self.levels.len().max(1) as f64).sqrt()
    }

    /// Variance of the sum of the four neighbours less four times the pixel, over the pixels that have four.
    fn laplacian_variance(&self) -> f64 {
        let (width, height) = (self.width, self.levels.len() / self.width.max(1));
        let inner =
            (1..height.saturating_sub(1)).flat_map(|y| (1..width.saturating_sub(1)).map(move |x| (x, y)));
        let each = inner.map(|(x, y)| {
            let at = y * width + x;
            let around = [at - 1, at + 1, at - width, at + width];
            around.iter().map(|at| self.levels[*at]).sum::<f64>() - 4.0 * self.levels[at]
        });
        let inner = Self { width: 1, levels: each.collect() };
        inner.deviation().powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every texture at once, and the same in Python: `(x*x*7 + y*13 + x*y*3) % 256`.
    fn picture(width: u32, height: u32) -> Picture {
        let pixel = |i: u32| {
            let (x, y) = (i % width, i / width);
            ((x * x * 7 + y * 13 + x * y * 3) % 256) as u8
        };
        Picture::grey(width, height, (0..width * height).map(pixel).collect()).unwrap()
    }

    fn flat(level: u8) -> Picture {
        Picture::grey(70, 50, vec![level; 3500]).unwrap()
    }

    /// By numpy: `quantile(p, q)`, `abs(diff(p, axis=1)).mean()`, `abs(diff(p, axis=0)).mean()`, `p.std()`, halves by
    /// `p.reshape(n, 2, n, 2).mean((1, 3))`.
    #[test]
    fn statistics_are_those_of_numpy() {
        let expected = STATISTICS_OF_64;
        for (at, (got, expected)) in statistics(&picture(64, 64)).iter().zip(expected).enumerate() {
            assert!((got - expected).abs() < 1e-5, "{at}: {got}, numpy {expected}");
        }
    }

    #[rustfmt::skip]
    const STATISTICS_OF_64: [f32; STATISTICS] = [
        0.0196078, 0.0980392, 0.254902, 0.4980392, 0.7490196, 0.9058824, 0.9803922,
        0.3382917, 0.394281, 0.2893742, 0.1468849, 0.1555898, 0.1292703,
        0.0619608, 0.067451, 0.0568453, 0.0291317, 0.0338936, 0.0274849,
    ];

    #[test]
    fn counted_levels_are_in_order() {
        let levels = picture(64, 64).samples().to_vec();
        let mut sorted = levels.clone();
        sorted.sort_unstable();
        assert_eq!(ascending(&levels), sorted);
        assert!(ascending(&[]).is_empty());
    }

    #[test]
    fn one_level_has_nothing_but_its_level() {
        let all = statistics(&flat(51));
        assert!(all[..7].iter().all(|quantile| (quantile - 0.2).abs() < 1e-6));
        assert!(all[7..].iter().all(|number| *number == 0.0));
    }

    #[test]
    fn measures_say_what_is_seen() {
        let black = measures(&flat(0));
        assert_eq!((black.width, black.height, black.dark, black.saturated), (70, 50, 1.0, 0.0));
        assert_eq!((black.brightness, black.contrast, black.sharpness), (0.0, 0.0, 0.0));
        assert_eq!(measures(&flat(255)).saturated, 1.0);
        let board: Vec<u8> =
            (0..64 * 64).map(|at| if (at / 64 + at % 64) % 2 == 0 { 100 } else { 150 }).collect();
        let board = measures(&Picture::grey(64, 64, board).unwrap());
        assert_eq!((board.brightness, board.contrast), (125.0, 25.0));
        // Each pixel is 50 from all its neighbours: 200² over 25².
        assert!((board.sharpness - 64.0).abs() < 1e-9);
    }

    #[test]
    fn a_blurred_picture_is_less_sharp_and_size_hardly_matters() {
        let sharp = picture(128, 128);
        let blurred = resize(&resize(&sharp, 32, 32), 128, 128);
        assert!(measures(&blurred).sharpness < 0.2 * measures(&sharp).sharpness);
        let large = measures(&resize(&blurred, 1024, 1024));
        assert!((large.sharpness / measures(&blurred).sharpness - 1.0).abs() < 0.2);
    }

    #[test]
    fn colour_is_its_luma_and_the_smallest_picture_is_no_trouble() {
        let grey = picture(64, 64);
        let colour = grey.to_channels(Channels::RGB).unwrap();
        assert_eq!(statistics(&grey), statistics(&colour));
        let one = Picture::grey(1, 1, vec![7]).unwrap();
        assert!(statistics(&one).iter().all(|number| number.is_finite()));
        assert_eq!(measures(&one).sharpness, 0.0);
    }
}
