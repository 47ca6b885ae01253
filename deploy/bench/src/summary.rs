//! What a run comes to: counts, rates, percentiles. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use millgate_shared::wire::code_name;
use serde::Serialize;
use tonic::Code;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Ok,
    /// Answered, but not as the same request was when it was alone.
    Wrong,
    Failed(Code),
    /// Never sent: too many were in flight here, or it was sent so late that its deadline had gone.
    Unsent,
}

/// One request. Times are from the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub model: usize,
    pub is_poison: bool,
    /// When it should have been sent; latency counts from here, so that a client that falls behind hides nothing.
    pub due: Duration,
    pub sent: Duration,
    pub done: Duration,
    pub end: End,
}

impl Sample {
    pub fn latency(&self) -> Duration {
        self.done.saturating_sub(self.due)
    }

    /// A right answer within the deadline, if there is one.
    pub fn is_in_time(&self, deadline: Option<Duration>) -> bool {
        self.end == End::Ok && deadline.is_none_or(|deadline| self.latency() <= deadline)
    }
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// Counts of some of a run's requests. Rates are per second.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Counts {
    pub requests: usize,
    pub ok: usize,
    pub in_time: usize,
    pub wrong: usize,
    pub unsent: usize,
    /// Failed requests by gRPC code.
    pub errors: BTreeMap<&'static str, usize>,
    pub throughput: f64,
    /// Right answers within the deadline, per second.
    pub goodput: f64,
    /// Latency of right answers.
    pub latency_ms: Latency,
}

/// The whole run: all but `poison` is about good requests alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub all: Counts,
    pub by_model: BTreeMap<String, Counts>,
    pub poison: Counts,
    /// How late requests were sent, 99th percentile: large where the client is what is slow.
    pub lag_ms_p99: f64,
}

/// Nearest rank: the smallest value that `share` of all do not exceed. `sorted` is ascending; 0 if it is empty.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

fn sorted(values: impl Iterator<Item = Duration>) -> Vec<f64> {
    let mut values: Vec<f64> = values.map(|value| value.as_secs_f64() * 1e3).collect();
    values.sort_by(f64::total_cmp);
    values
}

impl Latency {
    pub fn of(latencies: impl Iterator<Item = Duration>) -> Self {
        let sorted = sorted(latencies);
        Self {
            mean: sorted.iter().fold(0.0, |sum, one| sum + one) / sorted.len().max(1) as f64,
            p50: percentile(&sorted, 0.5),
            p95: percentile(&sorted, 0.95),
            p99: percentile(&sorted, 0.99),
            max: sorted.last().copied().unwrap_or_default(),
        }
    }
}

impl Counts {
    /// Counts requests that belong to a window of `seconds`.
    pub fn of(samples: &[&Sample], seconds: f64, deadline: Option<Duration>) -> Self {
        let mut counts = Self { requests: samples.len(), ..Self::default() };
        for sample in samples {
            match sample.end {
                End::Ok => counts.ok += 1,
                End::Wrong => counts.wrong += 1,
                End::Unsent => counts.unsent += 1,
                End::Failed(code) => *counts.errors.entry(code_name(code)).or_default() += 1,
            }
            counts.in_time += usize::from(sample.is_in_time(deadline));
        }
        counts.throughput = counts.ok as f64 / seconds;
        counts.goodput = counts.in_time as f64 / seconds;
        let answered = samples.iter().filter(|sample| sample.end == End::Ok);
        counts.latency_ms = Latency::of(answered.map(|sample| sample.latency()));
        counts
    }

    pub fn failed(&self) -> usize {
        self.errors.values().sum()
    }
}

impl Summary {
    /// `samples` are those of the measured window, which is so many seconds long; `models` are named by their place.
    pub fn of(samples: &[Sample], models: &[String], seconds: f64, deadline: Option<Duration>) -> Self {
        let (poison, good): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|sample| sample.is_poison);
        let of_model = |(at, name): (usize, &String)| {
            let samples: Vec<&Sample> = good.iter().copied().filter(|sample| sample.model == at).collect();
            (name.clone(), Counts::of(&samples, seconds, deadline))
        };
        let lag = sorted(samples.iter().map(|sample| sample.sent.saturating_sub(sample.due)));
        Self {
            all: Counts::of(&good, seconds, deadline),
            by_model: models.iter().enumerate().map(of_model).collect(),
            poison: Counts::of(&poison, seconds, deadline),
            lag_ms_p99: percentile(&lag, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            [0.0, 0.5, 0.95, 0.99, 1.0].map(|share| percentile(&hundred, share)),
            [1., 50., 95., 99., 100.]
        );
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[1.0, 2.0], 0.5), 1.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due_and_good_ones_are_counted_apart_from_poison() {
        let ms = Duration::from_millis;
        let sample = |is_poison, sent: u64, done: u64, end| Sample {
            model: 0,
            is_poison,
            due: ms(100),
            sent: ms(sent),
            done: ms(done),
            end,
        };
        let samples = [
            sample(false, 100, 110, End::Ok),
            sample(false, 145, 155, End::Ok),
            sample(false, 100, 101, End::Wrong),
            sample(false, 100, 150, End::Failed(Code::DeadlineExceeded)),
            sample(false, 300, 300, End::Unsent),
            sample(true, 100, 102, End::Failed(Code::InvalidArgument)),
        ];
        let summary = Summary::of(&samples, &["m".to_owned()], 2.0, Some(ms(50)));
        let all = &summary.all;
        assert_eq!(
            (all.requests, all.ok, all.in_time, all.wrong, all.unsent, all.failed()),
            (5, 2, 1, 1, 1, 1)
        );
        assert_eq!((all.throughput, all.goodput), (1.0, 0.5));
        assert_eq!((all.latency_ms.p50, all.latency_ms.max), (10.0, 55.0));
        assert_eq!(summary.poison.errors, BTreeMap::from([("INVALID_ARGUMENT", 1)]));
        assert_eq!(summary.by_model["m"], *all);
        assert_eq!(summary.lag_ms_p99, 200.0);
        assert_eq!(Summary::of(&samples, &["m".to_owned()], 2.0, None).all.in_time, 2);
    }
}
