//! The pool's part in one decision: calls out, answers in, all by the deadline.
//!
//! Each expert is a call of its own, so that one that is late or broken costs only itself; two cloud experts for one
//! sample are rare.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millgate_shared::bundle::BundleDigest;
use millgate_shared::bundle::manifest::{Expert, Manifest};
use millgate_shared::competence::Answer;
use millgate_shared::deciding::{Compared, Todo};
use millgate_shared::decision::{Missing, Run};
use millgate_shared::driver::{Experts, Reply as Answered, Standing};
use millgate_shared::index::ExpertIx;
use millgate_shared::wire::read_tensor;
use tokio::time::timeout_at;

use super::live::{Live, LiveCall};
use crate::uplink::ledger::{Ledger, Traffic};
use crate::uplink::upload::Upload;
use crate::uplink::{Reply, Uplink};

type Call = Pin<Box<dyn Future<Output = (ExpertIx, Result<Reply, Missing>)> + Send>>;

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Calls {
    /// One for each expert, or why it stays here.
    pub(super) calls: Vec<(ExpertIx, Result<Upload, Missing>)>,
    pub(super) deadline: Instant,
}

/// The calls of one decision.
pub(super) struct Asking {
    manifest: Arc<Manifest>,
    uplink: Option<Uplink>,
    /// The bundle of the decision.
    digest: BundleDigest,
    ledger: Ledger,
    calls: FuturesUnordered<Call>,
    started: Option<Instant>,
    live: Live,
    /// Marks the time in which the decision may have calls out.
    live_call: Option<LiveCall>,
    /// Experts that were not sent for, and why.
    refused: VecDeque<(ExpertIx, Missing)>,
    /// Sent, framing included.
    pub(super) bytes: u64,
    pub(super) waited: Duration,
}

impl Asking {
    pub(super) fn new(
        manifest: &Arc<Manifest>,
        uplink: Option<Uplink>,
        digest: BundleDigest,
        live: Live,
        ledger: Ledger,
    ) -> Self {
        Self {
            manifest: Arc::clone(manifest),
            uplink,
            digest,
            live,
            live_call: None,
            ledger,
            calls: FuturesUnordered::new(),
            started: None,
            refused: VecDeque::new(),
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// Sends the calls; their answers are what [`Experts::next`] gives.
    pub(super) fn start(&mut self, calls: Calls) {
        let Calls { calls, deadline } = calls;
        for (expert, upload) in calls {
            let sent = upload.and_then(|upload| self.send(upload, expert, deadline));
            if let Err(reason) = sent {
                self.refused.push_back((expert, reason));
            }
        }
    }

    fn send(&mut self, upload: Upload, expert: ExpertIx, deadline: Instant) -> Result<(), Missing> {
        self.started.get_or_insert_with(Instant::now);
        let (bytes, form) = (upload.bytes(), upload.form());
        let sent = self
            .uplink
            .as_ref()
            .ok_or(Missing::Offline)
            .and_then(|uplink| uplink.send(upload, self.digest, deadline));
        match sent {
            Ok(pending) => {
                self.bytes += bytes;
                self.live_call.get_or_insert_with(|| self.live.call());
                self.calls.push(Box::pin(async move { (expert, pending.reply().await) }));
                Ok(())
            }
            Err(reason) => {
                self.ledger.refund(Traffic::Live, form, bytes);
                Err(reason)
            }
        }
    }

    /// No call is out any more, or none is waited for.
    pub(super) fn ended(&mut self) {
        self.live_call = None;
        self.waited = self.started.map_or(Duration::ZERO, |started| started.elapsed());
    }
}

impl Experts for Asking {
    /// Experts are asked of the pool with payloads that only a model thread makes, in [`Asking::start`]: whoever is named
    /// later cannot be asked.
    fn ask(&mut self, todo: Todo, _: Standing) -> Vec<String> {
        let late = todo.local.into_iter().chain(todo.remote);
        self.refused.extend(late.map(|expert| (expert, Missing::Failed)));
        Vec::new()
    }

    async fn next(&mut self, until: Instant) -> Option<Answered> {
        if let Some((expert, reason)) = self.refused.pop_front() {
            return Some(Answered { expert, at: Instant::now(), answer: Err(reason) });
        }
        let (expert, reply) = timeout_at(until.into(), self.calls.next()).await.ok()??;
        let manifest = &self.manifest;
        let answer = reply.and_then(|reply| read(&manifest.experts[expert], expert, reply));
        Some(Answered { expert, at: Instant::now(), answer })
    }

    /// Was done on the model thread, where the sample is.
    fn compare(&mut self, _: &str) -> impl Future<Output = Compared> + Send {
        std::future::ready(Compared::default())
    }
}

/// An answer, checked as strictly as a local one.
pub(super) fn read(spec: &Expert, expert: ExpertIx, reply: Reply) -> Result<(Answer, Run), Missing> {
    let refuse = |message: String| {
        tracing::warn!(expert = spec.name, node = reply.node, message, "an answer of the pool is no answer");
        Missing::Failed
    };
    let answer = reply.answers.iter().find(|answer| answer.expert == spec.name);
    let answer = answer.ok_or_else(|| refuse("it is missing".to_owned()))?;
    if let Some(error) = &answer.error {
        return Err(refuse(error.message.clone()));
    }
    let logits = answer.outputs.iter().find(|output| output.name == "logits");
    let logits = logits.ok_or_else(|| refuse("it has no logits".to_owned()))?;
    let tensor =
        read_tensor("logits", logits, &[1, spec.labels.len()]).map_err(|error| refuse(error.to_string()))?;
    let logits = tensor.as_fp32().map_err(|error| refuse(error.to_string()))?;
    let read = Answer::from_logits(expert, spec.labels.len(), logits);
    let run = Run {
        place: format!("cloud:{}", reply.node),
        latency_us: answer.queue_us + answer.compute_us,
        engine: answer.engine.clone(),
        batch: answer.batch.max(1),
    };
    Ok((read.map_err(|error| refuse(error.to_string()))?, run))
}
