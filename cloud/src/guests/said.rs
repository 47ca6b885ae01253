//! What a worker says on standard error: to the pool's log, within bounds.

use std::io::Read;

/// Lines of one process that are logged; the rest are counted.
const MOST_LINES: usize = 200;
/// Bytes of a line that are kept; the rest of it is dropped.
const LONGEST_LINE: usize = 500;
const CHUNK: usize = 4 << 10;

/// What is left of it once the process has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The last line that was not empty.
    pub(super) last: String,
    /// Lines beyond those that were logged.
    left_out: usize,
}

impl Said {
    /// Reads to the end and logs each line as the words of `name`.
    pub(super) fn listen(from: impl Read, name: &str) -> Self {
        let said = Self::lines(from, |line| {
            // The worker's own log, or what a library or the runtime says in its last moments.
            tracing::warn!(guest = name, "{line}");
        });
        if said.left_out > 0 {
            tracing::warn!(guest = name, lines = said.left_out, "a model's process said more than is logged");
        }
        said
    }

    fn lines(mut from: impl Read, mut tell: impl FnMut(&str)) -> Self {
        let mut said = Self::default();
        let (mut line, mut told) = (Vec::new(), 0);
        let mut over = |line: &mut Vec<u8>| {
            let text = String::from_utf8_lossy(line);
            let text = text.trim();
            if !text.is_empty() {
                if told < MOST_LINES {
                    tell(text);
                } else {
                    said.left_out += 1;
                }
                told += 1;
                text.clone_into(&mut said.last);
            }
            line.clear();
        };
        let mut chunk = [0; CHUNK];
        loop {
            let got = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for byte in &chunk[..got] {
                match byte {
                    b'\n' => over(&mut line),
                    byte if line.len() < LONGEST_LINE => line.push(*byte),
                    _ => {}
                }
            }
        }
        over(&mut line);
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_in_length_and_number_and_the_last_one_is_kept() {
        let mut text = format!("{}\n\n", "x".repeat(10 * LONGEST_LINE));
        text.extend((0..300).map(|number| format!("line {number}\n")));
        text.push_str("the end");
        let mut told = Vec::new();
        let said = Said::lines(text.as_bytes(), |line| told.push(line.to_owned()));
        assert_eq!((said.last.as_str(), said.left_out), ("the end", 102));
        assert_eq!((told.len(), told[0].len(), told[1].as_str()), (MOST_LINES, LONGEST_LINE, "line 0"));
        assert_eq!(Said::lines(&b""[..], |_| ()), Said::default());
    }
}
