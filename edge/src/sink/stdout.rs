//! Standard output.

use std::io;

use rustix::io::Errno;

use super::{Record, Write, WriteError};

mod config;

pub use config::StdoutConfig;

/// Writes past the library's buffer, so that it is known how much of a batch was taken.
#[derive(Debug, Default)]
pub(super) struct Stdout {
    /// Bytes of the batch at hand that were taken: another attempt goes on from there.
    taken: usize,
}

impl Write for Stdout {
    const BATCH: usize = 64;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        let lines: Vec<&[u8]> = batch.iter().map(Record::line).collect();
        self.write_lines(&lines, |bytes| rustix::io::write(io::stdout(), bytes))
    }
}

impl Stdout {
    fn write_lines(
        &mut self,
        lines: &[&[u8]],
        mut write: impl FnMut(&[u8]) -> rustix::io::Result<usize>,
    ) -> Result<(), WriteError> {
        let mut begins = 0;
        for line in lines {
            let ends = begins + line.len();
            while self.taken < ends {
                match write(&line[self.taken - begins..]) {
                    Ok(0) => return Err(WriteError::Later("standard output takes nothing".to_owned())),
                    Ok(count) => self.taken += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::PIPE) => {
                        return Err(WriteError::Broken("standard output: its reader has gone".to_owned()));
                    }
                    Err(Errno::BADF) => {
                        return Err(WriteError::Broken("standard output: is closed".to_owned()));
                    }
                    // A disk that is full gets room, a terminal that is stopped goes on.
                    Err(error) => {
                        return Err(WriteError::Later(format!(
                            "standard output: {}",
                            io::Error::from(error)
                        )));
                    }
                }
            }
            begins = ends;
        }
        self.taken = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_full_disk_each_line_is_there_once_and_whole() {
        let (mut stdout, mut out, mut room) = (Stdout::default(), Vec::new(), 7);
        let lines = [&b"first\n"[..], b"second\n", b"third\n"];
        let mut attempts = 0;
        loop {
            attempts += 1;
            let written = stdout.write_lines(&lines, |bytes| {
                let count = bytes.len().min(room).min(4);
                room -= count;
                out.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(Errno::NOSPC) } else { Ok(count) }
            });
            match written {
                Ok(()) => break,
                Err(WriteError::Later(message)) => assert!(message.contains("No space left"), "{message}"),
                Err(error) => panic!("{error:?}"),
            }
            room = 5;
        }
        assert_eq!((attempts, out.as_slice()), (4, &b"first\nsecond\nthird\n"[..]));
        stdout
            .write_lines(&[b"next\n"], |bytes| {
                out.extend_from_slice(bytes);
                Ok(bytes.len())
            })
            .unwrap();
        assert!(out.ends_with(b"third\nnext\n"));
    }

    #[test]
    fn a_reader_that_has_gone_ends_it() {
        for error in [Errno::PIPE, Errno::BADF] {
            let written = Stdout::default().write_lines(&[b"a\n"], |_| Err(error));
            assert!(matches!(written, Err(WriteError::Broken(_))), "{written:?}");
        }
    }
}
