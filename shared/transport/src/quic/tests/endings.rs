//! How calls and connections end.

use super::*;

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let both = both(Limits::default()).await;
    let mut request = Request::new(ask("never"));
    request.set_timeout(Duration::from_millis(100));
    let status = client(&both).run_experts(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    until(&both.echo.working, 0).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_drops_the_servers_work() {
    let both = both(Limits::default()).await;
    let mut caller = client(&both);
    let call =
        AbortOnDropHandle::new(Tasks::new().spawn(async move { caller.run_experts(ask("never")).await }));
    until(&both.echo.working, 1).await;
    drop(call);
    until(&both.echo.working, 0).await;
    // So does a stream whose answers nobody wants.
    let requests = stream::iter([RunExpertsRequest::default()]).chain(stream::pending());
    let mut answers = client(&both).run_experts_stream(requests).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    assert_eq!(both.echo.working.load(Ordering::SeqCst), 1);
    drop(answers);
    until(&both.echo.working, 0).await;
    client(&both).run_experts(ask("")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_drops_the_servers_work() {
    let both = both(Limits::default()).await;
    let mut caller = client(&both);
    let call = Tasks::new().spawn(async move { caller.run_experts(ask("never")).await });
    until(&both.echo.working, 1).await;
    both.channel.close();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    until(&both.echo.working, 0).await;
    assert_eq!(both.serving.await.unwrap().goodbye(), Some(Goodbye::Done));
}

#[tokio::test]
async fn a_connection_that_is_gone_fails_calls_at_once_with_unavailable() {
    let both = both(Limits::default()).await;
    let mut caller = client(&both);
    let call = Tasks::new().spawn(async move { caller.run_experts(ask("never")).await });
    until(&both.echo.working, 1).await;
    both.connection.close(Goodbye::Cut.code(), b"");
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the connection is gone: the connection was cut")
    );
    assert_eq!(both.channel.closed().await.goodbye(), Some(Goodbye::Cut));
    let status = client(&both).run_experts(ask("")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_drain_answers_what_is_under_way_refuses_the_rest_and_says_goodbye() {
    let both = both(Limits::default()).await;
    let (asks, receiver) = tokio::sync::mpsc::channel(1);
    let requests =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut answers = client(&both).run_experts_stream(requests).await.unwrap().into_inner();
    asks.send(RunExpertsRequest::default()).await.unwrap();
    answers.message().await.unwrap().unwrap();
    both.stop.cancel();
    let status = loop {
        // Calls that were faster than the stop are answered.
        if let Err(status) = client(&both).run_experts(ask("")).await {
            break status;
        }
    };
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the pool is stopping"));
    asks.send(RunExpertsRequest { call_id: 9, ..Default::default() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().call_id, 9);
    drop(asks);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(both.channel.closed().await.goodbye(), Some(Goodbye::Stopping));
    assert!(matches!(both.serving.await.unwrap(), Error::Lost(ConnectionError::LocallyClosed)));
}

#[tokio::test]
async fn a_new_socket_keeps_the_calls() {
    let both = both(Limits::default()).await;
    let (asks, receiver) = tokio::sync::mpsc::channel(1);
    let requests =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let mut answers = client(&both).run_experts_stream(requests).await.unwrap().into_inner();
    let before = both.connection.remote_address();
    both.endpoint.rebind().unwrap();
    asks.send(RunExpertsRequest { call_id: 1, ..Default::default() }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().call_id, 1);
    client(&both).run_experts(ask("")).await.unwrap();
    assert_ne!(both.connection.remote_address(), before);
}

#[tokio::test]
async fn what_is_no_grpc_is_refused_and_the_connection_stays() {
    let both = both(Limits { head: Duration::from_millis(200), ..Limits::default() }).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x81, 0, 0, 0, 1, 0], &[0x81]] {
        let (mut outgoing, mut incoming) = both.channel.connection().open_bi().await.unwrap();
        outgoing.write_all(bytes).await.unwrap();
        let answer = incoming.read_to_end(1 << 16).await.unwrap();
        let head = head::ResponseHead::decode(&answer[blocks::PREFIX..]).unwrap();
        assert!(head.headers.contains_key("grpc-status"), "{head:?}");
    }
    client(&both).run_experts(ask("")).await.unwrap();
}

#[tokio::test]
async fn a_stranger_is_not_connected_to() {
    let (one, other) = (both(Limits::default()).await, both(Limits::default()).await);
    let elsewhere = other._listener.local_addr().unwrap();
    let accept = async { other._listener.accept().await.unwrap().await };
    let (_, refused) = tokio::join!(accept, one.endpoint.connect(elsewhere, "pool"));
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let missing = one.endpoint.connect(elsewhere, "pool/");
    assert!(matches!(missing.await, Err(Error::Connect(_))));
}
