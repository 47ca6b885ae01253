//! Every transport to every pool, tried once by itself: what `millgate-edge check` shows.

use std::time::Duration;

use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;

use super::carrier::Carrier;
use super::counts::Counts;
use super::diallers;
use super::memory::Memory;
use super::pools::{PoolUrl, Pools, PoolsError, Transport};
use super::refusal::Refusal;

/// One transport to one pool.
#[derive(Debug)]
pub struct Tried {
    pub pool: PoolUrl,
    pub transport: Transport,
    /// A connection over which the pool has answered, what it holds, and how long that answer took.
    pub result: Result<(Carrier, v1::ListExpertsResponse, Duration), String>,
    /// Where there is none: why it will not come by itself.
    pub refusal: Option<Refusal>,
}

/// In the order of the configuration, the best transport first.
pub async fn try_each(pools: &Pools, limit: Duration, tasks: &Tasks) -> Result<Vec<Tried>, PoolsError> {
    let (diallers, _) = diallers(pools, None, limit, Memory::default(), &Counts::default(), tasks)?;
    let mut tried = Vec::new();
    for dialler in diallers {
        for transport in dialler.transports().to_vec() {
            let line = dialler.race(Some(transport)).await;
            let refusal = line.as_ref().err().and_then(|error| error.refusal);
            let result = line.map(|line| (line.carrier, line.known.listed, line.known.answered_in));
            let result = result.map_err(|error| error.text);
            tried.push(Tried { pool: dialler.pool().clone(), transport, result, refusal });
        }
    }
    Ok(tried)
}
