use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;
use crate::record::Undecided;

fn record(id: &str) -> Record {
    let undecided = Undecided { path: id.to_owned(), code: "test", message: String::new() };
    Record::of_error(id.to_owned(), &undecided).unwrap()
}

/// Asks for each batch what to answer, and tells what it got.
struct Asked {
    answers: Receiver<Result<(), WriteError>>,
    got: SyncSender<Vec<String>>,
}

impl Write for Asked {
    const BATCH: usize = 2;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        let ids = batch.iter().map(|record| record.id().to_owned()).collect();
        // A test that has seen enough has hung up.
        let _hung_up = self.got.send(ids).is_err();
        self.answers.recv().unwrap_or_else(|_| Err(WriteError::Later("hung up".to_owned())))
    }
}

struct Bench {
    worker: Worker,
    answers: SyncSender<Result<(), WriteError>>,
    got: Receiver<Vec<String>>,
    metrics: SinkMetrics,
    broken: Receiver<String>,
}

fn bench(queue: usize, when_full: WhenFull, retries: Option<u32>) -> Bench {
    let (answers, answer) = sync_channel(100);
    let (tell, got) = sync_channel(100);
    let (break_it, broken) = sync_channel(1);
    let metrics = SinkMetrics::default();
    let settings = Settings { queue, when_full, retries };
    let writer = Asked { answers: answer, got: tell };
    let on_broken = move |message| break_it.send(message).unwrap();
    let worker = Worker::start("test".to_owned(), settings, writer, metrics.clone(), on_broken);
    Bench { worker, answers, got, metrics, broken }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

fn later() -> Result<(), WriteError> {
    Err(WriteError::Later("not now".to_owned()))
}

#[tokio::test]
async fn records_arrive_in_order_and_are_acknowledged() {
    let bench = bench(8, WhenFull::Block, None);
    let first = bench.worker.push(record("a")).await;
    assert_eq!(bench.got.recv().unwrap(), ["a"]);
    let acks = [bench.worker.push(record("b")).await, bench.worker.push(record("c")).await];
    bench.answers.send(Ok(())).unwrap();
    bench.answers.send(Ok(())).unwrap();
    assert_eq!(first.await, Ok(Ack::Settled));
    for ack in acks {
        assert_eq!(ack.await, Ok(Ack::Settled));
    }
    assert_eq!(bench.got.recv().unwrap(), ["b", "c"]);
    assert_eq!(bench.metrics.delivered.get(), 3);
}

#[tokio::test]
async fn a_failure_is_tried_again_until_it_works() {
    let bench = bench(8, WhenFull::Block, None);
    for answer in [later(), later(), Ok(())] {
        bench.answers.send(answer).unwrap();
    }
    assert_eq!(bench.worker.push(record("a")).await.await, Ok(Ack::Settled));
    assert_eq!(bench.metrics.retries.get(), 2);
}

#[tokio::test]
async fn retries_may_be_limited() {
    let bench = bench(8, WhenFull::Block, Some(1));
    for answer in [later(), later()] {
        bench.answers.send(answer).unwrap();
    }
    assert_eq!(bench.worker.push(record("a")).await.await, Ok(Ack::Settled));
    assert_eq!((bench.metrics.given_up.get(), bench.metrics.delivered.get()), (1, 0));
}

#[tokio::test]
async fn a_refused_record_does_not_hold_up_the_next() {
    let bench = bench(8, WhenFull::Block, None);
    bench.answers.send(Err(WriteError::Refused("400".to_owned()))).unwrap();
    bench.answers.send(Ok(())).unwrap();
    assert_eq!(bench.worker.push(record("a")).await.await, Ok(Ack::Settled));
    assert_eq!(bench.worker.push(record("b")).await.await, Ok(Ack::Settled));
    assert_eq!((bench.metrics.refused.get(), bench.metrics.delivered.get()), (1, 1));
}

#[tokio::test]
async fn a_full_queue_blocks_and_refuses_offers() {
    let bench = bench(1, WhenFull::Block, None);
    let _at_work = bench.worker.push(record("a")).await;
    bench.got.recv().unwrap();
    let _queued = bench.worker.push(record("b")).await;
    let third = tokio::time::timeout(Duration::from_millis(20), bench.worker.push(record("c"))).await;
    assert!(third.is_err());
    bench.worker.offer(record("d"));
    assert_eq!(bench.metrics.dropped.get(), 1);
}

#[tokio::test]
async fn a_full_queue_may_drop_its_oldest() {
    let bench = bench(1, WhenFull::DropOldest, None);
    let _at_work = bench.worker.push(record("a")).await;
    bench.got.recv().unwrap();
    let second = bench.worker.push(record("b")).await;
    let _third = bench.worker.push(record("c")).await;
    assert_eq!(second.await, Ok(Ack::Settled));
    assert_eq!(bench.metrics.dropped.get(), 1);
    bench.answers.send(Ok(())).unwrap();
    assert_eq!(bench.got.recv().unwrap(), ["c"]);
}

#[tokio::test]
async fn a_drain_delivers_what_is_queued() {
    let bench = bench(8, WhenFull::Block, None);
    for name in ["a", "b", "c"] {
        drop(bench.worker.push(record(name)).await);
        bench.answers.send(Ok(())).unwrap();
    }
    bench.worker.close();
    assert_eq!(bench.worker.ended(Instant::now() + Duration::from_secs(5)).await, 0);
    assert_eq!(bench.metrics.delivered.get(), 3);
    assert!(bench.worker.push(record("late")).await.await.is_err());
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_receiver_that_is_down() {
    let bench = bench(8, WhenFull::Block, None);
    for _ in 0..50 {
        bench.answers.send(later()).unwrap();
    }
    let ack = bench.worker.push(record("a")).await;
    bench.got.recv().unwrap();
    let waiting = bench.worker.push(record("b")).await;
    bench.worker.close();
    assert_eq!(bench.worker.ended(soon()).await, 2);
    assert!(ack.await.is_err());
    assert!(waiting.await.is_err());
    assert_eq!(bench.metrics.abandoned.get(), 2);
}

#[tokio::test]
async fn a_sink_that_breaks_says_so_once() {
    let bench = bench(8, WhenFull::Block, None);
    bench.answers.send(Err(WriteError::Broken("pipe".to_owned()))).unwrap();
    assert!(bench.worker.push(record("a")).await.await.is_err());
    assert!(bench.broken.recv().unwrap().contains("pipe"));
    assert!(bench.worker.push(record("b")).await.await.is_err());
}

/// Cannot stand one record.
struct Panicky(SyncSender<Vec<String>>);

impl Write for Panicky {
    const BATCH: usize = 8;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        assert!(batch.iter().all(|record| record.id() != "bad"), "it cannot stand this");
        let ids = batch.iter().map(|record| record.id().to_owned()).collect();
        self.0.send(ids).map_err(|_| WriteError::Broken("nobody listens".to_owned()))
    }
}

#[tokio::test]
async fn a_record_that_the_writer_cannot_stand_takes_no_other_with_it() {
    let (tell, got) = sync_channel(100);
    let metrics = SinkMetrics::default();
    let settings = Settings { queue: 8, when_full: WhenFull::Block, retries: None };
    let worker = Worker::start("test".to_owned(), settings, Panicky(tell), metrics.clone(), |_| ());
    let mut acks = Vec::new();
    for id in ["a", "bad", "b", "c"] {
        acks.push(worker.push(record(id)).await);
    }
    for ack in acks {
        assert_eq!(ack.await, Ok(Ack::Settled));
    }
    worker.close();
    assert_eq!(worker.ended(soon()).await, 0);
    assert_eq!(got.try_iter().flatten().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((metrics.refused.get(), metrics.delivered.get()), (1, 3));
}
