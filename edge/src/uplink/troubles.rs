//! Why there is no line to a pool, by address: kept for those who ask, counted, and said in the log. What passes by itself is
//! said when the last line goes; what lasts until somebody acts is said by name, once and then now and again.

use std::time::{Duration, Instant};

use millgate_shared::proto::v1;
use tokio::sync::watch;
use tonic::Code;

use super::counts::Counts;
use super::refusal::{NoLine, Said};

/// A pool that refuses calls is asked so often whether it refuses the device.
const PROVE_EVERY: Duration = Duration::from_secs(5);

/// The trouble with one pool, while there is no line to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub pool: String,
    /// `None`: the first round of dialling has not ended, or there is a line.
    pub why: Option<NoLine>,
}

#[derive(Debug)]
pub(super) struct Troubles {
    pools: Vec<Of>,
    counts: Counts,
    out: watch::Sender<Vec<Trouble>>,
}

#[derive(Debug)]
struct Of {
    trouble: Trouble,
    said: Said<super::Refusal>,
    /// Codes of refused calls, while the line is there.
    calls: Said<i32>,
    proven: Option<Instant>,
}

impl Troubles {
    /// No troubles yet, and a receiver for whoever follows them.
    pub(super) fn new(pools: Vec<String>, counts: Counts) -> (Self, watch::Receiver<Vec<Trouble>>) {
        pools.iter().for_each(|pool| counts.refuses(pool, None));
        let of = |pool| Of {
            trouble: Trouble { pool, why: None },
            said: Said::default(),
            calls: Said::default(),
            proven: None,
        };
        let pools: Vec<Of> = pools.into_iter().map(of).collect();
        let (out, follow) = watch::channel(pools.iter().map(|of| of.trouble.clone()).collect());
        (Self { pools, counts, out }, follow)
    }

    /// There is no line, or no more.
    pub(super) fn failed(&mut self, address: usize, why: NoLine, now: Instant) {
        let Some(of) = self.pools.get_mut(address) else { return };
        let pool = &of.trouble.pool;
        if let Some(refusal) = why.refusal {
            if of.said.is_news(refusal, now) {
                let (reason, text, advice) = (refusal.as_str(), &*why.text, refusal.advice());
                tracing::error!(pool, reason, text, advice, "the pool is of no use until somebody acts");
            }
        } else {
            of.said.is_over();
        }
        self.counts.refuses(pool, why.refusal);
        of.trouble.why = Some(why);
        self.publish();
    }

    /// The pool answers.
    pub(super) fn works(&mut self, address: usize) {
        let Some(of) = self.pools.get_mut(address) else { return };
        if of.trouble.why.take().is_some() {
            of.said.is_over();
            self.counts.refuses(&of.trouble.pool, None);
            self.publish();
        }
    }

    /// A live call was refused for what it is. True if it is to be found out whether every call would be.
    pub(super) fn call_refused(&mut self, address: usize, error: &v1::StreamError, now: Instant) -> bool {
        let Some(of) = self.pools.get_mut(address) else { return false };
        let (pool, code) = (&of.trouble.pool, Code::from_i32(error.code));
        tracing::debug!(pool, ?code, message = error.message, "the pool refused a call");
        let lasts = matches!(
            code,
            Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::Unimplemented
                | Code::InvalidArgument
        );
        if lasts && of.calls.is_news(error.code, now) {
            tracing::warn!(pool, ?code, message = error.message, "the pool refuses calls");
        }
        may_be_of_all(code) && self.is_to_be_proven(address, now)
    }

    /// Whether the pool is to be asked if it lets the device in at all; true now and then at most.
    pub(super) fn is_to_be_proven(&mut self, address: usize, now: Instant) -> bool {
        let Some(of) = self.pools.get_mut(address) else { return false };
        let is_due = of.proven.is_none_or(|at| now.saturating_duration_since(at) >= PROVE_EVERY);
        if is_due {
            of.proven = Some(now);
        }
        is_due
    }

    /// All of them, for people.
    pub(super) fn text(&self) -> String {
        let texts = self.pools.iter().filter_map(|of| Some(of.trouble.why.as_ref()?.text.as_str()));
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        match texts.is_empty() {
            true => "calls are not answered in time".to_owned(),
            false => texts.join("; "),
        }
    }

    fn publish(&self) {
        self.out.send_replace(self.pools.iter().map(|of| of.trouble.clone()).collect());
    }
}

/// A refusal with this code may be one of the device, and not of a call.
pub(super) fn may_be_of_all(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::Refusal;

    fn error(code: Code) -> v1::StreamError {
        v1::StreamError { code: code as i32, message: "no".to_owned(), ..Default::default() }
    }

    #[test]
    fn a_refused_call_is_looked_into_now_and_then_and_a_full_pool_never() {
        let (mut troubles, _) = Troubles::new(vec!["https://pool:1".to_owned()], Counts::default());
        let now = Instant::now();
        assert!(!troubles.call_refused(0, &error(Code::ResourceExhausted), now));
        assert!(!troubles.call_refused(0, &error(Code::InvalidArgument), now));
        assert!(troubles.call_refused(0, &error(Code::PermissionDenied), now));
        assert!(!troubles.call_refused(0, &error(Code::PermissionDenied), now + PROVE_EVERY / 2));
        assert!(troubles.call_refused(0, &error(Code::Unauthenticated), now + PROVE_EVERY));
        assert!(!troubles.call_refused(7, &error(Code::Unauthenticated), now));
    }

    #[test]
    fn who_follows_sees_why_there_is_no_line_until_there_is_one() {
        let (mut troubles, follow) = Troubles::new(vec!["a".to_owned(), "b".to_owned()], Counts::default());
        assert!(follow.borrow().iter().all(|trouble| trouble.why.is_none()));
        let denied = NoLine { text: "revoked".to_owned(), refusal: Some(Refusal::Denied) };
        troubles.failed(1, denied.clone(), Instant::now());
        assert_eq!(follow.borrow()[1].why, Some(denied));
        assert_eq!(troubles.text(), "revoked");
        troubles.works(1);
        assert_eq!(follow.borrow()[1].why, None);
        assert_eq!(troubles.text(), "calls are not answered in time");
    }
}
