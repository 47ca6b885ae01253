//! What the driver starts beside itself: rounds of dialling, and questions whether the pool is still there and the same. What
//! comes of them are events.

use std::time::{Duration, Instant};

use millgate_shared::proto::v1;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::super::carrier::Carrier;
use super::super::line::list;
use super::super::pools::Transport;
use super::{Driver, Event};

/// Rounds of handshakes with one address at a time: they begin 50 ms apart or more and yield after a second, so that there is
/// room for each that the session wants.
const MOST_ROUNDS: usize = 24;
/// A round that is older gives way to a new one; the oldest of all stays, for lines that are slow and not dead.
const ROUND_YIELDS: Duration = Duration::from_secs(1);
/// A sign of life that takes longer is none.
const PING_LIMIT: Duration = Duration::from_secs(2);

impl Driver {
    pub(super) fn dial(&mut self, address: usize) {
        let now = Instant::now();
        let rounds = &mut self.rounds[address];
        rounds.retain(|(_, round)| !round.is_finished());
        if rounds.len() >= MOST_ROUNDS {
            let old = |(started, _): &(Instant, AbortHandle)| {
                now.saturating_duration_since(*started) > ROUND_YIELDS
            };
            if !rounds.get(1).is_some_and(old) {
                return;
            }
            if let Some((_, round)) = rounds.remove(1) {
                round.abort();
            }
        }
        let round = self.round(address, None);
        self.rounds[address].push_back((now, round));
    }

    pub(super) fn round(&self, address: usize, only: Option<Transport>) -> AbortHandle {
        let (dialler, events) = (self.diallers[address].clone(), self.events.clone());
        let round = self.tasks.spawn(async move {
            let result = dialler.race(only).await.map(Box::new);
            let event = Event::Dialled { address, is_upgrade: only.is_some(), result };
            // The uplink may have gone.
            let _gone = events.send(event).await.is_err();
        });
        round.abort_handle()
    }

    pub(super) fn ping(&self, line: u64) {
        let Some(open) = self.lines.get(&line) else { return };
        let (mut client, events) = (open.carrier.experts(), self.events.clone());
        self.tasks.spawn(async move {
            let asked = timeout(PING_LIMIT, client.list_experts(v1::ListExpertsRequest::default())).await;
            // Also a refusal is a sign of life; a broken line says so by itself.
            if asked.is_ok_and(|answer| answer.is_ok()) {
                let _gone = events.send(Event::Heard { line }).await.is_err();
            }
        });
    }

    /// Is the pool still what it was, and does it still let the device in? A line that has answered is given up only for a
    /// plain no.
    pub(super) fn prove(&self, address: usize, line: u64, carrier: Carrier, has_answered: bool) {
        let (dialler, events) = (self.diallers[address].clone(), self.events.clone());
        self.tasks.spawn(async move {
            let event = match timeout(PING_LIMIT, list(&carrier, dialler.digest())).await {
                Ok(Ok(known)) => {
                    dialler.knows(Some(known));
                    Event::Heard { line }
                }
                Ok(Err(error)) if error.refusal.is_some() || !has_answered => Event::Lost { line, error },
                // Calls find out by themselves.
                Ok(Err(_)) | Err(_) => return,
            };
            let _gone = events.send(event).await.is_err();
        });
    }
}
