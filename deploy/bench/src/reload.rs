//! Unloads and loads a model over and over: what does the server keep of it each time?

use std::time::{Duration, Instant};

use millgate_shared::proto::inference::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest};
use serde::Serialize;

use crate::LoadError;
use crate::memory::resident_mib;
use crate::target::{self, Client, failed};

/// Points at which memory is read, besides the start.
const POINTS: usize = 50;
/// After this part of the rounds allocators have what they want, and what is added later is drift.
const SETTLED: f64 = 0.1;

/// Resident memory over the rounds, in MiB.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    pub model: String,
    pub rounds: usize,
    pub seconds: f64,
    /// (rounds done, MiB), the first before any.
    pub memory_mib: Vec<(usize, f64)>,
    pub start_mib: f64,
    /// After the first tenth of the rounds.
    pub settled_mib: f64,
    pub end_mib: f64,
    /// From there to the end; a share.
    pub drift: f64,
}

/// `process` is the server's. Fewer rounds are made if they take longer than `most`.
pub async fn run(
    url: &str,
    model: &str,
    rounds: usize,
    most: Duration,
    process: u32,
) -> Result<Drift, LoadError> {
    let mut client = target::connect(url).await?;
    let mut memory_mib = vec![(0, resident_mib(process)?)];
    let started = Instant::now();
    let step = rounds.div_ceil(POINTS).max(1);
    let mut done = 0;
    while done < rounds && started.elapsed() < most {
        once(&mut client, model).await?;
        done += 1;
        // Early ones are read each, so that there is something to compare with however few there will be.
        if done <= POINTS || done % step == 0 {
            memory_mib.push((done, resident_mib(process)?));
        }
    }
    if memory_mib.last().is_some_and(|(at, _)| *at < done) {
        memory_mib.push((done, resident_mib(process)?));
    }
    Ok(drift(model, memory_mib, started.elapsed()))
}

async fn once(client: &mut Client, model: &str) -> Result<(), LoadError> {
    let unload = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..Default::default() };
    let answer = client.repository_model_unload(unload).await;
    answer.map_err(failed(format!("RepositoryModelUnload of `{model}`")))?;
    let load = RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
    let answer = client.repository_model_load(load).await;
    answer.map_err(failed(format!("RepositoryModelLoad of `{model}`")))?;
    Ok(())
}

fn drift(model: &str, memory_mib: Vec<(usize, f64)>, took: Duration) -> Drift {
    let (rounds, end_mib) = memory_mib.last().copied().unwrap_or_default();
    let start_mib = memory_mib.first().map(|(_, mib)| *mib).unwrap_or_default();
    let settled = memory_mib.iter().find(|(at, _)| *at as f64 >= SETTLED * rounds as f64 && *at > 0);
    let settled_mib = settled.map_or(start_mib, |(_, mib)| *mib);
    let drift = if settled_mib > 0.0 { end_mib / settled_mib - 1.0 } else { 0.0 };
    let (model, seconds) = (model.to_owned(), took.as_secs_f64());
    Drift { model, rounds, seconds, memory_mib, start_mib, settled_mib, end_mib, drift }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_growth_since_a_tenth_of_the_rounds() {
        let seen =
            drift("m", vec![(0, 80.0), (1, 90.0), (100, 100.0), (500, 103.0), (1000, 104.0)], Duration::ZERO);
        assert_eq!((seen.rounds, seen.start_mib, seen.settled_mib, seen.end_mib), (1000, 80.0, 100.0, 104.0));
        assert!((seen.drift - 0.04).abs() < 1e-9);
        assert_eq!(drift("m", vec![(0, 80.0)], Duration::ZERO).drift, 0.0);
    }
}
