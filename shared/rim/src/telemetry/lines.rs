//! The queue of lines and the thread that writes them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use rustix::io::Errno;

/// Most bytes that may wait in the queue; a line beyond them is lost.
const MOST_BYTES: usize = 1 << 20;
/// Pause before writing again to a terminal or pipe that somebody made non-blocking.
const PAUSE: Duration = Duration::from_millis(5);
const MOST_PAUSES: u32 = 200;

/// Takes some of the bytes; gives how many.
type Write = Box<dyn FnMut(&[u8]) -> rustix::io::Result<usize> + Send>;

/// Handle to the queue.
#[derive(Debug)]
pub(super) struct Lines {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled at each change of the queue.
    changed: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// True while a line that was taken off the queue is being written.
    is_writing: bool,
    /// True if nobody writes because the thread could not be started.
    is_closed: bool,
    /// Number of lines lost since that was last reported.
    unsaid: u64,
}

impl Lines {
    /// Queue for standard error; its thread starts with the first call.
    pub(super) fn of_process() -> &'static Self {
        static LINES: OnceLock<Lines> = OnceLock::new();
        LINES.get_or_init(|| {
            // Not through the library's handle: whoever writes through that would hold up others while standard error blocks.
            let write = |bytes: &[u8]| rustix::io::write(io::stderr(), bytes);
            let say = |lost| {
                tracing::warn!(lost, "standard error did not take lines of this log");
            };
            Self::start(Box::new(write), say)
        })
    }

    /// Starts the writing thread. It calls `say` once lines are taken again, with the number of those that were lost.
    fn start(mut write: Write, say: impl Fn(u64) + Send + 'static) -> Self {
        let queue = Mutex::default();
        let shared = Arc::new(Shared { queue, changed: Condvar::new(), lost: Counter::default() });
        let own = Arc::clone(&shared);
        let work = move || own.run(&mut write, &say);
        let started = thread::Builder::new().name("log".to_owned()).spawn(work);
        shared.lock().is_closed = started.is_err();
        Self { shared }
    }

    pub(super) fn lost(&self) -> Counter {
        self.shared.lost.clone()
    }

    /// Puts a line in the queue, or counts it as lost. Never waits for the writer.
    pub(super) fn put(&self, line: Vec<u8>) {
        let mut queue = self.shared.lock();
        if queue.is_closed || queue.bytes + line.len() > MOST_BYTES {
            return self.shared.lose(&mut queue);
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until the queue is empty, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut queue = self.shared.lock();
        while !queue.is_closed && (queue.is_writing || !queue.lines.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, queue: &mut Queue) {
        self.lost.inc();
        queue.unsaid += 1;
    }

    fn run(&self, write: &mut Write, say: &dyn Fn(u64)) {
        // The last line was cut short: the next one must not continue it.
        let mut is_torn = false;
        loop {
            let mut line = self.next();
            if is_torn {
                line.insert(0, b'\n');
            }
            let written = write_all(write, &line);
            let mut queue = self.lock();
            queue.is_writing = false;
            match written {
                Ok(()) => is_torn = false,
                Err(after) => {
                    is_torn |= after > 0;
                    self.lose(&mut queue);
                }
            }
            let unsaid = if written.is_ok() { std::mem::take(&mut queue.unsaid) } else { 0 };
            drop(queue);
            if unsaid > 0 {
                say(unsaid);
            }
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes all bytes. An error holds the number of bytes that were taken before it.
fn write_all(write: &mut Write, bytes: &[u8]) -> Result<(), usize> {
    let (mut taken, mut pauses) = (0, 0);
    while taken < bytes.len() {
        match write(&bytes[taken..]) {
            Ok(0) => return Err(taken),
            Ok(some) => taken += some,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if pauses < MOST_PAUSES => {
                pauses += 1;
                thread::sleep(PAUSE);
            }
            Err(_) => return Err(taken),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Lines whose writing goes as `results` say, one each; what was taken, and what was said of losses.
    struct Stand {
        lines: Lines,
        results: SyncSender<rustix::io::Result<usize>>,
        taken: Receiver<Vec<u8>>,
        said: Receiver<u64>,
    }

    fn stand() -> Stand {
        let (results, next) = sync_channel(16);
        let (take, taken) = sync_channel(16);
        let (say, said) = sync_channel(16);
        let write = move |bytes: &[u8]| {
            let result: rustix::io::Result<usize> = next.recv().unwrap_or(Err(Errno::PIPE));
            let result = result.map(|most| most.min(bytes.len()));
            if let Ok(count) = result {
                take.send(bytes[..count].to_vec()).unwrap();
            }
            result
        };
        let lines = Lines::start(Box::new(write), move |lost| say.send(lost).unwrap());
        Stand { lines, results, taken, said }
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_next_one_that_is_written_is_whole() {
        let Stand { lines, results, taken, said } = stand();
        for text in ["one\n", "two\n", "three\n"] {
            lines.put(text.as_bytes().to_vec());
        }
        results.send(Err(Errno::NOSPC)).unwrap();
        // Two bytes of the second go before the disk is full again.
        results.send(Ok(2)).unwrap();
        results.send(Err(Errno::NOSPC)).unwrap();
        results.send(Ok(100)).unwrap();
        assert_eq!(said.recv_timeout(PATIENCE).unwrap(), 2);
        assert_eq!((taken.recv().unwrap(), taken.recv().unwrap()), (b"tw".to_vec(), b"\nthree\n".to_vec()));
        assert_eq!(lines.lost().get(), 2);
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_nobody_reads() {
        let Stand { lines, results, .. } = stand();
        let line = vec![b'x'; 1 << 10];
        // One more is at the writer, which waits.
        for _ in 0..MOST_BYTES / line.len() + 10 {
            lines.put(line.clone());
        }
        assert!((9..=10).contains(&lines.lost().get()), "{}", lines.lost().get());
        lines.flush(Duration::from_millis(20));
        drop(results);
        lines.flush(PATIENCE);
    }

    #[test]
    fn what_is_interrupted_or_not_ready_is_tried_again() {
        let Stand { lines, results, taken, .. } = stand();
        lines.put(b"a line\n".to_vec());
        for result in [Err(Errno::INTR), Err(Errno::AGAIN), Ok(3), Ok(100)] {
            results.send(result).unwrap();
        }
        lines.flush(PATIENCE);
        assert_eq!((taken.recv().unwrap(), taken.recv().unwrap()), (b"a l".to_vec(), b"ine\n".to_vec()));
        assert_eq!(lines.lost().get(), 0);
    }
}
