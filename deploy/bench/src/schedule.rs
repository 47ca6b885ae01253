//! When requests are due: a Poisson process whose rate may leap up for a while, again and again. Pure.

use std::time::Duration;

use crate::random::Random;

/// A higher rate for `length`, every `every`, from `first` on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    pub rate: f64,
    pub first: Duration,
    pub length: Duration,
    pub every: Duration,
}

/// Arrivals per second, for so long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub rate: f64,
    pub length: Duration,
    pub burst: Option<Burst>,
}

impl Plan {
    /// When the bursts begin; only those whose whole period lies within the plan.
    pub fn bursts(&self) -> Vec<Duration> {
        let Some(burst) = self.burst else { return Vec::new() };
        let start = |number: u32| burst.first + burst.every * number;
        (0..).map(start).take_while(|start| *start + burst.every <= self.length).collect()
    }

    /// Seconds from the start, ascending.
    pub fn times(&self, random: &mut Random) -> Vec<Duration> {
        let pieces = self.pieces();
        let mut times = Vec::new();
        // How much of the expected number of arrivals is still to pass before the next one.
        let mut left = random.exponential();
        for (start, end, rate) in pieces {
            let mut now = start;
            while now + left / rate < end {
                now += left / rate;
                times.push(Duration::from_secs_f64(now));
                left = random.exponential();
            }
            left -= (end - now) * rate;
        }
        times
    }

    /// (from, to, rate) in seconds, without gaps; none has a rate of 0.
    fn pieces(&self) -> Vec<(f64, f64, f64)> {
        let mut pieces = Vec::new();
        let mut now = 0.0;
        if let Some(burst) = self.burst {
            for start in self.bursts() {
                let (start, end) = (start.as_secs_f64(), (start + burst.length).as_secs_f64());
                pieces.extend([(now, start, self.rate), (start, end, burst.rate)]);
                now = end;
            }
        }
        pieces.push((now, self.length.as_secs_f64(), self.rate));
        pieces.retain(|(start, end, rate)| end > start && *rate > 0.0);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(times: &[Duration], from: f64, to: f64) -> usize {
        times.iter().filter(|time| (from..to).contains(&time.as_secs_f64())).count()
    }

    #[test]
    fn arrivals_come_at_the_rate_and_independent_of_each_other() {
        let plan = Plan { rate: 1000.0, length: Duration::from_secs(20), burst: None };
        let times = plan.times(&mut Random::new(3));
        assert!(times.is_sorted());
        assert!((19_400..20_600).contains(&times.len()), "{}", times.len());
        // In a Poisson process the counts of equal windows vary as much as their mean.
        let counts: Vec<f64> =
            (0..2000).map(|at| between(&times, at as f64 * 0.01, (at + 1) as f64 * 0.01) as f64).collect();
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        assert!((0.85..1.15).contains(&(variance / mean)), "{mean} {variance}");
        assert_eq!(times, plan.times(&mut Random::new(3)));
    }

    #[test]
    fn a_burst_raises_the_rate_for_its_length_only() {
        let burst = Burst {
            rate: 2000.0,
            first: Duration::from_secs(1),
            length: Duration::from_millis(200),
            every: Duration::from_secs(2),
        };
        let plan = Plan { rate: 500.0, length: Duration::from_secs(8), burst: Some(burst) };
        assert_eq!(plan.bursts(), [1, 3, 5].map(Duration::from_secs));
        let times = plan.times(&mut Random::new(5));
        assert!(times.is_sorted());
        for start in [1.0, 3.0, 5.0] {
            assert!((330..470).contains(&between(&times, start, start + 0.2)));
            assert!((60..140).contains(&between(&times, start + 0.2, start + 0.4)));
        }
        // The burst that would not be whole is left out.
        assert!((60..140).contains(&between(&times, 7.0, 7.2)));
    }
}
