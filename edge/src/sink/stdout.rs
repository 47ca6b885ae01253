//! Standard output.

use std::io::{self, ErrorKind};

use super::{Record, Write, WriteError};

#[derive(Debug)]
pub(super) struct Stdout;

impl Write for Stdout {
    const BATCH: usize = 64;

    fn write(&mut self, batch: &[Record]) -> Result<(), WriteError> {
        use io::Write as _;
        let mut out = io::stdout().lock();
        let mut write = || -> io::Result<()> {
            for record in batch {
                out.write_all(record.line())?;
            }
            out.flush()
        };
        // What was written of a batch before an error cannot be taken back, so there is no second attempt.
        write().map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => WriteError::Broken("standard output: its reader has gone".to_owned()),
            _ => WriteError::Broken(format!("standard output: {error}")),
        })
    }
}
