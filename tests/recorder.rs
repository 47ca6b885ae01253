//! A relay between agent and pool that writes down every byte that goes up, and reads gRPC messages out of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Over plain TCP. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    addr: SocketAddr,
    /// By connection.
    up: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Listens on a free loopback port and relays to `upstream`.
    pub async fn start(upstream: SocketAddr, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let up = Arc::new(Mutex::new(Vec::new()));
        let this = Self { addr, up };
        let (relay, tasks) = (this.clone(), tasks.clone());
        tasks.clone().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(upstream).await else { continue };
                let connection = {
                    let mut up = relay.up.lock().expect("nobody panicked");
                    up.push(Vec::new());
                    up.len() - 1
                };
                let relay = relay.clone();
                tasks.spawn(async move { relay.pass(client, server, connection).await });
            }
        });
        this
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where to connect instead of upstream.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Everything that went up so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.up.lock().expect("nobody panicked").concat()
    }

    /// What was asked of experts, in the order of the streams.
    pub fn requests(&self) -> Vec<v1::RunExpertsRequest> {
        let up = self.up.lock().expect("nobody panicked");
        up.iter().flat_map(|connection| messages(connection)).collect()
    }

    async fn pass(&self, mut client: TcpStream, mut server: TcpStream, connection: usize) {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let up = async {
            let mut chunk = vec![0; 16 << 10];
            loop {
                let read = from_client.read(&mut chunk).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                self.up.lock().expect("nobody panicked")[connection].extend_from_slice(&chunk[..read]);
                if to_server.write_all(&chunk[..read]).await.is_err() {
                    break;
                }
            }
        };
        let down = tokio::io::copy(&mut from_server, &mut to_client);
        tokio::select! {
            () = up => {}
            _ = down => {}
        }
    }
}

/// The messages of one connection: its DATA frames by stream, cut as gRPC does. A ListExperts request has no fields, and
/// reads as an empty one.
fn messages(connection: &[u8]) -> Vec<v1::RunExpertsRequest> {
    let mut rest = connection.strip_prefix(PREFACE).expect("HTTP/2");
    let mut streams: std::collections::BTreeMap<u32, Vec<u8>> = std::collections::BTreeMap::new();
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let Some(payload) = after.get(..length) else { break };
        rest = &after[length..];
        if kind == 0 {
            assert_eq!(flags & 8, 0, "nobody pads");
            streams.entry(stream).or_default().extend_from_slice(payload);
        }
    }
    let mut requests = Vec::new();
    for stream in streams.values() {
        let mut rest = &stream[..];
        while let Some((head, after)) = rest.split_first_chunk::<5>() {
            assert_eq!(head[0], 0, "nobody compresses");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(message) = after.get(..length) else { break };
            requests.push(v1::RunExpertsRequest::decode(message).expect("a request"));
            rest = &after[length..];
        }
    }
    requests
}
