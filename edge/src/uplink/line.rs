//! One line to a pool: a connection, the stream of live calls on it, and what the pool said of itself.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::carrier::Carrier;
use super::refusal::{NoLine, Refusal};

/// Requests that wait for the transport.
const QUEUE: usize = 64;

/// Just opened.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) carrier: Carrier,
    pub(super) known: Known,
    /// The pool has answered over this line.
    pub(super) is_proven: bool,
}

/// What a pool said of itself.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) listed: v1::ListExpertsResponse,
    /// How long that took, the handshake not counted.
    pub(super) answered_in: Duration,
}

impl Line {
    /// Asks the pool what it holds and opens the stream, both at once. The caller bounds the time.
    pub(super) async fn open(carrier: Carrier, digest: Option<BundleDigest>) -> Result<Self, NoLine> {
        let (requests, opening) = stream(&carrier);
        let (known, opened) = tokio::join!(list(&carrier, digest), opening);
        let (known, opened) = (known?, opened.map_err(|status| refused("RunExpertsStream", &status))?);
        let reader = Reader { state: State::Open(Box::new(opened.into_inner())) };
        Ok(Self { writer: Writer::new(requests), reader, carrier, known, is_proven: true })
    }

    /// For a pool that was known a moment ago, and that has shown in its handshake who it is: calls may go out with the
    /// opening of the stream, a round trip earlier. Whether all is as it was is asked meanwhile, by [`list`].
    pub(super) fn open_again(carrier: Carrier, known: Known) -> Self {
        let (requests, opening) = stream(&carrier);
        let reader = Reader { state: State::Opening(Box::pin(opening)) };
        Self { writer: Writer::new(requests), reader, carrier, known, is_proven: false }
    }
}

impl Known {
    /// Whether the pool answers calls that name a bundle.
    pub(super) fn holds(&self, digest: BundleDigest) -> bool {
        let listed = &self.listed;
        let mut held = listed.bundles.iter().map(|bundle| &bundle.digest).chain([&listed.bundle_digest]);
        held.any(|held| held[..] == digest.as_bytes()[..])
    }
}

/// What the pool holds, if the bundle `digest` is among it.
pub(super) async fn list(carrier: &Carrier, digest: Option<BundleDigest>) -> Result<Known, NoLine> {
    let started = Instant::now();
    let listed = carrier.experts().list_experts(v1::ListExpertsRequest::default()).await;
    let listed = listed.map_err(|status| refused("ListExperts", &status))?.into_inner();
    let answered_in = started.elapsed();
    let known = Known { listed, answered_in };
    if digest.is_some_and(|digest| !known.holds(digest)) {
        let listed = &known.listed;
        let held = match listed.bundle_name.is_empty() {
            true => "no bundle".to_owned(),
            false => format!("bundle {} {}", listed.bundle_name, listed.bundle_version),
        };
        let text = format!("the pool holds {held}, the agent another one: one of the two has to be updated");
        return Err(NoLine { text, refusal: Some(Refusal::Bundle) });
    }
    Ok(known)
}

type Responses = Streaming<v1::RunExpertsStreamResponse>;
type Opening = Pin<Box<dyn Future<Output = Result<Response<Responses>, Status>> + Send>>;

/// Calls go into the first, and out once the second is polled.
fn stream(
    carrier: &Carrier,
) -> (
    mpsc::Sender<v1::RunExpertsRequest>,
    impl Future<Output = Result<Response<Responses>, Status>> + Send + use<>,
) {
    let (requests, receiver) = mpsc::channel(QUEUE);
    let mut client = carrier.experts();
    (requests, async move { client.run_experts_stream(ReceiverStream::new(receiver)).await })
}

fn refused(what: &str, status: &Status) -> NoLine {
    let text = format!("the pool refuses {what}: {}", said(status));
    NoLine { text, refusal: Refusal::of_status(status) }
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
    /// The bundle of the request before.
    named: Option<BundleDigest>,
}

impl Writer {
    fn new(requests: mpsc::Sender<v1::RunExpertsRequest>) -> Self {
        Self { requests, named: None }
    }

    /// Sends a request for the experts of one bundle, which it names unless the request before has named it. False if the
    /// queue to the transport is full.
    pub(super) fn send(&mut self, mut request: v1::RunExpertsRequest, digest: BundleDigest) -> bool {
        if self.named != Some(digest) {
            request.bundle_digest = digest.as_bytes().to_vec().into();
        }
        let sent = self.requests.try_send(request).is_ok();
        if sent {
            self.named = Some(digest);
        }
        sent
    }
}

/// Answers in.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
}

enum State {
    Opening(Opening),
    Open(Box<Responses>),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opening(_) => "Opening",
            Self::Open(_) => "Open",
        })
    }
}

impl Reader {
    pub(super) async fn next(&mut self) -> Result<v1::RunExpertsStreamResponse, NoLine> {
        let broken = |status: Status| NoLine {
            text: format!("the stream broke: {}", said(&status)),
            refusal: Refusal::of_status(&status),
        };
        loop {
            match &mut self.state {
                State::Opening(opening) => {
                    let refused = |status: Status| refused("RunExpertsStream", &status);
                    let opened = opening.await.map_err(refused)?;
                    self.state = State::Open(Box::new(opened.into_inner()));
                }
                State::Open(responses) => {
                    let next = responses.message().await.map_err(broken)?;
                    return next.ok_or_else(|| "the pool closed the stream".into());
                }
            }
        }
    }
}
