//! Messages over a Unix socket: four bytes of length, then JSON; a message may bring one file with it.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::MOST_BYTES;

const PREFIX: usize = 4;
/// A message buffer that has grown beyond this is given back.
const KEPT: usize = 64 << 10;

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    #[error("closed its line")]
    Closed,
    #[error("said nothing for too long")]
    TimedOut,
    #[error("could not be spoken with: {0}")]
    Io(io::Error),
    #[error("sent a message that is none: {0}")]
    Nonsense(String),
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// One end of a socket that messages go through.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    buffer: Vec<u8>,
    limit: Option<Duration>,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new(), limit: None }
    }

    /// Waits no longer than this for a message from now on.
    pub(crate) fn wait_at_most(&mut self, limit: Duration) -> Result<(), ChannelError> {
        if self.limit != Some(limit) {
            self.stream.set_read_timeout(Some(limit))?;
            self.stream.set_write_timeout(Some(limit))?;
            self.limit = Some(limit);
        }
        Ok(())
    }

    pub(crate) fn send(
        &mut self,
        message: &impl Serialize,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChannelError> {
        let nonsense = |error: serde_json::Error| ChannelError::Nonsense(error.to_string());
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; PREFIX]);
        serde_json::to_writer(&mut self.buffer, message).map_err(nonsense)?;
        let length = self.buffer.len() - PREFIX;
        let prefix = u32::try_from(length).ok().filter(|_| length <= MOST_BYTES);
        let prefix = prefix.ok_or_else(|| ChannelError::Nonsense(format!("{length} bytes")))?;
        self.buffer[..PREFIX].copy_from_slice(&prefix.to_le_bytes());
        let sent = match file {
            Some(file) => self.send_with(file)?,
            None => 0,
        };
        self.stream.write_all(&self.buffer[sent..])?;
        self.buffer.shrink_to(KEPT);
        Ok(())
    }

    /// Sends the file with the first bytes of the buffer, and says how many these were.
    fn send_with(&self, file: BorrowedFd<'_>) -> Result<usize, ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let files = [file];
        loop {
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            let bytes = [IoSlice::new(&self.buffer)];
            match sendmsg(&self.stream, &bytes, &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                sent => return Ok(sent.map_err(io::Error::from)?),
            }
        }
    }

    /// Waits for a message, and the file that it may bring.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Option<OwnedFd>), ChannelError> {
        let mut prefix = [0; PREFIX];
        let (got, file) = self.receive_first(&mut prefix)?;
        self.stream.read_exact(&mut prefix[got..])?;
        let length = u32::from_le_bytes(prefix) as usize;
        if length > MOST_BYTES {
            return Err(ChannelError::Nonsense(format!("{length} bytes")));
        }
        self.buffer.clear();
        self.buffer.resize(length, 0);
        self.stream.read_exact(&mut self.buffer)?;
        let read = serde_json::from_slice(&self.buffer);
        self.buffer.shrink_to(KEPT);
        Ok((read.map_err(|error| ChannelError::Nonsense(error.to_string()))?, file))
    }

    fn receive_first(&self, prefix: &mut [u8]) -> Result<(usize, Option<OwnedFd>), ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(prefix)];
            let received = match recvmsg(&self.stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => continue,
                received => received.map_err(io::Error::from)?,
            };
            let files = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            let file = files.flatten().next();
            if received.bytes == 0 {
                return Err(ChannelError::Closed);
            }
            return Ok((received.bytes, file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::message::{Answer, Ask};
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn messages_and_files_come_through_in_order() {
        let (mut one, mut other) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"beside").unwrap();
        let sending = std::thread::spawn(move || {
            one.send(&Ask::Open { model: 7 }, None).unwrap();
            one.send(&Ask::Memory { bytes: 6 }, Some(file.as_fd())).unwrap();
            // Larger than any socket's buffer.
            one.send(&Answer::Seen("x".repeat(3 << 20)), None).unwrap();
        });
        let (open, none) = other.receive::<Ask>().unwrap();
        assert!(open == Ask::Open { model: 7 } && none.is_none());
        let (memory, beside) = other.receive::<Ask>().unwrap();
        assert_eq!(memory, Ask::Memory { bytes: 6 });
        let mut text = [0; 6];
        std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::from(beside.unwrap()), &mut text, 0)
            .unwrap();
        assert_eq!(&text, b"beside");
        let (large, _) = other.receive::<Answer>().unwrap();
        assert!(matches!(large, Answer::Seen(text) if text.len() == 3 << 20));
        sending.join().unwrap();
        assert!(matches!(other.receive::<Ask>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn nonsense_silence_and_a_cut_are_told_apart() {
        let (one, mut other) = pair();
        other.wait_at_most(Duration::from_millis(1)).unwrap();
        assert!(matches!(other.receive::<Ask>(), Err(ChannelError::TimedOut)));
        (&one.stream).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(other.receive::<Ask>(), Err(ChannelError::Nonsense(_))));
        (&one.stream).write_all(b"\x02\0\0\0{}").unwrap();
        assert!(matches!(other.receive::<Ask>(), Err(ChannelError::Nonsense(_))));
        (&one.stream).write_all(b"\x09\0\0\0{").unwrap();
        drop(one);
        assert!(matches!(other.receive::<Ask>(), Err(ChannelError::Closed)));
    }
}
