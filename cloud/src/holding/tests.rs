//! Bodies on their way in and out, with a ledger of a known size.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::answering::Answering;
use super::arriving::{Arriving, Traits};
use super::unfolding::Kind;
use super::*;
use crate::access::Access;
use crate::access::config::AccessConfig;
use crate::door::peer::Peer;

const LONGEST: usize = 4 << 20;

/// A body of frames that have come; `None`: no more has come yet.
struct Frames(Vec<Option<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        match self.0.pop() {
            Some(Some(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(None) => {
                self.0.push(None);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// A ledger of so many MiB, and one caller's account.
fn account(mib: u64) -> (Arc<Holding>, Account, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let access = Arc::new(Access::open(dir.path(), AccessConfig::default(), Vec::new()).unwrap());
    let peer = Peer::plain("127.0.0.1:9".parse().unwrap());
    let caller = access.caller(Some(&peer), &HeaderMap::new());
    let holding = Holding::new(&HoldingConfig { memory_mib: mib, calls_per_caller: 2 }, 16);
    let account = Account::new(&holding, &caller, &Principal::local());
    (holding, account, dir)
}

fn message(flag: u8, length: usize, content: &[u8]) -> Vec<u8> {
    [&heads::head(flag, length as u32)[..], content].concat()
}

fn arriving(frames: &[&[u8]], account: &Account, ends: bool) -> Arriving<Frames> {
    let mut frames: Vec<_> = frames.iter().rev().map(|frame| Some(Bytes::copy_from_slice(frame))).collect();
    if !ends {
        frames.insert(0, None);
    }
    let traits = Traits { is_gzip: true, is_stream: false, kind: Some(Kind::Infer) };
    Arriving::new(Frames(frames), account.clone(), traits, LONGEST, |failure| failure.to_string())
}

/// Reads until nothing more comes; gives what came, and whether it is the end.
fn read<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> (Vec<Bytes>, Result<bool, B::Error>) {
    let (mut read, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
    // A body that has turns of its own is asked again.
    let mut pending = 0;
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => {
                read.push(frame.into_data().unwrap_or_default());
                pending = 0;
            }
            Poll::Ready(Some(Err(error))) => return (read, Err(error)),
            Poll::Ready(None) => return (read, Ok(true)),
            Poll::Pending if pending < 100 => pending += 1,
            Poll::Pending => return (read, Ok(false)),
        }
    }
}

fn held(holding: &Holding) -> u64 {
    holding.lock().bytes.taken()
}

#[tokio::test]
async fn a_message_is_charged_before_it_comes_and_passes_unchanged() {
    let (holding, account, _dir) = account(16);
    // A field that is nobody's, of as many bytes as there are.
    let content = [&[0x7a, 0xfc, 0xff, 0x3f][..], &vec![7; (1 << 20) - 4]].concat();
    let whole = message(0, content.len(), &content);
    // Its head alone, and then all.
    let mut body = arriving(&[&whole[..3], &whole[3..5]], &account, false);
    assert!(matches!(read(&mut body).1, Ok(false)));
    assert_eq!(held(&holding), 3 << 20);
    drop(body);
    assert_eq!(held(&holding), 0, "nobody waits for the rest");
    let twice = [&whole[..], &whole[..]].concat();
    let mut body = arriving(&[&twice[..7], &twice[7..]], &account, true);
    body.set_stream();
    account.claim();
    let (pieces, ended) = read(&mut body);
    assert!(matches!(ended, Ok(true)) && pieces.concat() == twice);
    drop(body);
    assert_eq!(held(&holding), 6 << 20, "they wait for their answers");
    drop(account.next());
    assert_eq!(held(&holding), 3 << 20);
    assert!(account.next().is_some() && account.next().is_none());
    let body = arriving(&[], &account, true);
    drop((body, account));
    assert_eq!(held(&holding), 0);
}

#[tokio::test]
async fn a_call_of_one_message_has_no_second_one_by_which_the_first_is_given_back() {
    let (holding, account, _dir) = account(16);
    let sent = [message(0, 1 << 20, &[7; 1 << 20]), message(0, 0, b"")].concat();
    let mut body = arriving(&[&sent], &account, false);
    assert!(read(&mut body).1.unwrap_err().contains("is the second one"));
    assert_eq!(held(&holding), 3 << 20, "the first is with the service");
}

#[tokio::test]
async fn a_call_of_one_message_owes_its_end_too() {
    let (_holding, account, _dir) = account(16);
    let sent = message(0, 3, b"\x7a\x01x");
    let mut body = arriving(&[&sent], &account, false);
    assert!(matches!(read(&mut body).1, Ok(false)) && body.is_timed());
    let mut stream = arriving(&[&sent], &account, false);
    stream.set_stream();
    assert!(matches!(read(&mut stream).1, Ok(false)) && !stream.is_timed());
}

#[tokio::test]
async fn a_message_without_room_ends_its_body() {
    let (holding, account, _dir) = account(16);
    let mut body = arriving(&[&message(0, 2 << 20, b"x")], &account, false);
    assert!(matches!(read(&mut body).1, Ok(false)));
    let mut next = arriving(&[&message(0, 2 << 20, b"x")], &account, false);
    let (_, refused) = read(&mut next);
    assert!(refused.unwrap_err().contains("share of the pool's memory"));
    let mut never = arriving(&[&message(0, 4 << 20, b"x")], &account, false);
    assert!(read(&mut never).1.unwrap_err().starts_with("the message is longer than"));
    // One that is longer than any is its reader's to refuse.
    let mut long = arriving(&[&message(0, LONGEST + 1, b"x")], &account, false);
    assert!(matches!(read(&mut long), (pieces, Ok(false)) if pieces.concat().len() == 6));
    assert_eq!(held(&holding), 6 << 20);
}

#[tokio::test]
async fn a_message_of_a_stream_waits_for_room() {
    let (_holding, account, _dir) = account(16);
    let first = account.take(8 << 20).unwrap();
    let mut body = arriving(&[&message(0, 1 << 20, b"x")], &account, false);
    body.set_stream();
    let (came, ended) = read(&mut body);
    assert!(came.is_empty() && matches!(ended, Ok(false)));
    drop(first);
    // Whoever waits looks again.
    let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), heads::head(0, 1 << 20).as_slice());
}

#[tokio::test]
async fn what_is_compressed_is_undone_within_the_ledger() {
    let (holding, account, _dir) = account(16);
    let pack = |content: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let content = [&[0x7a, 0xfc, 0xff, 0x14][..], &vec![3; 344_060]].concat();
    let (packed, empty) = (pack(&content), pack(b""));
    let sent =
        [message(1, packed.len(), &packed), message(0, 1, b"y"), message(1, empty.len(), &empty)].concat();
    let mut body = arriving(&[&sent[..20], &sent[20..]], &account, true);
    body.set_stream();
    let (pieces, ended) = read(&mut body);
    assert!(matches!(ended, Ok(true)));
    let expected = [message(0, content.len(), &content), message(0, 1, b"y"), message(0, 0, b"")].concat();
    assert!(pieces.concat() == expected);
    drop((body, account));
    assert_eq!(held(&holding), 0);
    // A bomb gets as far as there is room.
    let (holding, account, _dir) = self::account(16);
    let bomb = pack(&vec![0; 64 << 20]);
    let mut body = arriving(&[&message(1, bomb.len(), &bomb)], &account, true);
    assert!(read(&mut body).1.unwrap_err().contains("longer than"));
    drop(body);
    assert_eq!(held(&holding), 0);
    assert!(holding.counts.peak() <= 12 << 20);
    let mut broken = arriving(&[&message(1, 5, b"nonsense")], &account, true);
    assert!(read(&mut broken).1.unwrap_err().contains("cannot be decompressed"));
}

#[tokio::test]
async fn an_answer_holds_its_bytes_until_they_are_sent() {
    let (holding, account, _dir) = account(16);
    let seat = account.enter().unwrap();
    let answer = Frames(vec![Some(Bytes::from(vec![1; 1 << 20]))]);
    let fail: fn(&Failure) -> Result<Frame<Bytes>, String> = |failure| Err(failure.to_string());
    let mut body = Answering::new(answer, seat, fail);
    let (mut pieces, ended) = read(&mut body);
    assert!(matches!(ended, Ok(true)) && pieces.len() == 64 && pieces.concat() == vec![1; 1 << 20]);
    drop(body);
    assert_eq!(held(&holding), 1 << 20);
    pieces.pop();
    assert_eq!(held(&holding), 1 << 20, "it is one answer");
    drop(pieces);
    assert_eq!(held(&holding), 0);
    let seats = [account.enter().unwrap(), account.enter().unwrap()];
    assert!(matches!(account.enter(), Err(Failure::Refused { .. })));
    drop(seats);
    let huge = Frames(vec![Some(Bytes::from(vec![1; 12 << 20]))]);
    let mut body = Answering::new(huge, account.enter().unwrap(), fail);
    assert!(read(&mut body).1.is_err());
}
