//! How long a model takes for so many rows: measured when it is loaded, tracked while it runs.

use std::time::Duration;

/// A row count is good enough when its time per row is within this of the best.
const NEARLY_BEST: f64 = 1.1;
/// How fast a point follows what is observed, and how fast the others follow it.
const OWN_RATE: f64 = 0.1;
const SHARED_RATE: f64 = 0.02;
/// One observation counts for no more than this, either way: a machine that hiccups is not a slow model.
const MOST_PER_OBSERVATION: f64 = 4.0;
/// Drift from what was measured is believed within these.
const LEAST_FACTOR: f64 = 0.25;
const MOST_FACTOR: f64 = 8.0;
/// An estimate that nothing can be in time for gives way by this much.
const RELAXED: f64 = 0.95;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    rows: usize,
    /// Seconds, as measured.
    measured: f64,
    /// What it has turned out to be, relative to that.
    factor: f64,
}

impl Point {
    fn time(&self) -> f64 {
        self.measured * self.factor
    }

    fn per_row(&self) -> f64 {
        self.time() / self.rows as f64
    }
}

/// Rows → time.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// By rows, ascending; never empty.
    points: Vec<Point>,
    knee: usize,
}

impl Curve {
    /// From measured times; row counts of 0 are ignored. Without any point a row is thought to take 1 ms.
    pub fn new(measured: impl IntoIterator<Item = (usize, Duration)>) -> Self {
        let mut points: Vec<Point> = measured
            .into_iter()
            .filter(|(rows, _)| *rows > 0)
            .map(|(rows, time)| Point { rows, measured: time.as_secs_f64().max(1e-9), factor: 1.0 })
            .collect();
        points.sort_by_key(|point| point.rows);
        points.dedup_by_key(|point| point.rows);
        if points.is_empty() {
            points.push(Point { rows: 1, measured: 1e-3, factor: 1.0 });
        }
        let mut curve = Self { points, knee: 1 };
        curve.knee = curve.find_knee();
        curve
    }

    /// Between points straight; beyond the last, at its time per row.
    pub fn expected(&self, rows: usize) -> Duration {
        Duration::from_secs_f64(self.seconds(rows.max(1)).min(1e6))
    }

    fn seconds(&self, rows: usize) -> f64 {
        let at = self.points.partition_point(|point| point.rows < rows);
        match (at.checked_sub(1).map(|below| self.points[below]), self.points.get(at)) {
            (_, Some(above)) if above.rows == rows => above.time(),
            (Some(below), Some(above)) => {
                let part = (rows - below.rows) as f64 / (above.rows - below.rows) as f64;
                below.time() + part * (above.time() - below.time())
            }
            (Some(last), None) => last.per_row() * rows as f64,
            (None, Some(first)) => first.per_row() * rows as f64,
            (None, None) => 1e-3,
        }
    }

    /// Times as they were measured, by rows.
    pub fn measured(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.points.iter().map(|point| (point.rows, Duration::from_secs_f64(point.measured.min(1e6))))
    }

    /// The fewest rows whose time per row is within a tenth of the best.
    pub fn knee(&self) -> usize {
        self.knee
    }

    /// What one more row costs in a good batch.
    pub fn marginal(&self) -> Duration {
        self.expected(self.knee) / self.knee.max(1) as u32
    }

    /// A batch took so long.
    pub fn observe(&mut self, rows: usize, took: Duration) {
        let expected = self.seconds(rows.max(1));
        let ratio = (took.as_secs_f64() / expected).clamp(1.0 / MOST_PER_OBSERVATION, MOST_PER_OBSERVATION);
        let nearest = self.points.iter().enumerate().min_by_key(|(_, point)| point.rows.abs_diff(rows));
        let nearest = nearest.map(|(at, _)| at);
        for (at, point) in self.points.iter_mut().enumerate() {
            let rate = if Some(at) == nearest { OWN_RATE } else { SHARED_RATE };
            let factor = point.factor * (1.0 + rate * (ratio - 1.0));
            point.factor = factor.clamp(LEAST_FACTOR, MOST_FACTOR);
        }
        self.knee = self.find_knee();
    }

    pub(super) fn relax(&mut self) {
        for point in &mut self.points {
            point.factor = (point.factor * RELAXED).max(LEAST_FACTOR);
        }
    }

    fn find_knee(&self) -> usize {
        let best = self.points.iter().map(Point::per_row).fold(f64::INFINITY, f64::min);
        let good = self.points.iter().find(|point| point.per_row() <= best * NEARLY_BEST);
        good.map_or(1, |point| point.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn it_finds_out_whether_batches_pay() {
        let dense = Curve::new([(1, us(284)), (8, us(706)), (32, us(3095))]);
        assert_eq!(dense.knee(), 8);
        let convolution = Curve::new([(1, us(845)), (8, us(6896)), (32, us(44_141))]);
        assert_eq!(convolution.knee(), 1);
        assert_eq!(dense.expected(1), us(284));
        assert_eq!(dense.expected(64).as_micros(), 6190);
        assert!(dense.expected(4) > us(284) && dense.expected(4) < us(706));
        assert_eq!(Curve::new([]).expected(1), us(1000));
    }

    #[test]
    fn it_follows_what_it_sees_but_not_one_outlier() {
        let mut curve = Curve::new([(1, us(100)), (8, us(400))]);
        curve.observe(1, us(1_000_000));
        assert!(curve.expected(1) <= us(131), "{:?}", curve.expected(1));
        for _ in 0..200 {
            curve.observe(1, us(200));
        }
        let now = curve.expected(1).as_micros();
        assert!((190..=210).contains(&now), "{now}");
        assert!(curve.expected(8) > us(400), "the others move along");
    }

    #[test]
    fn an_estimate_gives_way() {
        let mut curve = Curve::new([(1, us(100))]);
        for _ in 0..1000 {
            curve.observe(1, us(10_000));
        }
        assert_eq!(curve.expected(1), us(800));
        for _ in 0..100 {
            curve.relax();
        }
        assert_eq!(curve.expected(1), us(25));
    }
}
