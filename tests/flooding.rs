//! Floods: callers of one tenant who ask as fast as they are answered, and somebody else who asks for little beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use millgate_edge::agent::AgentConfig;
use millgate_edge::uplink::pools::{Allowed, Pools};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::State;
use millgate_shared::identity::dial::{H2, dial};
use millgate_shared::identity::{Floor, Roots, pem, tls};
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::{ModelInferRequest, ModelInferResponse, ModelMetadataRequest};
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::asking::{Client, request, set};
use crate::enrolled::TlsPool;
use crate::{PATIENCE, TestAgent, agent_of, recorded_of};

/// How many ask at once in a flood.
pub const CALLERS: usize = 24;

/// A client of the Open Inference Protocol with an API token.
#[derive(Debug, Clone)]
pub struct Asker {
    client: Client,
    bearer: MetadataValue<tonic::metadata::Ascii>,
    request: ModelInferRequest,
}

impl Asker {
    /// One who asks `model` the same again and again over a connection of its own, with no rank and such a timeout.
    pub async fn new(tls: &TlsPool, token: &str, model: &str, timeout: Duration) -> Self {
        let authorities = pem::certificates(&tls.state_dir().join("ca.pem")).expect("the pool's authority");
        let clock = Arc::new(Floor::unkept());
        let roots = Roots::new(authorities, Arc::clone(&clock)).expect("roots");
        let config = tls::client(roots, None, clock, &[H2]);
        let channel = dial(&tls.pool.url(), &config, PATIENCE).await.expect("a connection");
        let mut client = GrpcInferenceServiceClient::new(channel);
        let bearer: MetadataValue<_> = format!("Bearer {token}").parse().expect("a header");
        let mut asked = Request::new(ModelMetadataRequest { name: model.to_owned(), version: String::new() });
        asked.metadata_mut().insert("authorization", bearer.clone());
        let metadata = client.model_metadata(asked).await.expect("the model is there").into_inner();
        let mut request = request(&metadata, 1, 1, &mut fastrand::Rng::with_seed(7));
        let micros = timeout.as_micros().try_into().expect("a short time");
        set(&mut request, "timeout", micros);
        Self { client, bearer, request }
    }

    pub fn with_priority(mut self, priority: i64) -> Self {
        set(&mut self.request, "priority", priority);
        self
    }

    pub async fn ask(&self) -> Result<ModelInferResponse, Status> {
        let mut request = Request::new(self.request.clone());
        request.metadata_mut().insert("authorization", self.bearer.clone());
        Ok(self.client.clone().model_infer(request).await?.into_inner())
    }
}

/// Lets these ask as fast as they are answered for as long as `meanwhile` takes; gives what came of that, and how many
/// answers they were given.
pub async fn flooded<T>(askers: &[Asker], meanwhile: impl Future<Output = T>) -> (T, usize) {
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let flood = join_all(askers.iter().map(|asker| async {
        while !is_over.load(Ordering::Relaxed) {
            match asker.ask().await {
                Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                // Whoever is refused comes back at once, as a bad client does; others run meanwhile.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }));
    let begun = async {
        // The flood stands when each of its callers could have been answered.
        while !askers.is_empty() && answered.load(Ordering::Relaxed) < askers.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = answered.load(Ordering::Relaxed);
        let done = meanwhile.await;
        is_over.store(true, Ordering::Relaxed);
        (done, answered.load(Ordering::Relaxed) - before)
    };
    let (_, done) = tokio::join!(flood, begun);
    done
}

/// What came of somebody's questions.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub asked: usize,
    pub answered: usize,
    /// Times of the answers, the shortest first.
    pub times: Vec<Duration>,
}

impl Got {
    pub fn median(&self) -> Duration {
        self.times.get(self.times.len() / 2).copied().unwrap_or_default()
    }

    fn sorted(mut self) -> Self {
        self.times.sort();
        self
    }
}

/// Asks so often, one after the other.
pub async fn in_turn(asker: &Asker, count: usize) -> Got {
    let mut got = Got { asked: count, ..Got::default() };
    for _ in 0..count {
        let asked = Instant::now();
        if asker.ask().await.is_ok() {
            got.answered += 1;
            got.times.push(asked.elapsed());
        }
    }
    got.sorted()
}

/// An agent with the identity of an enrolled device, which asks the pool about every sample.
pub async fn agent_at(tls: &TlsPool, tenant: &str, device: &str, deadline: Duration) -> TestAgent {
    let device = tls.device(tenant, device).await;
    let (identity, transport) = (Some(device.identity()), Allowed::Tcp);
    let pools = Pools { identity, transport, ..Pools::from(tls.pool.url()) };
    let change = |config: &mut AgentConfig| {
        config.mode = Mode::Always;
        config.deadline = deadline;
    };
    agent_of(pools, change).await
}

/// Decides on so many recorded pictures, one after the other; those count as answered that are final.
pub async fn decided(agent: &TestAgent, count: usize) -> Got {
    let mut got = Got { asked: count, ..Got::default() };
    for sample in recorded_of("xsdd", 5).iter().cycle().take(count) {
        let asked = Instant::now();
        if agent.decide(&sample.path).await.state == State::Final {
            got.answered += 1;
            got.times.push(asked.elapsed());
        }
    }
    got.sorted()
}
