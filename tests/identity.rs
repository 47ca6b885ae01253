//! Who is who: enrolment, mTLS, renewal, revocation, exchanged certificates, wrong clocks; with the real binaries where a
//! person would use them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use millgate_cloud::identity::authority::Authority;
use millgate_edge::identity::Identity;
use millgate_edge::identity::asking::{Enrolment, enrol};
use millgate_edge::metrics::Metrics;
use millgate_edge::uplink::pools::{Allowed, Pools};
use millgate_shared::deciding::Mode;
use millgate_shared::decision::State;
use millgate_shared::files;
use millgate_shared::identity::dial::{H2, dial};
use millgate_shared::identity::{Certificate, DeviceName, Floor, pem};
use millgate_shared::proto::v1::ListExpertsRequest;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::tcp::Proxy;
use rcgen::{CertificateParams, KeyPair};
use system_tests::enrolled::{Device, Elsewhere, TlsPool, connect, shown, tls_pool, tls_pool_with};
use system_tests::{PATIENCE, TestAgent, agent_of, binary, bundle, recorded_of, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;
use tonic::{Code, Status};

mod ending;
mod renewal;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn list(client: &mut ExpertServiceClient<Channel>) -> Result<usize, Status> {
    Ok(client.list_experts(ListExpertsRequest::default()).await?.into_inner().experts.len())
}

/// Asks until the answer is as wanted.
async fn until(client: &mut ExpertServiceClient<Channel>, wanted: impl Fn(&Result<usize, Status>) -> bool) {
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            let answer = list(client).await;
            if wanted(&answer) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    asked.await.expect("the answer that was wanted");
}

/// A certificate that was signed so long ago, for a key that the device has.
fn signed_ago(tls: &TlsPool, device: &Device, ago: Duration, life: Duration) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let now = SystemTime::now();
    let authority = Authority::open_or_make(&tls.state(), now).unwrap();
    let name = DeviceName::new("acme", "cam-1").unwrap();
    let signed = authority.sign_device(&name, request.der(), now - ago, life).unwrap();
    let store = device.store();
    store.write_key(&key.serialize_pem()).unwrap();
    let ca = pem::write([&authority.certificate()[..]]);
    store.write(store.authorities_file(), ca.as_bytes(), files::PUBLIC).unwrap();
    let chain = pem::write([&signed[..], &authority.certificate()[..]]);
    store.write(store.certificate(), chain.as_bytes(), files::PUBLIC).unwrap();
}

fn is_private(path: &Path) -> bool {
    files::readable_by_others(path).unwrap() == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_enrol_a_device_and_say_what_is_wrong() {
    let TlsPool { pool, dir } = tls_pool().await;
    let url = pool.url();
    let done = tokio::task::spawn_blocking(move || {
        let state = dir.path().join("state").display().to_string();
        let folder = |name: &str| dir.path().join(name).display().to_string();
        let cloud = |args: &[&str]| run("millgate-cloud", &[args, &["--state-dir", &state]].concat());
        let claim = |args: &[&str]| {
            let ran = cloud(&[&["enroll-token"], args].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            ran.stdout.trim().to_owned()
        };
        let enroll = |token: &str, device: &str, dir: &str| {
            let named = ["--device", device];
            let named = if device.is_empty() { &[][..] } else { &named[..] };
            let args = ["enroll", "--pool", &url, "--token", token, "--dir", dir];
            run("millgate-edge", &[&args[..], named].concat())
        };
        let token = claim(&["--tenant", "acme"]);
        let (one, two) = (folder("one"), folder("two"));
        let ran = enroll(&token, "cam-1", &one);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("enrolled as acme/cam-1"), "{}", ran.stdout);
        assert!(is_private(&Path::new(&one).join("device.key")));
        for file in ["ca.key", "server-node-1.pem", "claims.json", "devices.json"] {
            assert!(is_private(&Path::new(&state).join(file)), "{file}");
        }
        let other = tempfile::tempdir().unwrap();
        let foreign = other.path().display().to_string();
        let foreign = run("millgate-cloud", &["enroll-token", "--state-dir", &foreign]).stdout;
        for (token, device, dir, words) in [
            (token.as_str(), "cam-1", one.as_str(), "--force"),
            (&token, "cam-2", &two, "has been used"),
            (foreign.trim(), "cam-2", &two, "authority that is not trusted"),
            (&token[..60], "cam-2", &two, "no claim token"),
            (&claim(&[]), "", &two, "`device`: is missing"),
            (&claim(&["--device", "cam-9"]), "cam-2", &two, "`cam-9` only"),
            (&claim(&["--tenant", "acme"]), "cam-1", &two, "--tenant acme --device cam-1"),
        ] {
            let ran = enroll(token, device, dir);
            assert_ne!(ran.code, 0);
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        let plain = run(
            "millgate-edge",
            &["enroll", "--pool", "http://127.0.0.1:0", "--token", &token, "--dir", &two],
        );
        assert!(plain.code == 3 && plain.stderr.contains("https://"), "{}", plain.stderr);
        // A lost table of tokens, or those of another pool with the same authority.
        let fresh = claim(&[]);
        std::fs::remove_file(Path::new(&state).join("claims.json")).unwrap();
        assert!(enroll(&fresh, "cam-2", &two).stderr.contains("unknown here"));

        let listed = cloud(&["devices", "list", "--output", "json"]).lines().remove(0);
        assert_eq!(listed["devices"][0]["device"], "cam-1");
        assert_eq!(listed["devices"][0]["state"], "good");
        assert!(cloud(&["devices", "list"]).stdout.contains("acme/cam-1"));
        assert_eq!(cloud(&["devices", "restore", "acme/nobody"]).code, 2);
        let revoked = cloud(&["devices", "revoke", "acme/nobody"]);
        assert!(revoked.code == 0 && revoked.stdout.contains("has enrolled here"), "{}", revoked.stdout);
        let made = cloud(&["api-token", "create", "--name", "dash", "--models", "pcb-*", "--ttl", "1h"]);
        assert!(made.stdout.starts_with("mgt_") && made.stdout.trim().len() == 47, "{}", made.stdout);
        assert_eq!(cloud(&["api-token", "create", "--name", "dash"]).code, 2);
        let file = folder("token");
        std::fs::write(&file, &made.stdout).unwrap();
        let ca = Path::new(&state).join("ca.pem").display().to_string();
        let experts = |more: &[&str]| run("millgate-cloud", &[&["experts", "--pool", &url], more].concat());
        let ran = experts(&["--ca", &ca, "--token-file", &file, "--output", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let names = ran.lines().remove(0)["experts"].as_array().unwrap().clone();
        assert!(!names.is_empty());
        assert!(names.iter().all(|it| it["name"].as_str().unwrap().starts_with("pcb-")), "{names:?}");
        assert!(experts(&["--ca", &ca]).stderr.contains("no credentials"));
        assert!(experts(&["--token-file", &file]).stderr.contains("not trusted"));
        assert!(cloud(&["api-token", "list"]).stdout.contains("dash"));
        assert_eq!(cloud(&["api-token", "revoke", "dash"]).code, 0);

        let config = folder("edge.toml");
        let text = format!("[identity]\ndir = \"{one}\"\n");
        std::fs::write(&config, text.clone() + "[api]\nenabled = false\n[admin]\nenabled = false\n").unwrap();
        let bundle = bundle().display().to_string();
        let check = ["check", "--config", &config, "--bundle", &bundle, "--local", "--output", "json"];
        let report = run("millgate-edge", &check).lines().remove(0);
        let items = report["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["name"] == "identity");
        let message = item.map(|item| item["message"].as_str().unwrap()).unwrap_or_default();
        assert!(message.starts_with("acme/cam-1, certificate until"), "{report}");
    });
    done.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_expired_says_when() {
    let tls = tls_pool().await;
    let claim = tls.claim("acme", None, Duration::ZERO);
    let error = Device::new().enrol(&tls.pool.url(), &claim, "cam").await.unwrap_err();
    assert!(error.is_final() && error.to_string().contains("expired on"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_busy_says_so_and_the_same_token_is_good_again() {
    let tls = tls_pool().await;
    let (device, claim) = (Device::new(), tls.claim("acme", Some("cam-1"), HOUR));
    let alone = tls.state().lock().unwrap();
    let error = device.enrol(&tls.pool.url(), &claim, "").await.unwrap_err();
    assert!(!error.is_final() && error.to_string().contains("the pool's state is busy"), "{error}");
    // It is still waiting there, and becomes a certificate that nobody hears of.
    drop(alone);
    device.enrol(&tls.pool.url(), &claim, "").await.unwrap();
    assert!(list(&mut device.connect(&tls.pool).await).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_nothing_gets_nothing_but_health_and_enrolment() {
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    // It knows the pool, and has lost its own certificate.
    std::fs::remove_file(device.store().certificate()).unwrap();
    let identity = device.identity();
    let channel = dial(&tls.pool.url(), &identity.client_config(&[H2]), PATIENCE).await.unwrap();
    let status = list(&mut ExpertServiceClient::new(channel.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("millgate-edge enroll"), "{status:?}");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert!(metrics(&tls).await.contains("millgate_tls_handshakes_failed_total 0\n"));
    // A certificate of somebody else's.
    let stranger = tls_pool().await.device("acme", "cam-1").await;
    std::fs::copy(device.store().authorities_file(), stranger.store().authorities_file()).unwrap();
    let refused = connect(&stranger.identity(), &tls.pool).await;
    let refused = match refused {
        Ok(mut client) => list(&mut client).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    // By the handshake, and by nothing else: the one before was good.
    assert!(metrics(&tls).await.contains("millgate_tls_handshakes_failed_total 1\n"));
}

async fn metrics(tls: &TlsPool) -> String {
    let mut tcp = TcpStream::connect(tls.pool.metrics_addr()).await.unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_exchanged_files_and_keeps_the_old_ones_while_they_are_broken() {
    let tls = tls_pool().await;
    let (device, tasks) = (Device::new(), Tasks::new());
    signed_ago(&tls, &device, HOUR, 10 * DAY);
    let identity = device.identity();
    identity.keep([], None, &tasks);
    let (old, mut changes) = (identity.certificate().unwrap(), identity.changes());
    changes.mark_unchanged();
    std::fs::write(device.store().certificate(), "nonsense").unwrap();
    let mut client = connect(&identity, &tls.pool).await.unwrap();
    assert!(list(&mut client).await.unwrap() > 0);
    std::fs::remove_file(tls.state_dir().join("devices.json")).ok();
    signed_ago(&tls, &device, 2 * HOUR, 20 * DAY);
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("it is read again").unwrap();
    assert_ne!(identity.certificate().unwrap(), old);
    let mut client = connect(&identity, &tls.pool).await.unwrap();
    assert!(list(&mut client).await.unwrap() > 0);
    tasks.drain(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_takes_exchanged_certificates_and_keeps_the_old_ones_while_they_are_broken() {
    let elsewhere = Elsewhere::new();
    let put = |dir: &Path, (chain, key): (String, String)| {
        std::fs::write(dir.join("pool.key"), key).unwrap();
        std::fs::write(dir.join("pool.pem"), chain).unwrap();
    };
    let tls = tls_pool_with(|config, dir| shown(config, dir, elsewhere.server(-1, 30))).await;
    // The token names the other authority, which signed the pool's certificate.
    let device = tls.device("acme", "cam-1").await;
    let mut first = device.connect(&tls.pool).await;
    assert!(list(&mut first).await.unwrap() > 0);
    std::fs::write(tls.dir.path().join("pool.pem"), "nonsense").unwrap();
    tls.pool.reload();
    assert!(list(&mut device.connect(&tls.pool).await).await.unwrap() > 0);
    // A pool that is known by another authority from now on: the device no longer knows it.
    let other = Elsewhere::new();
    put(tls.dir.path(), other.server(-1, 30));
    let exchanged = tokio::time::timeout(PATIENCE, async {
        while connect(&device.identity(), &tls.pool).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    exchanged.await.expect("the new certificate is shown");
    let error = connect(&device.identity(), &tls.pool).await.unwrap_err().to_string();
    assert!(error.contains("authority that is not trusted"), "{error}");
    // A connection that was made before goes on, and the agent may be told of the new authority.
    assert!(list(&mut first).await.unwrap() > 0);
    let ca = tls.dir.path().join("company.pem");
    std::fs::write(&ca, &other.pem).unwrap();
    let config = millgate_edge::identity::IdentityConfig { ca: vec![ca], ..device.config() };
    let identity = Identity::open(&config).unwrap();
    assert!(list(&mut connect(&identity, &tls.pool).await.unwrap()).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_clock_says_1970_reaches_its_pool() {
    let in_1970 = || Arc::new(Floor::with_system(None, || SystemTime::UNIX_EPOCH + DAY));
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    let identity = Identity::with_clock(&device.config(), in_1970()).unwrap();
    assert!(identity.clock().behind().is_some());
    assert!(list(&mut connect(&identity, &tls.pool).await.unwrap()).await.unwrap() > 0);
    // The pool's certificate begins after everything that the device knows to be past: then that is past too.
    let elsewhere = Elsewhere::new();
    let later = tls_pool_with(|config, dir| shown(config, dir, elsewhere.server(40, 30))).await;
    let device = later.device("acme", "cam-1").await;
    let identity = Identity::with_clock(&device.config(), in_1970()).unwrap();
    assert!(list(&mut connect(&identity, &later.pool).await.unwrap()).await.unwrap() > 0);
    assert!(identity.clock().now() > SystemTime::now() + 39 * DAY);
    // A certificate that has ended is refused, and the clock is named.
    let tls = tls_pool_with(|config, dir| shown(config, dir, elsewhere.server(-60, 30))).await;
    let claim = tls.claim("acme", None, HOUR);
    let error = Device::new().enrol(&tls.pool.url(), &claim, "cam").await.unwrap_err().to_string();
    assert!(error.contains("ended on") && error.contains("is the clock right?"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_called_by_another_name_says_which_key_to_set() {
    let elsewhere = Elsewhere::new();
    let tls =
        tls_pool_with(|config, dir| shown(config, dir, elsewhere.server_for(&["pool.example"], -1, 30)))
            .await;
    let claim = tls.claim("acme", None, HOUR);
    let error = Device::new().enrol(&tls.pool.url(), &claim, "cam").await.unwrap_err().to_string();
    for words in ["pool.example", "127.0.0.1", "tls.names"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_never_shake_hands_hold_nobody_up() {
    let tls = tls_pool().await;
    let device = tls.device("acme", "cam-1").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(tls.pool.grpc_addr()).await.unwrap());
    }
    let mut client = tokio::time::timeout(Duration::from_secs(5), device.connect(&tls.pool)).await.unwrap();
    assert!(list(&mut client).await.unwrap() > 0);
    // Plain text at the door of TLS is no request.
    let plain = tonic::transport::Endpoint::from_shared(format!("http://{}", tls.pool.grpc_addr())).unwrap();
    let answered = match plain.connect().await {
        Ok(channel) => list(&mut ExpertServiceClient::new(channel)).await.is_ok(),
        Err(_) => false,
    };
    assert!(!answered);
}

#[test]
fn a_pool_never_speaks_plain_text_to_the_world_unless_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cloud.toml");
    std::fs::write(&config, "grpc = \"0.0.0.0:0\"\n[tls]\nenabled = false\n").unwrap();
    let path = config.display().to_string();
    let ran = run("millgate-cloud", &["serve", "--config", &path]);
    assert!(ran.code == 2 && ran.stderr.contains("plaintext_beyond_loopback = true"), "{}", ran.stderr);
}

#[test]
fn a_hang_up_reloads_and_no_signal_but_one_to_stop_ends_a_pool() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = format!(
        "bundle = \"\"\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n\
         state_dir = \"{}\"\n[tls]\nenabled = true\n",
        state.display()
    );
    std::fs::write(dir.path().join("cloud.toml"), config).unwrap();
    let mut pool = Command::new(binary("millgate-cloud"))
        .args(["serve", "--config"])
        .arg(dir.path().join("cloud.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(64);
    let log = std::io::BufReader::new(pool.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in std::io::BufRead::lines(log).map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let wait_for = |words: &str| {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return;
            }
        }
        panic!("{words} was not logged");
    };
    wait_for("INFO serving ");
    let pid = rustix::process::Pid::from_child(&pool);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_for("certificates were read again");
    for (signal, name) in
        [(rustix::process::Signal::USR1, "SIGUSR1"), (rustix::process::Signal::XFSZ, "SIGXFSZ")]
    {
        rustix::process::kill_process(pid, signal).unwrap();
        wait_for(name);
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("stopped");
    assert!(pool.wait().unwrap().success());
    drop(told);
    reader.join().unwrap();
}
