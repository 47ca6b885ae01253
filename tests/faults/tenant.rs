//! A flood by another tenant: callers with an API token that ask for the first rank and never pause.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millgate_edge::identity::store::Store;
use millgate_edge::identity::{Identity, IdentityConfig};
use millgate_shared::identity::dial::{H2, dial};
use millgate_shared::proto::inference::ModelInferRequest;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

use crate::asking::{Client, request, set};

/// Callers at once.
const CALLERS: usize = 24;
/// Rows of each request: enough that each is some work.
const ROWS: usize = 4;
const MODEL: &str = "pcb-s";
const DIAL_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pause before a pool that is down is dialled again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the flood goes, and with what.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub token: String,
    /// The device's identity folder, for the authority of the pool; nothing else of it is used.
    pub identity: PathBuf,
    /// A folder for an identity without a certificate.
    pub nobody: PathBuf,
}

/// Floods until this is dropped.
#[derive(Debug)]
pub struct Flood {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    pub fn of(target: Target) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (Arc::clone(&is_over), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                while !stop.load(Ordering::SeqCst) {
                    // A pool that is down, or that has just ended, is asked again.
                    if round(&target, &stop, &count).await.is_none() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            });
        });
        Self { is_over, answered, thread: Some(thread) }
    }

    /// Ends it, and gives how many requests were answered with success.
    pub fn end(mut self) -> usize {
        self.stop();
        self.answered.load(Ordering::SeqCst)
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection with all callers, until it fails or the flood is over.
async fn round(target: &Target, stop: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> Option<()> {
    let mut client = client(target).await?;
    let bearer: AsciiMetadataValue = format!("Bearer {}", target.token).parse().ok()?;
    let asked = asked(&mut client, &bearer).await?;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, asked, bearer) = (client.clone(), asked.clone(), bearer.clone());
        let (stop, count) = (Arc::clone(stop), Arc::clone(count));
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = client.model_infer(with(&bearer, asked.clone()));
                match tokio::time::timeout(ANSWER_WITHIN, answer).await {
                    Ok(Ok(_)) => {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    // Refused for the load that this is: it asks again at once.
                    Ok(Err(status)) if status.code() == tonic::Code::ResourceExhausted => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    _ => return,
                }
            }
        });
    }
    callers.join_all().await;
    Some(())
}

async fn client(target: &Target) -> Option<Client> {
    let ca = vec![Store::new(&target.identity).authorities_file()];
    let config = IdentityConfig { dir: target.nobody.clone(), ca };
    let identity = Identity::open(&config).ok()?;
    let channel = dial(&target.url, &identity.client_config(&[H2]), DIAL_WITHIN).await.ok()?;
    Some(Client::new(channel))
}

async fn asked(client: &mut Client, bearer: &AsciiMetadataValue) -> Option<ModelInferRequest> {
    let about = millgate_shared::proto::inference::ModelMetadataRequest {
        name: MODEL.to_owned(),
        version: String::new(),
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.model_metadata(with(bearer, about)));
    let model = answer.await.ok()?.ok()?.into_inner();
    let mut asked = request(&model, ROWS, 1, &mut fastrand::Rng::with_seed(1));
    set(&mut asked, "priority", 1);
    Some(asked)
}

fn with<T>(bearer: &AsciiMetadataValue, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", bearer.clone());
    request
}

/// Makes the folder for an identity without a certificate.
pub fn make_nobody(dir: &Path) -> std::io::Result<PathBuf> {
    let nobody = dir.join("nobody");
    std::fs::create_dir_all(&nobody)?;
    Ok(nobody)
}
