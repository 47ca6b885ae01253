//! The bad line itself: the kernel's TCP and UDP meet the weather that was set.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use system_tests::line::relay::Relay;
use system_tests::line::{Line, LineError, Loss, Rebind, Weather, pcap};
use system_tests::{PATIENCE, skip};

const MS: Duration = Duration::from_millis(1);

/// A line, or a word on why this machine has none.
fn line(made: Result<Line, LineError>) -> Option<Line> {
    made.inspect_err(|error| skip(&error.to_string())).ok()
}

/// Answers each question, a number and some words, with its sender's address and the number.
fn echo(at: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(at).unwrap();
    let addr = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if &buffer[..len] == b"end" {
                return;
            }
            let question = String::from_utf8_lossy(&buffer[..len]);
            let number = question.split(' ').next().unwrap_or_default();
            socket.send_to(format!("{from} {number}").as_bytes(), from).unwrap();
        }
    });
    addr
}

/// Asks until there is an answer.
fn seen_as(client: &UdpSocket, server: SocketAddr) -> SocketAddr {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 100];
    // An answer that comes late to an earlier question has another number.
    let number = fastrand::u64(..);
    loop {
        client.send_to(format!("{number} who am I?").as_bytes(), server).unwrap();
        while let Ok(len) = client.recv(&mut buffer) {
            let answer = std::str::from_utf8(&buffer[..len]).unwrap();
            let (address, answered) = answer.split_once(' ').unwrap();
            if answered == number.to_string() {
                return address.parse().unwrap();
            }
        }
        assert!(Instant::now() < until, "no answer");
    }
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(Some(300 * MS)).unwrap();
    client
}

#[test]
fn delay_rate_and_a_cut_are_felt_by_tcp() {
    let Some(line) = line(Line::open_here(1)) else { return };
    let server = TcpListener::bind((line.pool_ip(), 0)).unwrap();
    let target = SocketAddr::from((line.target_ip(), server.local_addr().unwrap().port()));
    line.set(Weather { delay: 20 * MS, rate: Some(8_000_000), ..Weather::default() });
    let begun = Instant::now();
    let mut sender = TcpStream::connect(target).unwrap();
    assert!(begun.elapsed() >= 40 * MS, "a round trip");
    let (mut receiver, from) = server.accept().unwrap();
    assert_ne!(from.ip(), sender.local_addr().unwrap().ip(), "it came by the line");

    // A megabyte at a megabyte a second.
    let begun = Instant::now();
    let sending = std::thread::spawn(move || {
        sender.write_all(&vec![7; 1_000_000]).unwrap();
        sender
    });
    let mut bytes = vec![0; 1_000_000];
    receiver.read_exact(&mut bytes).unwrap();
    let took = begun.elapsed();
    assert!(took > 950 * MS, "{took:?}");
    let mut sender = sending.join().unwrap();

    line.cut();
    sender.write_all(b"x").unwrap();
    receiver.set_read_timeout(Some(500 * MS)).unwrap();
    assert!(receiver.read(&mut bytes).is_err());
    line.restore();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(receiver.read(&mut bytes).unwrap(), 1);
    let (up, down) = line.counts();
    assert!(up.cut > 0 && up.passed_bytes > 1_000_000 && down.passed > 0, "{up:?} {down:?}");
}

#[test]
fn udp_is_lost_blocked_moved_and_rebound() {
    let Some(line) = line(Line::open_here(2)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("line.pcap");
    line.capture(&file).unwrap();
    let server = echo((line.pool_ip(), 0).into());
    let target = SocketAddr::from((line.target_ip(), server.port()));
    let client = client();
    let first = seen_as(&client, target);
    assert_eq!(first.port(), client.local_addr().unwrap().port());

    line.change_address().unwrap();
    let second = seen_as(&client, target);
    assert_ne!(first.ip(), second.ip());
    line.rebind(Rebind::Ports);
    let third = seen_as(&client, target);
    assert_eq!(second.ip(), third.ip());
    assert_ne!(second.port(), third.port());
    line.rebind(Rebind::Address);
    assert_ne!(seen_as(&client, target).ip(), third.ip());

    line.block_udp(true);
    client.send_to(b"blocked", target).unwrap();
    let mut buffer = [0; 100];
    while let Ok(len) = client.recv(&mut buffer) {
        assert!(!buffer[..len].ends_with(b"blocked"));
    }
    line.block_udp(false);
    line.set(Weather { loss: Loss::Random(0.5), ..Weather::default() });
    for _ in 0..200 {
        client.send_to(b"?", target).unwrap();
    }
    // The forwarder may be behind; an answer that comes late to an earlier question says nothing of these.
    let asked = Instant::now();
    let up = loop {
        let (up, _) = line.counts();
        if up.lost > 50 || asked.elapsed() > PATIENCE {
            break up;
        }
        std::thread::yield_now();
    };
    assert!(up.blocked >= 1 && up.lost > 50, "{up:?}");
    line.end_capture().unwrap();
    let packets = pcap::read(&file).unwrap();
    assert!(packets.iter().any(|packet| packet.ends_with(b"who am I?")));
    UdpSocket::bind((line.pool_ip(), 0)).unwrap().send_to(b"end", server).unwrap();
}

#[test]
fn a_device_in_its_namespace_reaches_the_pool_by_the_line_alone() {
    let Some(line) = line(Line::open(3)) else { return };
    let server = TcpListener::bind((line.pool_ip(), 0)).unwrap();
    let target = SocketAddr::from((line.target_ip(), server.local_addr().unwrap().port()));
    let say = |text: &str| format!("exec 3<>/dev/tcp/{}/{} && echo {text} >&3", target.ip(), target.port());
    let heard = |line: &Line| {
        let mut child = line.command("bash").args(["-c", &say("here")]).spawn().unwrap();
        let (mut stream, from) = server.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here\n");
        assert!(child.wait().unwrap().success());
        from.ip()
    };
    let first = heard(&line);
    assert_eq!(Some(first), line.device_ip().map(Into::into));
    line.drop_address().unwrap();
    let lost = line.command("bash").args(["-c", &say("lost")]).output().unwrap();
    assert!(!lost.status.success());
    line.take_address().unwrap();
    assert_ne!(heard(&line), first);

    // The plant's own network goes on beside it.
    line.cut();
    let plant = TcpListener::bind((line.plant_ip(), 0)).unwrap();
    let to_plant = format!("exec 3<>/dev/tcp/{}/{}", line.plant_ip(), plant.local_addr().unwrap().port());
    assert!(line.command("bash").args(["-c", &to_plant]).status().unwrap().success());
    assert_eq!(plant.accept().unwrap().1.ip(), line.plant_device_ip());

    let namespace = line.namespace().unwrap().to_owned();
    let mut left = line.command("sleep").arg("1000").spawn().unwrap();
    drop(line);
    assert!(!left.wait().unwrap().success(), "what ran in it has ended with it");
    let names = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!String::from_utf8(names.stdout).unwrap().contains(&namespace));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fallback_delays_cuts_and_blocks_without_root() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tasks = millgate_shared::shutdown::Tasks::new();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    echo(addr);
    let relay = Relay::start(addr, 4, &tasks).await.unwrap();
    relay.set(Weather { delay: 30 * MS, rate: Some(8_000_000), ..Weather::default() });

    let mut client = tokio::net::TcpStream::connect(relay.addr()).await.unwrap();
    let (mut served, _) = server.accept().await.unwrap();
    let begun = Instant::now();
    let send = async {
        client.write_all(&vec![1; 500_000]).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut bytes = Vec::new();
    let (read, ()) = tokio::join!(served.read_to_end(&mut bytes), send);
    assert_eq!(read.unwrap(), 500_000);
    assert!(begun.elapsed() > 480 * MS, "{:?}", begun.elapsed());

    relay.cut();
    served.write_all(b"late").await.unwrap();
    let mut text = [0; 4];
    assert!(tokio::time::timeout(300 * MS, client.read_exact(&mut text)).await.is_err());
    relay.restore();
    tokio::time::timeout(PATIENCE, client.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"late");

    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut answer = [0; 100];
    udp.send_to(b"?", relay.addr()).await.unwrap();
    tokio::time::timeout(PATIENCE, udp.recv(&mut answer)).await.unwrap().unwrap();
    relay.block_udp(true);
    udp.send_to(b"?", relay.addr()).await.unwrap();
    assert!(tokio::time::timeout(300 * MS, udp.recv(&mut answer)).await.is_err());
    assert_eq!(relay.counts().0.blocked, 1);
    tasks.drain(Duration::from_secs(1)).await;
}
