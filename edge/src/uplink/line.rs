//! One line to a pool: a connection, the stream of live calls on it, and what the pool said of itself.

use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::carrier::Carrier;

/// Requests that wait for the transport.
const QUEUE: usize = 64;

/// Just opened.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) carrier: Carrier,
    pub(super) listed: v1::ListExpertsResponse,
    /// How long the pool took to answer, the handshake not counted.
    pub(super) answered_in: Duration,
}

impl Line {
    /// Asks the pool what it holds and opens the stream, both at once. The caller bounds the time.
    pub(super) async fn open(carrier: Carrier, digest: Option<BundleDigest>) -> Result<Self, String> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (mut asking, mut opening) = (carrier.experts(), carrier.experts());
        let started = Instant::now();
        let (listed, stream) = tokio::join!(
            asking.list_experts(v1::ListExpertsRequest {}),
            opening.run_experts_stream(ReceiverStream::new(receiver)),
        );
        let refused = |what: &str, status: &Status| format!("the pool refuses {what}: {}", said(status));
        let listed = listed.map_err(|status| refused("ListExperts", &status))?.into_inner();
        let answered_in = started.elapsed();
        if digest.is_some_and(|digest| BundleDigest::from_bytes(&listed.bundle_digest) != Some(digest)) {
            return Err(format!(
                "the pool holds bundle {} {}, the agent another one: one of the two has to be updated",
                listed.bundle_name, listed.bundle_version
            ));
        }
        let stream = stream.map_err(|status| refused("RunExpertsStream", &status))?;
        let writer = Writer { requests, digest, named_bundle: false };
        let reader = Reader { responses: stream.into_inner() };
        Ok(Self { writer, reader, carrier, listed, answered_in })
    }
}

/// What the pool said, or what is behind it where it said nothing.
pub(super) fn said(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// Calls out.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<v1::RunExpertsRequest>,
    digest: Option<BundleDigest>,
    named_bundle: bool,
}

impl Writer {
    /// False if the queue to the transport is full. The first request names the bundle for all.
    pub(super) fn send(&mut self, mut request: v1::RunExpertsRequest) -> bool {
        if !self.named_bundle
            && let Some(digest) = self.digest
        {
            request.bundle_digest = digest.as_bytes().to_vec().into();
        }
        let sent = self.requests.try_send(request).is_ok();
        self.named_bundle |= sent;
        sent
    }
}

/// Answers in.
#[derive(Debug)]
pub(super) struct Reader {
    responses: Streaming<v1::RunExpertsStreamResponse>,
}

impl Reader {
    pub(super) async fn next(&mut self) -> Result<v1::RunExpertsStreamResponse, String> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("the pool closed the stream".to_owned()),
            Err(status) => Err(format!("the stream broke: {}", said(&status))),
        }
    }
}
