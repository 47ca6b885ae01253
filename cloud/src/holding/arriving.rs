//! A gRPC request's body: what its messages need is taken before they are read, they have a time to arrive in, and what is
//! compressed is undone here, step by step, since whoever reads the body would do it at once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep, sleep_until};

use super::heads::{self, Heads, Piece};
use super::ledger::Full;
use super::pace::Pace;
use super::unfolding::{Kind, Unfolding};
use super::unpack::{STEP, Step, Unpacking};
use super::{Account, Hold};
use crate::failure::Failure;

/// The header that names what messages are compressed with, and the only such thing that is undone here.
const ENCODING: &str = "grpc-encoding";
const GZIP: &str = "gzip";
/// The flag of a message that is compressed.
const PACKED: u8 = 1;
/// Steps of undoing a message that are taken in one turn of a thread.
const STEPS_A_TURN: usize = 4;

/// How long a message of a stream waits for room, since a refusal would end the stream with all that is under way on it: most
/// answers are sent by then. Meanwhile nothing is read, which holds its sender back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks for room.
const LOOK: Duration = Duration::from_millis(10);

/// A message that has begun, and what it holds.
#[derive(Debug)]
enum Message {
    /// Waiting for room since then; its flag and its length are known.
    Waiting(u8, u32, Instant),
    /// Passed on as it comes.
    Passing(Option<Unfolding>, Hold),
    /// Compressed, and collected.
    Packed(BytesMut, Hold),
    /// Whole, and being undone.
    Unpacking(Unpacking, Hold),
}

/// What is known of a request before its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// Its compressed messages are undone here.
    pub(super) is_gzip: bool,
    /// One message comes after the other.
    pub(super) is_stream: bool,
    /// What its messages are of, if of anything that unfolds.
    pub(super) kind: Option<Kind>,
}

impl Traits {
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        Self {
            is_gzip: headers.get(ENCODING).is_some_and(|name| name == GZIP),
            is_stream: path.contains("Stream") || path.ends_with("/ServerReflectionInfo"),
            kind: Kind::of_method(path),
        }
    }
}

/// A body on its way to the service.
pub(super) struct Arriving<B: Body> {
    body: B,
    account: Account,
    /// What ends the body when a message cannot be taken.
    refuse: fn(&Failure) -> B::Error,
    /// The longest message that is read; it is for the service to say so.
    longest: usize,
    is_gzip: bool,
    /// Whether one message comes after the other.
    is_stream: bool,
    /// What messages are of; `None`: of nothing that unfolds.
    kind: Option<Kind>,
    heads: Heads,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
    /// What has come and is not looked at yet.
    input: Bytes,
    message: Option<Message>,
    /// A message has begun.
    has_begun: bool,
    /// What is to be passed on.
    output: VecDeque<Bytes>,
    is_over: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Arriving<B> {
    pub(super) fn new(
        body: B,
        account: Account,
        Traits { is_gzip, is_stream, kind }: Traits,
        longest: usize,
        refuse: fn(&Failure) -> B::Error,
    ) -> Self {
        let (heads, pace, output) = (Heads::default(), Pace::default(), VecDeque::new());
        let (timer, input, message) = (None, Bytes::new(), None);
        Self {
            body,
            account,
            refuse,
            longest,
            is_gzip,
            is_stream,
            kind,
            heads,
            pace,
            timer,
            input,
            message,
            has_begun: false,
            output,
            is_over: false,
        }
    }

    #[cfg(test)]
    pub(super) fn set_stream(&mut self) {
        self.is_stream = true;
    }

    /// Whether it has a time by which more has to come.
    #[cfg(test)]
    pub(super) fn is_timed(&self) -> bool {
        self.timer.is_some()
    }

    /// Looks at what has come; `false`: there is no more of it.
    fn read(&mut self) -> Result<bool, Failure> {
        let Some(piece) = self.heads.next(&mut self.input) else { return Ok(false) };
        match piece {
            Piece::Head { flag, length } => self.begin(flag, length, None)?,
            Piece::Content(bytes) => {
                match &mut self.message {
                    Some(Message::Packed(packed, _)) => packed.extend_from_slice(&bytes),
                    Some(Message::Passing(unfolding, hold)) => {
                        if let Some(unfolding) = unfolding {
                            hold.grow(unfolding.pass(&bytes))?;
                        }
                        self.output.push_back(bytes);
                    }
                    _ => self.output.push_back(bytes),
                }
                self.pass();
            }
            Piece::End => {
                self.pace = Pace::default();
                self.timer = None;
                if let Some(Message::Packed(packed, hold)) = self.message.take() {
                    self.message = Some(Message::Unpacking(Unpacking::new(packed.freeze()), hold));
                }
            }
        }
        Ok(true)
    }

    /// A message begins, or looks again for room since `waits`.
    fn begin(&mut self, flag: u8, length: u32, waits: Option<Instant>) -> Result<(), Failure> {
        // Only a message of a stream comes here again, to look for room.
        if self.has_begun && !self.is_stream {
            return Err(Failure::field("message", "is the second one of a call that takes one"));
        }
        self.has_begun = true;
        // What is too long is refused by its reader.
        let counted = if length as usize > self.longest { 0 } else { u64::from(length) };
        let is_packed = flag == PACKED && self.is_gzip && counted > 0;
        let taken = match is_packed {
            true => self.account.try_take(counted),
            false => self.account.try_take_message(counted),
        };
        let hold = match taken {
            Ok(hold) => hold,
            Err(Full::Share | Full::Whole)
                if self.is_stream && waits.is_none_or(|since| since.elapsed() < PATIENCE) =>
            {
                let since = waits.unwrap_or_else(Instant::now);
                self.message = Some(Message::Waiting(flag, length, since));
                self.timer = Some(Box::pin(sleep(LOOK)));
                return Ok(());
            }
            Err(full) => return Err(self.account.full(full)),
        };
        self.timer = None;
        if is_packed {
            self.message = Some(Message::Packed(BytesMut::with_capacity(length as usize), hold));
        } else {
            self.message = Some(Message::Passing(self.kind.map(Unfolding::new), hold));
            self.output.push_back(Bytes::copy_from_slice(&heads::head(flag, length)));
            self.pass();
        }
        Ok(())
    }

    /// Whoever reads the last byte of a message has it, and asks what it holds.
    fn pass(&mut self) {
        if !self.heads.is_whole() {
            return;
        }
        match self.message.take() {
            Some(Message::Passing(_, hold)) => self.account.messages().begin(hold),
            other => self.message = other,
        }
    }

    /// Undoes as much of a message that has come as fits into one turn.
    fn unpack(&mut self, mut packed: Unpacking, hold: Hold) -> Result<(), Failure> {
        for _ in 0..STEPS_A_TURN {
            if packed.len() > self.longest {
                return Err(Failure::TooLarge { what: "the decompressed message", most: self.longest });
            }
            hold.grow_to_message((packed.len() + STEP) as u64)?;
            let step = packed.step();
            let broken = |error| Failure::field("message", format!("cannot be decompressed: {error}"));
            if step.map_err(broken)? == Step::Done {
                let content = packed.into_content();
                let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
                if let Some(kind) = self.kind {
                    hold.grow(Unfolding::new(kind).pass(&content))?;
                }
                self.account.messages().begin(hold);
                self.output.push_back(Bytes::copy_from_slice(&heads::head(0, length)));
                self.output.push_back(content);
                return Ok(());
            }
        }
        self.message = Some(Message::Unpacking(packed, hold));
        Ok(())
    }

    fn fail(&mut self, failure: &Failure) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.is_over = true;
        (self.message, self.timer) = (None, None);
        Poll::Ready(Some(Err((self.refuse)(failure))))
    }

    /// Waits for more of a message that has begun, for as long as it may take.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A stream may be silent between its messages, and before the first; a call of one message owes it, and then its end.
        let is_owed = !self.is_stream;
        if !self.heads.is_inside() && !is_owed {
            return Poll::Pending;
        }
        let due = self.pace.waits(Instant::now()).into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.output.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            match this.message.take() {
                Some(Message::Waiting(flag, length, since)) => {
                    if let Some(timer) = &mut this.timer
                        && timer.as_mut().poll(cx).is_pending()
                    {
                        this.message = Some(Message::Waiting(flag, length, since));
                        return Poll::Pending;
                    }
                    if let Err(failure) = this.begin(flag, length, Some(since)) {
                        return this.fail(&failure);
                    }
                    continue;
                }
                Some(Message::Unpacking(packed, hold)) => {
                    if let Err(failure) = this.unpack(packed, hold) {
                        return this.fail(&failure);
                    }
                    if this.message.is_some() {
                        // Others have their turn.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    continue;
                }
                other => this.message = other,
            }
            match this.read() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(failure) => return this.fail(&failure),
            }
            let frame = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(this.poll_late(cx));
                    let late = this.account.late();
                    return this.fail(&late);
                }
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.pace.came(data.len(), Instant::now());
                        this.input = data;
                    }
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => {
                    this.is_over = true;
                    return Poll::Ready(other);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_done = self.output.is_empty() && self.input.is_empty() && self.message.is_none();
        is_done && (self.is_over || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
