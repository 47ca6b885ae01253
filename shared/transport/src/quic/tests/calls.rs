//! Every shape of call, with what can ride along.

use millgate_wire::proto::v1::Tensor;

use super::*;

#[tokio::test]
async fn unary_calls_carry_metadata_both_ways_and_the_connections_extensions() {
    let both = both(Limits::default()).await;
    let mut request = Request::new(ask(""));
    request.metadata_mut().insert("echo", "a b".parse().unwrap());
    request.metadata_mut().insert_bin("echo-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255, 10]));
    let response = client(&both).run_experts(request).await.unwrap();
    assert_eq!(response.metadata().get("echo").unwrap(), "a b");
    assert_eq!(response.metadata().get_bin("echo-bin").unwrap().to_bytes().unwrap(), vec![0, 255, 10]);
    let message = response.into_inner();
    assert_eq!((message.call_id, message.node.as_str()), (7, "from the connection"));
}

#[tokio::test]
async fn an_error_keeps_its_code_words_details_and_metadata() {
    let both = both(Limits::default()).await;
    let status = client(&both).run_experts(ask("refuse")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "füll: 100 %"));
    assert_eq!(status.details(), [1, 0, 255]);
    assert_eq!(status.metadata().get("retry").unwrap(), "later");
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented_and_what_panics_fails_alone() {
    let both = both(Limits::default()).await;
    let other =
        millgate_wire::proto::v1::inference_service_client::InferenceServiceClient::new(both.channel.clone());
    let status = { other }.decide(millgate_wire::proto::v1::DecideRequest::default()).await.unwrap_err();
    // The generated server knows its own methods only.
    assert_eq!(status.code(), Code::Unimplemented);
    let status = client(&both).run_experts(ask("panic")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    client(&both).run_experts(ask("")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_goes_through_and_a_larger_one_is_refused() {
    let both = both(Limits::default()).await;
    let tensor = |bytes: usize| Tensor { data: vec![7; bytes].into(), ..Default::default() };
    let request = RunExpertsRequest { tensors: vec![tensor(MAX_MESSAGE_BYTES - 1024)], ..ask("") };
    let answer = client(&both).run_experts(request).await.unwrap().into_inner();
    assert_eq!(answer.answers[0].outputs[0].data.len(), MAX_MESSAGE_BYTES - 1024);
    let request = RunExpertsRequest { tensors: vec![tensor(MAX_MESSAGE_BYTES + 1)], ..ask("") };
    let mut unbounded = client(&both).max_encoding_message_size(usize::MAX);
    assert_eq!(unbounded.run_experts(request).await.unwrap_err().code(), Code::OutOfRange);
    client(&both).run_experts(ask("")).await.unwrap();
}

#[tokio::test]
async fn compression_works() {
    let both = both(Limits::default()).await;
    let mut client =
        client(&both).send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    let tensor = Tensor { data: vec![7; 1 << 20].into(), ..Default::default() };
    let before = both.channel.stats();
    let request = RunExpertsRequest { tensors: vec![tensor], ..ask("") };
    let answer = client.run_experts(request).await.unwrap().into_inner();
    assert_eq!(answer.answers[0].outputs[0].data.len(), 1 << 20);
    let after = both.channel.stats();
    assert!(
        after.sent_bytes - before.sent_bytes < 1 << 16
            && after.received_bytes - before.received_bytes < 1 << 16
    );
}

#[tokio::test]
async fn a_stream_answers_while_it_is_asked() {
    let both = both(Limits::default()).await;
    let (asks, receiver) = tokio::sync::mpsc::channel(1);
    let requests =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut answers = client(&both).run_experts_stream(requests).await.unwrap().into_inner();
    // The sender goes on by itself while nobody reads.
    for call_id in 0..10 {
        asks.send(RunExpertsRequest { call_id, ..Default::default() }).await.unwrap();
    }
    for call_id in 0..10 {
        assert_eq!(answers.message().await.unwrap().unwrap().call_id, call_id);
    }
    asks.send(RunExpertsRequest { call_id: 10, ..Default::default() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().call_id, 10);
    drop(asks);
    assert!(answers.message().await.unwrap().is_none());
    until(&both.echo.working, 0).await;
}

#[tokio::test]
async fn many_calls_at_once_keep_to_the_bound_on_streams() {
    let both = both(Limits { streams: 4, ..Limits::default() }).await;
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut client = client(&both);
            AbortOnDropHandle::new(Tasks::new().spawn(async move { client.run_experts(ask("never")).await }))
        })
        .collect();
    until(&both.echo.working, 4).await;
    let mut request = Request::new(ask(""));
    request.set_timeout(Duration::from_millis(50));
    let status = client(&both).run_experts(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    drop(stuck);
    let calls = (0..64).map(|_| {
        let mut client = client(&both);
        async move { client.run_experts(ask("")).await }
    });
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_the_sender_back() {
    let both = both(Limits::default()).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let tensor = Tensor { data: vec![7; 1 << 18].into(), ..Default::default() };
    let requests = stream::repeat_with(move || {
        count.fetch_add(1 << 18, Ordering::SeqCst);
        RunExpertsRequest {
            tensors: vec![tensor.clone()],
            experts: vec!["x".repeat(200)],
            ..Default::default()
        }
    });
    // Nobody reads at the other end: the service's future is dropped, and its streams kept.
    let (mut outgoing, incoming) = both.channel.connection().open_bi().await.unwrap();
    let head =
        head::RequestHead::encode("/millgate.v1.ExpertService/RunExperts", &http::HeaderMap::new()).unwrap();
    outgoing.write_all_chunks(&mut [head]).await.unwrap();
    drop((outgoing, incoming));
    both.serving.abort();
    let mut client = client(&both);
    let call = client.run_experts_stream(requests);
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    let window = Tuning::agent().send_window as usize + Tuning::agent().stream_window as usize;
    assert!(sent.load(Ordering::SeqCst) <= window + (1 << 20), "{sent:?}");
}
