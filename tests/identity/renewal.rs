//! A device's certificate in the course of time: renewed before it ends and after, through a proxy, by a running agent.

use super::*;
use millgate_shared::metrics::Format;

/// An HTTP proxy that connects whatever it is asked for to one address, and counts.
async fn proxy(to: SocketAddr, tasks: &Tasks) -> (Proxy, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (counted, inner) = (Arc::new(AtomicUsize::new(0)), tasks.clone());
    let counting = Arc::clone(&counted);
    tasks.spawn(async move {
        while let Some(Ok((mut client, _))) = inner.token().run_until_cancelled(listener.accept()).await {
            let (counting, stop) = (Arc::clone(&counting), inner.token().clone());
            inner.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"CONNECT pool.example:8001 "));
                counting.fetch_add(1, Ordering::Relaxed);
                let mut server = TcpStream::connect(to).await.unwrap();
                client.write_all(b"HTTP/1.1 200 yes\r\n\r\n").await.unwrap();
                stop.run_until_cancelled(tokio::io::copy_bidirectional(&mut client, &mut server)).await;
            });
        }
    });
    (proxy, counted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_behind_a_proxy_enrols_and_renews_through_it() {
    let tls = tls_pool_with(|config, _| config.tls.names = vec!["pool.example".to_owned()]).await;
    let tasks = Tasks::new();
    let (proxy, counted) = proxy(tls.pool.grpc_addr(), &tasks).await;
    let device = Device::new();
    let ask = Enrolment {
        pool: "https://pool.example:8001".to_owned(),
        token: tls.claim("acme", Some("cam-1"), HOUR),
        device: String::new(),
        ca: Vec::new(),
        proxy: Some(proxy.clone()),
        force: false,
    };
    enrol(&device.store(), &ask).await.unwrap();
    assert_eq!(counted.load(Ordering::Relaxed), 1);
    // The enrolment's record names the pool.
    signed_ago(&tls, &device, 8 * DAY, 10 * DAY);
    std::fs::remove_file(tls.state_dir().join("devices.json")).unwrap();
    let identity = device.identity();
    let mut changes = identity.changes();
    changes.mark_unchanged();
    identity.keep([], Some(proxy), &tasks);
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("it is renewed").unwrap();
    assert!(identity.certificate().unwrap().not_after > SystemTime::now() + 80 * DAY);
    assert_eq!(counted.load(Ordering::Relaxed), 2);
    assert_eq!(tasks.drain(PATIENCE).await, 0);
}

async fn renewed(identity: &Identity, url: &str, tasks: &Tasks) -> Certificate {
    let mut changes = identity.changes();
    changes.mark_unchanged();
    identity.keep([url.to_owned()], None, tasks);
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("it is renewed").unwrap();
    identity.certificate().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_in_time_and_after_a_long_winter() {
    let tls = tls_pool().await;
    // Two thirds of its life are over, and the little that some wait longer; it has ended; it has ended long ago.
    for (ago, life) in [(8 * DAY, 10 * DAY), (11 * DAY, 10 * DAY), (300 * DAY, 10 * DAY)] {
        let (device, tasks) = (Device::new(), Tasks::new());
        signed_ago(&tls, &device, ago, life);
        std::fs::remove_file(tls.state_dir().join("devices.json")).ok();
        let identity = device.identity();
        let old = identity.certificate().unwrap();
        let new = renewed(&identity, &tls.pool.url(), &tasks).await;
        assert!(
            new.not_after > SystemTime::now() + 80 * DAY && new.key == old.key && new.serial != old.serial
        );
        let mut client = connect(&identity, &tls.pool).await.unwrap();
        assert!(list(&mut client).await.unwrap() > 0);
        // It is on the disk too.
        assert_eq!(device.identity().certificate().unwrap(), new);
        assert_eq!(tasks.drain(PATIENCE).await, 0);
    }
}

/// Handshakes of an agent that brought a line.
fn lines_made(agent: &TestAgent, identity: &Identity) -> usize {
    let text = Metrics::of(identity, &agent.agent).render(&agent.agent, Format::Classic);
    let is_made = |line: &&str| line.contains("uplink_dials_total{") && line.contains("outcome=\"ok\"");
    let made = text.lines().filter(is_made).filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    made.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_makes_a_new_line_with_a_new_certificate_and_misses_no_answer() {
    let sample = &recorded_of("xsdd", 1)[0].path;
    for transport in [Allowed::Tcp, Allowed::Quic] {
        let (tls, device, tasks) = (tls_pool().await, Device::new(), Tasks::new());
        signed_ago(&tls, &device, 8 * DAY, 10 * DAY);
        let identity = device.identity();
        let url = tls.pool.url();
        let pools = Pools { identity: Some(identity.clone()), transport, ..Pools::from(url.clone()) };
        let agent = agent_of(pools, |config| config.mode = Mode::Always).await;
        assert_eq!(agent.decide(sample).await.state, State::Final);
        let before = lines_made(&agent, &identity);
        renewed(&identity, &url, &tasks).await;
        let seen = tokio::time::timeout(PATIENCE, async {
            while lines_made(&agent, &identity) == before {
                assert_eq!(agent.decide(sample).await.state, State::Final);
            }
        });
        seen.await.expect("a new line");
        assert_eq!(agent.decide(sample).await.state, State::Final);
        tasks.drain(PATIENCE).await;
    }
}
