//! The uplink over a line with packets that are delayed, cut, and sent from another address. These tests run only where the
//! machine lets a test make such a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use millgate_edge::uplink::breaker;
use millgate_edge::uplink::ledger::{Ledger, LedgerConfig};
use millgate_edge::uplink::upload::{SendConfig, Upload, UploadPolicy};
use millgate_edge::uplink::{Allowed, Pools, Uplink, UplinkConfig};
use millgate_shared::bundle::{Bundle, BundleDigest};
use millgate_shared::decision::Missing;
use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;
use system_tests::enrolled::{Device, TlsPool, tls_pool_with};
use system_tests::line::{Line, Weather};
use system_tests::skip;
use system_tests::{bundle, part};
use tokio::time::sleep;

use crate::uplink::until_link;

const MS: Duration = Duration::from_millis(1);
/// Deadline of a call; the goals are set for a quiet machine, and this is a busy one.
const DEADLINE: Duration = Duration::from_secs(2);

/// What `steel-s` is asked about.
fn request() -> Upload {
    cleared(plain())
}

fn plain() -> v1::RunExpertsRequest {
    let opened = Bundle::open(&bundle()).unwrap();
    let expert = opened.manifest().experts.iter().find(|expert| expert.name == "steel-s").unwrap();
    let golden = opened.manifest().golden.decisions.iter().find(|golden| golden.parts.len() == 1).unwrap();
    let modality = &expert.inputs[0].modality;
    let part = part(modality, opened.read(&golden.parts[modality]).unwrap());
    v1::RunExpertsRequest { experts: vec![expert.name.clone()], parts: vec![part], ..Default::default() }
}

/// Under the policy that lets everything go.
fn cleared(request: v1::RunExpertsRequest) -> Upload {
    let opened = Bundle::open(&bundle()).unwrap();
    let policy = UploadPolicy::new(&SendConfig::default(), opened.manifest()).unwrap();
    policy.clear(opened.manifest(), request).unwrap()
}

struct Scene {
    line: Arc<Line>,
    tls: TlsPool,
    device: Device,
}

/// 40 ms there and back at 20 Mbit/s, with a pool behind it.
async fn scene(seed: u64) -> Option<Scene> {
    let line = Line::open_here(seed).ok()?;
    line.set(Weather { delay: 20 * MS, rate: Some(20_000_000), ..Weather::default() });
    let (at, target) = (line.pool_ip(), line.target_ip());
    let tls = tls_pool_with(|config, _| {
        config.grpc = (at, 0).into();
        config.tls.names = vec![target.to_string()];
    })
    .await;
    // Enrolled by the same machine's other way.
    let device = tls.device("acme", "cam-1").await;
    Some(Scene { line: Arc::new(line), tls, device })
}

impl Scene {
    fn uplink(&self, transport: Allowed, tasks: &Tasks) -> Uplink {
        let url = format!("https://{}:{}", self.line.target_ip(), self.tls.pool.grpc_addr().port());
        let identity = Some(self.device.identity());
        let pools = Pools { transport, identity, ..Pools::from(url) };
        let digest = self.tls.pool.pool().hosted().unwrap().digest();
        let breaker = breaker::Config::default();
        let ledger = Ledger::open(&LedgerConfig::default());
        let config = UplinkConfig { pools, digest, dial_timeout: DEADLINE, breaker, ledger };
        Uplink::start(config, tasks).unwrap()
    }
}

fn digest() -> BundleDigest {
    Bundle::open(&bundle()).unwrap().digest()
}

/// One call.
async fn ask(uplink: &Uplink, request: &Upload) -> Result<Duration, Missing> {
    let digest = digest();
    let sent = Instant::now();
    let pending = uplink.send(request.clone(), digest, sent + DEADLINE)?;
    pending.reply().await.map(|_| sent.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_after_a_cut_comes_soon() {
    let Some(scene) = scene(11).await else { return skip("no line can be made") };
    let request = request();
    for transport in [Allowed::Quic, Allowed::Tcp] {
        let tasks = Tasks::new();
        let uplink = scene.uplink(transport, &tasks);
        until_link(&uplink, true).await;
        for _ in 0..10 {
            ask(&uplink, &request).await.unwrap();
        }
        for cut in [300, 1_000, 5_000] {
            scene.line.cut();
            // The first was on the line when it was lost; those after it know that there is none.
            let mut costs = Vec::new();
            let begun = Instant::now();
            while begun.elapsed() < MS * cut {
                let asked = Instant::now();
                if ask(&uplink, &request).await == Err(Missing::Offline) {
                    costs.push(asked.elapsed());
                }
                sleep(MS * 5).await;
                if begun.elapsed() + DEADLINE > MS * cut && cut < 2_000 {
                    break;
                }
            }
            sleep((MS * cut).saturating_sub(begun.elapsed())).await;
            scene.line.restore();
            let back = Instant::now();
            let first = loop {
                if ask(&uplink, &request).await.is_ok() {
                    break back.elapsed();
                }
                sleep(MS).await;
            };
            costs.drain(..costs.len().min(1));
            costs.sort();
            // A machine that is busy holds up one or the other of them.
            let cost = costs.get(costs.len() * 9 / 10).copied().unwrap_or_default();
            println!("{transport:?}: first answer {first:?} after a cut of {cut} ms; refused in {cost:?}");
            assert!(first < DEADLINE, "{first:?}");
            assert!(cost < MS * 100, "a call is refused at once while there is no line, not after {cost:?}");
        }
        tasks.drain(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_fails_no_call() {
    let Some(scene) = scene(12).await else { return skip("no line can be made") };
    let request = Arc::new(request());
    for transport in [Allowed::Quic, Allowed::Tcp] {
        let tasks = Tasks::new();
        let uplink = scene.uplink(transport, &tasks);
        until_link(&uplink, true).await;
        let (answered, slowest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls = Tasks::new();
        for at in 0..160 {
            if at == 80 {
                let line = Arc::clone(&scene.line);
                tokio::task::spawn_blocking(move || line.change_address()).await.unwrap().unwrap();
            }
            let (uplink, request) = (uplink.clone(), Arc::clone(&request));
            let (answered, slowest) = (Arc::clone(&answered), Arc::clone(&slowest));
            calls.spawn(async move {
                if let Ok(took) = ask(&uplink, &request).await {
                    slowest.fetch_max(took.as_millis() as usize, Ordering::Relaxed);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            sleep(MS * 25).await;
        }
        assert_eq!(calls.drain(DEADLINE * 2).await, 0, "every call has ended");
        let (answered, slowest) = (answered.load(Ordering::Relaxed), slowest.load(Ordering::Relaxed));
        println!("{transport:?}: {answered} of 160 calls answered, the slowest took {slowest} ms");
        assert_eq!(answered, 160);
        tasks.drain(Duration::from_secs(1)).await;
    }
}

/// A grey picture of a third of a megabyte that no codec makes smaller, as BMP.
fn large() -> Upload {
    const SIDE: u32 = 340;
    let body = SIDE * SIDE * 3;
    let mut bmp = Vec::from(*b"BM");
    for number in [54 + body, 0, 54, 40, SIDE, SIDE] {
        bmp.extend(number.to_le_bytes());
    }
    bmp.extend([1, 0, 24, 0]);
    for number in [0, body, 2835, 2835, 0, 0] {
        bmp.extend(u32::to_le_bytes(number));
    }
    let mut random = Rng::with_seed(7);
    bmp.extend((0..body).map(|_| random.u64(..256) as u8));
    let mut request = plain();
    request.parts[0].data = bmp.into();
    cleared(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_log_goes_behind_live_calls() {
    let Some(scene) = scene(13).await else { return skip("no line can be made") };
    let (request, large) = (request(), large());
    for transport in [Allowed::Quic, Allowed::Tcp] {
        let tasks = Tasks::new();
        let uplink = scene.uplink(transport, &tasks);
        until_link(&uplink, true).await;
        let live = async |count: usize| {
            let mut took = Vec::new();
            for _ in 0..count {
                took.push(ask(&uplink, &request).await.expect("an answer"));
                sleep(MS * 20).await;
            }
            took.sort_unstable();
            (took[count / 2], took[count * 95 / 100])
        };
        let alone = live(40).await;
        let (sent, digest) = (Arc::new(AtomicUsize::new(0)), digest());
        for _ in 0..4 {
            let (uplink, large, sent) = (uplink.clone(), large.clone(), Arc::clone(&sent));
            tasks.spawn(async move {
                loop {
                    let pending = uplink.send_backlog(large.clone(), digest, Instant::now() + DEADLINE * 30);
                    let Ok(pending) = pending else { return };
                    if pending.reply().await.is_err() {
                        return;
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        let beside = live(120).await;
        let rate = sent.load(Ordering::Relaxed) as f64 * large.request().parts[0].data.len() as f64 * 8e-6;
        let rate = rate / begun.elapsed().as_secs_f64();
        println!(
            "{transport:?}: alone {alone:?}, beside a back-log of {rate:.1} Mbit/s {beside:?} (p50, p95)"
        );
        assert!(sent.load(Ordering::Relaxed) > 0);
        assert!(beside.1 < alone.1 * 4 + MS * 250, "{beside:?}");
        tasks.stop();
    }
}
