//! What the keeper tells of itself: metrics, and the answer to `millgate-edge queue`.

use super::*;

const SECOND: f64 = 1000.0;

impl<D: Disk> Keeper<D> {
    pub(super) fn measure(&mut self, now: Millis) {
        let counts = self.log.counts;
        let metrics = &self.metrics;
        metrics.entries.set(self.index.len() as i64);
        metrics.bytes.set(self.log.bytes() as i64);
        metrics.live_bytes.set(self.index.live_bytes() as i64);
        metrics.oldest_seconds.set(self.index.oldest().map_or(0.0, |born| (now - born) as f64 / SECOND));
        metrics.accepted_bytes.inc_by(counts.accepted_bytes - self.counted.accepted_bytes);
        metrics.written_bytes.inc_by(counts.written_bytes - self.counted.written_bytes);
        metrics.syncs.inc_by(counts.syncs - self.counted.syncs);
        metrics.damaged.inc_by(counts.damaged - self.counted.damaged);
        self.counted = counts;
    }

    pub(super) fn status(&mut self, now: Millis) -> Status {
        self.measure(now);
        let (quarantined, quarantined_bytes) = self.log.aside();
        let is = |state: State| self.index.iter().filter(|(_, known)| known.state == state).count();
        let bytes = self.log.bytes();
        let bytes_per_hour = self.rate.bytes_per_hour(now);
        let left = self.config.max_bytes.saturating_sub(bytes) as f64;
        let counts = self.log.counts;
        let bundles = self.index.bundles();
        Status {
            entries: self.index.len(),
            bundles: bundles.into_iter().map(|(digest, count)| (digest.to_string(), count)).collect(),
            asked: is(State::Asked),
            bytes,
            live_bytes: self.index.live_bytes(),
            max_bytes: self.config.max_bytes,
            oldest_seconds: self.index.oldest().map(|born| (now - born) as f64 / SECOND),
            next_try_seconds: self.index.next_due().map(|due| (due - now).max(0) as f64 / SECOND),
            bytes_per_hour,
            hours_left: (bytes_per_hour > 0.0).then(|| left / bytes_per_hour),
            quarantined,
            quarantined_bytes,
            closed: self.closed.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            refused_full: self.refused_full,
            when_full: when_full(&self.config),
            write_amplification: (counts.accepted_bytes > 0)
                .then(|| counts.written_bytes as f64 / counts.accepted_bytes as f64),
        }
    }

    pub(super) fn list(&self, now: Millis) -> Vec<Listed> {
        let listed = |known: &Known| Listed {
            id: known.id.clone(),
            state: match known.state {
                State::Held => "held",
                State::Waiting { .. } => "waiting",
                State::Asked => "asked",
            }
            .to_owned(),
            bytes: known.place.len,
            age_seconds: (now - known.born) as f64 / SECOND,
            tries: known.tries,
            bundle: known.digest.to_string(),
        };
        self.index.iter().map(|(_, known)| listed(known)).collect()
    }
}

pub(crate) fn when_full(config: &SpoolConfig) -> String {
    match config.when_full {
        crate::spool::SpoolFull::RefuseNew => "refuse_new",
        crate::spool::SpoolFull::DropOldest => "drop_oldest",
    }
    .to_owned()
}
