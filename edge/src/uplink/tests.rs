use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Status;
use tonic::transport::Endpoint;

use super::*;

/// SETTINGS, and the head of an answer to the first call: `:status 200`.
const HALF_AN_ANSWER: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];

/// What a call is answered over a connection that says `words` and ends.
async fn broken(words: &'static [u8], is_reset: bool) -> Status {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 64];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(words).await.unwrap();
        sleep_until((Instant::now() + Duration::from_millis(100)).into()).await;
        if is_reset {
            stream.set_zero_linger().unwrap();
        }
    };
    let ask = async {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut client = ExpertServiceClient::new(channel);
        client.run_experts(v1::RunExpertsRequest::default()).await.unwrap_err()
    };
    tokio::join!(serve, ask).1
}

#[tokio::test]
async fn a_broken_line_is_no_failure_of_an_expert() {
    for (words, is_reset) in [(&b""[..], false), (b"", true), (HALF_AN_ANSWER, false), (HALF_AN_ANSWER, true)]
    {
        let status = broken(words, is_reset).await;
        assert!(matches!(refused(&status), Err(Missing::Offline | Missing::Deadline)), "{status:?}");
    }
    for status in [Status::internal("it broke"), Status::unknown("nobody knows"), Status::not_found("x")] {
        assert!(refused(&status).unwrap().answers[0].error.is_some());
    }
    assert!(matches!(refused(&Status::resource_exhausted("later")), Err(Missing::Shed)));
}
