//! What of a provisional decision is to be asked later, and the asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::competence::Answer;
use millgate_shared::deciding::Open;
use millgate_shared::decision::{Decision, Missing, Run};
use millgate_shared::embedding::Embeddings;
use millgate_shared::index::ExpertIx;
use millgate_shared::proto::v1;
use millgate_shared::sample::Sample;
use tonic::Code;

use super::asking::read;
use super::payload::{self, Seen};
use super::{Agent, Audit, Epoch, Rules};
use crate::uplink::ledger::Traffic;
use crate::uplink::upload::Upload;
use crate::uplink::{Pending, Reply, Uplink};

/// A decision, and what is still open of it.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) late: Option<Late>,
    /// What the pool is to be asked beside; `None`: nothing.
    pub(crate) audit: Option<Audit>,
}

/// A provisional decision whose missing experts can be asked later.
#[derive(Debug)]
pub(crate) struct Late {
    pub(super) open: Open,
    /// Held until the entry is made: its bundle must not be forgotten before.
    pub(super) epoch: Arc<Epoch>,
    pub(super) sample: Sample,
    pub(super) embeddings: Option<Embeddings>,
}

impl Late {
    /// The bundle that the decision was made with.
    pub(crate) fn digest(&self) -> BundleDigest {
        self.epoch.digest()
    }

    /// Gives the requests as they would have been sent, one for each expert that is missing; pictures are encoded, which
    /// takes a moment.
    pub(crate) fn into_requests(self) -> (Open, Vec<v1::RunExpertsRequest>) {
        let Self { open, epoch, sample, embeddings } = self;
        let (manifest, policy) = (epoch.manifest(), epoch.upload_policy());
        let experts = open.to_ask().filter_map(|name| manifest.expert_index(name));
        let embeddings = &embeddings.unwrap_or_default();
        let seen = Seen { sample: &sample, embeddings };
        let uploads = payload::uploads(manifest, policy, seen, experts);
        let requests = uploads.into_iter().filter_map(|(_, upload)| upload.ok().map(Upload::into_request));
        (open, requests.collect())
    }
}

/// What came of asking for one entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LateAnswers {
    pub(crate) answers: Vec<Answer>,
    /// Runs of the experts that answered.
    pub(crate) runs: BTreeMap<ExpertIx, Run>,
    /// Sent, framing included.
    pub(crate) bytes: u64,
    /// Something was sent, and nobody ever said anything to it.
    pub(crate) broke: bool,
    /// Why the others have not answered; of several reasons the one that passes soonest.
    pub(crate) left: Option<Left>,
}

/// Why there is no answer, and what that means for the entry. What passes soonest comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// The line or the pool is in trouble: not the entry's fault, try again.
    Trouble,
    /// The byte budget has no room for so many bytes at the moment, or the line is metered.
    NoRoom(u64),
    /// The pool does not have the expert, or holds another bundle, at the moment: it waits until that is otherwise.
    NotHere(String),
    /// Under this configuration it stays here.
    Withheld(String),
    /// The expert failed: it may work another time, but not for ever.
    Failed,
    /// The pool will never answer this.
    Never(String),
}

impl LateAnswers {
    /// Nothing went out, and neither line nor pool are the reason.
    pub(crate) fn stayed_here(&self) -> bool {
        let is_own = |left: &Left| matches!(left, Left::NoRoom(_) | Left::Withheld(_));
        self.bytes == 0 && self.left.as_ref().is_some_and(is_own)
    }

    /// With what earlier attempts have brought.
    pub(crate) fn add(&mut self, before: Self) {
        let Self { answers, runs, bytes, broke: _, left: _ } = before;
        self.answers.extend(answers);
        self.runs.extend(runs);
        self.bytes += bytes;
    }
}

impl Agent {
    /// Live calls that are out right now, and all there ever were.
    pub(crate) fn live_calls(&self) -> (usize, u64) {
        self.parts.live.counts()
    }

    /// Asks the pool behind live calls for what is not among `answers` yet, by the rules of the bundle that the entry was
    /// made with. Always returns by the deadline.
    pub(crate) async fn ask_late(
        &self,
        rules: &Rules,
        mut requests: Vec<v1::RunExpertsRequest>,
        answers: &[Answer],
        deadline: Instant,
    ) -> LateAnswers {
        let manifest = rules.manifest();
        let has = |expert: &String| {
            let index = manifest.expert_index(expert);
            index.is_some_and(|index| answers.iter().any(|answer| answer.expert == index))
        };
        requests.iter_mut().for_each(|request| request.experts.retain(|expert| !has(expert)));
        requests.retain(|request| !request.experts.is_empty());
        let mut late = LateAnswers::default();
        let leave = |left: Left, late: &mut LateAnswers| {
            let before = late.left.take();
            late.left = Some(before.map_or(left.clone(), |before| before.min(left)));
        };
        let Some(uplink) = &self.parts.uplink else {
            leave(Left::Trouble, &mut late);
            return late;
        };
        if !uplink.may_hold(rules.digest()) {
            // It may do so by now.
            uplink.look_again();
            let message = format!("the pool does not answer for the bundle {}", rules.digest());
            leave(Left::NotHere(message), &mut late);
            return late;
        }
        for request in requests {
            let experts = request.experts.clone();
            let reply = match self.send_late(uplink, rules, request, deadline).await {
                Ok((pending, bytes)) => {
                    late.bytes += bytes;
                    pending.reply().await
                }
                Err(left) => {
                    leave(left, &mut late);
                    continue;
                }
            };
            match reply {
                Ok(reply) => {
                    for expert in experts {
                        match one(manifest, &expert, &reply) {
                            Ok((answer, run)) => {
                                late.runs.insert(answer.expert, run);
                                late.answers.push(answer);
                            }
                            Err(left) => leave(left, &mut late),
                        }
                    }
                }
                Err(Missing::Failed) => leave(Left::Failed, &mut late),
                Err(missing) => {
                    late.broke |= matches!(missing, Missing::Offline | Missing::Deadline);
                    leave(Left::Trouble, &mut late);
                }
            }
        }
        late
    }

    /// Under the policy and the budget of now, whatever they were when the entry was made.
    async fn send_late(
        &self,
        uplink: &Uplink,
        rules: &Rules,
        request: v1::RunExpertsRequest,
        deadline: Instant,
    ) -> Result<(Pending, u64), Left> {
        let cleared = rules.upload().clear(rules.manifest(), request);
        let mut upload = cleared.map_err(|error| Left::Withheld(error.to_string()))?;
        upload.set_timeout(deadline.saturating_duration_since(Instant::now()).as_micros() as u64);
        let (bytes, form, ledger) = (upload.bytes(), upload.form(), self.parts.ledger.clone());
        // It may write a file.
        let take = {
            let ledger = ledger.clone();
            move || ledger.take(Traffic::Backlog, form, bytes, None)
        };
        let taken = tokio::task::spawn_blocking(take).await.map_err(|_| Left::Trouble)?;
        taken.map_err(|refused| match ledger.room_in(Traffic::Backlog, bytes) {
            Some(_) => Left::NoRoom(bytes),
            None => Left::Withheld(refused.to_string()),
        })?;
        match uplink.send_backlog(upload, rules.digest(), deadline) {
            Ok(pending) => Ok((pending, bytes)),
            Err(_) => {
                ledger.refund(Traffic::Backlog, form, bytes);
                Err(Left::Trouble)
            }
        }
    }
}

fn one(manifest: &Manifest, expert: &str, reply: &Reply) -> Result<(Answer, Run), Left> {
    let Some(index) = manifest.expert_index(expert) else {
        return Err(Left::Never(format!("expert `{expert}` is not in the bundle")));
    };
    // One without a name is the call's own.
    let is_its = |answer: &&v1::ExpertAnswer| answer.expert == expert || answer.expert.is_empty();
    let error = reply.answers.iter().find(is_its).and_then(|answer| answer.error.as_ref());
    match error {
        Some(error) => Err(left(error.code, &error.message)),
        None => read(&manifest.experts[index], index, reply.clone()).map_err(|_| Left::Failed),
    }
}

/// What a status means for an entry.
pub(super) fn left(code: i32, message: &str) -> Left {
    match Code::from_i32(code) {
        Code::InvalidArgument | Code::OutOfRange => Left::Never(message.to_owned()),
        Code::NotFound
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Left::NotHere(message.to_owned()),
        Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable => {
            Left::Trouble
        }
        _ => Left::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_their_codes() {
        let of = |code: Code| left(code as i32, "why");
        assert_eq!(of(Code::InvalidArgument), Left::Never("why".to_owned()));
        for code in [Code::NotFound, Code::FailedPrecondition, Code::PermissionDenied, Code::Unauthenticated]
        {
            assert_eq!(of(code), Left::NotHere("why".to_owned()));
        }
        for code in [Code::ResourceExhausted, Code::Unavailable, Code::DeadlineExceeded] {
            assert_eq!(of(code), Left::Trouble);
        }
        assert_eq!(of(Code::Internal), Left::Failed);
        // What passes soonest decides: an entry is not given up while one of its experts may still answer.
        assert!(Left::Trouble < Left::NoRoom(9) && Left::NoRoom(9) < Left::NotHere(String::new()));
        assert!(Left::NotHere(String::new()) < Left::Withheld(String::new()));
        assert!(Left::Failed < Left::Never(String::new()));
    }
}
