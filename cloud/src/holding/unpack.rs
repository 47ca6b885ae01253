//! gzip, undone step by step, so that what comes out is asked for before it is there.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::GzDecoder;

/// Bytes that one step makes at most.
pub(super) const STEP: usize = 64 << 10;

/// One compressed message that is being undone.
pub(super) struct Unpacking {
    decoder: GzDecoder<bytes::buf::Reader<Bytes>>,
    content: Vec<u8>,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done,
}

impl Unpacking {
    pub(super) fn new(packed: Bytes) -> Self {
        Self { decoder: GzDecoder::new(packed.reader()), content: Vec::new() }
    }

    /// Bytes that have come out.
    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// Undoes as much as gives [`STEP`] bytes. There must be room for them, and for as many again as there are while they move.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let before = self.content.len();
        let read = self.decoder.by_ref().take(STEP as u64).read_to_end(&mut self.content)?;
        debug_assert_eq!(self.content.len(), before + read);
        Ok(if read < STEP { Step::Done } else { Step::More })
    }

    pub(super) fn into_content(self) -> Bytes {
        self.content.into()
    }
}

impl std::fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacking").field("content", &self.content.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn pack(content: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn each_step_makes_a_bounded_piece() {
        for length in [0, 1, STEP - 1, STEP, STEP + 1, 10 * STEP] {
            let content = vec![7; length];
            let mut unpacking = Unpacking::new(pack(&content));
            let mut steps = 0;
            while unpacking.step().unwrap() == Step::More {
                steps += 1;
                assert_eq!(unpacking.len(), steps * STEP);
            }
            assert_eq!(unpacking.into_content(), content);
        }
    }

    #[test]
    fn what_is_no_gzip_is_an_error() {
        let whole = pack(&[7; 1000]);
        for broken in [Bytes::new(), whole.slice(..whole.len() - 1), whole.slice(1..)] {
            let mut unpacking = Unpacking::new(broken);
            assert!(unpacking.step().is_err());
        }
    }
}
