use tokio::time::timeout;

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(5);

/// A peer that sends back what it gets.
async fn echo(tasks: &Tasks) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let more = tasks.clone();
    tasks.spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            more.spawn(async move {
                let (mut from, mut to) = peer.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    addr
}

async fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
    stream.write_all(&[byte]).await?;
    stream.read_u8().await
}

#[tokio::test]
async fn bytes_pass_and_are_counted() {
    let tasks = Tasks::new();
    let link = Link::start(echo(&tasks).await, &tasks).await.unwrap();
    let mut stream = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(ask(&mut stream, 7).await.unwrap(), 7);
    assert_eq!((link.bytes_up(), link.bytes_down()), (1, 1));
}

#[tokio::test]
async fn a_cut_is_silent_and_what_was_sent_arrives_after_it() {
    let tasks = Tasks::new();
    let link = Link::start(echo(&tasks).await, &tasks).await.unwrap();
    let mut old = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(ask(&mut old, 1).await.unwrap(), 1);
    link.cut();
    assert!(timeout(SHORT, ask(&mut old, 2)).await.is_err(), "bytes passed a cut");
    let mut new = TcpStream::connect(link.addr()).await.unwrap();
    assert!(timeout(SHORT, ask(&mut new, 3)).await.is_err(), "a new connection passed a cut");
    link.restore();
    assert_eq!(timeout(LONG, old.read_u8()).await.unwrap().unwrap(), 2);
    assert_eq!(timeout(LONG, new.read_u8()).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_hard_cut_resets_old_and_new_connections() {
    let tasks = Tasks::new();
    let link = Link::start(echo(&tasks).await, &tasks).await.unwrap();
    let mut old = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(ask(&mut old, 1).await.unwrap(), 1);
    link.cut_hard();
    let ended = timeout(LONG, old.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    let refused = async {
        let mut new = TcpStream::connect(link.addr()).await?;
        ask(&mut new, 2).await
    };
    assert!(timeout(LONG, refused).await.unwrap().is_err());
    link.restore();
    let mut new = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(timeout(LONG, ask(&mut new, 3)).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn it_ends_with_its_tasks() {
    let (peers, tasks) = (Tasks::new(), Tasks::new());
    let link = Link::start(echo(&peers).await, &tasks).await.unwrap();
    let mut stream = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(ask(&mut stream, 1).await.unwrap(), 1);
    assert_eq!(tasks.drain(LONG).await, 0);
    assert!(TcpStream::connect(link.addr()).await.is_err());
}
