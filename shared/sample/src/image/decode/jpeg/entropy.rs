//! Bits and Huffman codes of a scan.

use super::super::{DecodeError, Format, corrupt, truncated};
use super::{RST0, short};

/// A Huffman table in canonical form: per code length, where its codes and symbols begin.
pub(super) struct Huffman {
    /// The first code of each length 1..=16, left-aligned to 16 bits, and the first beyond the last.
    first: [u32; 17],
    /// Index in `symbols` of each length's first code.
    offset: [usize; 17],
    symbols: Vec<u8>,
    /// Code length and symbol by the next [`NEAR`] bits, for codes that short; length 0 for the others.
    near: [(u8, u8); 1 << NEAR],
}

/// Covers nearly all codes met, in 1 KiB a table.
const NEAR: u32 = 9;

impl Huffman {
    /// One table of a DHT segment, after its number; also gives what follows it.
    pub(super) fn parse(segment: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (counts, rest) = segment.split_first_chunk::<16>().ok_or_else(|| short("a Huffman table"))?;
        let total = counts.iter().map(|&n| usize::from(n)).sum();
        let (symbols, rest) = rest.split_at_checked(total).ok_or_else(|| short("a Huffman table"))?;
        let (mut first, mut offset) = ([0; 17], [0; 17]);
        for (i, &count) in counts.iter().enumerate() {
            first[i + 1] = first[i] + (u32::from(count) << (15 - i));
            offset[i + 1] = offset[i] + usize::from(count);
        }
        if first[16] > 1 << 16 {
            return Err(corrupt(Format::Jpeg, "a Huffman table has more codes than fit".to_owned()));
        }
        let mut table = Self { first, offset, symbols: symbols.to_vec(), near: [(0, 0); 1 << NEAR] };
        for prefix in 0..1 << NEAR {
            let found = table.search(prefix << (16 - NEAR)).filter(|&(length, _)| length <= NEAR as u8);
            table.near[prefix as usize] = found.unwrap_or((0, 0));
        }
        Ok((table, rest))
    }

    /// Length and symbol of the code that 16 bits begin with.
    fn search(&self, window: u32) -> Option<(u8, u8)> {
        let length = (1..=16).find(|&length| window < self.first[length])?;
        let index = (window - self.first[length - 1]) >> (16 - length);
        Some((length as u8, self.symbols[self.offset[length - 1] + index as usize]))
    }
}

/// Where a scan's data end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The number of bytes that they took.
    pub(super) at: usize,
    /// So many zeros stand behind them, up to the next marker or the end of the file.
    pub(super) padding: usize,
}

/// Reads entropy-coded data up to the next marker.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to load.
    at: usize,
    /// The lowest `held` bits are not yet consumed.
    buffer: u64,
    held: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, held: 0 }
    }

    /// Decodes one symbol.
    pub(super) fn symbol(&mut self, table: &Huffman) -> Result<u8, DecodeError> {
        if self.held < 16 {
            self.fill();
        }
        // Beyond the data stand zeros; `skip` notices when a code reaches into them.
        let window =
            if self.held >= 16 { self.buffer >> (self.held - 16) } else { self.buffer << (16 - self.held) };
        let window = (window & 0xffff) as u32;
        let found = match table.near[(window >> (16 - NEAR)) as usize] {
            (0, _) => table.search(window),
            near => Some(near),
        };
        if let Some((length, symbol)) = found {
            self.skip(length.into())?;
            return Ok(symbol);
        }
        if self.held < 16 { Err(self.ended()) } else { Err(self.damaged("an unassigned code")) }
    }

    /// Up to 16 bits as a number.
    pub(super) fn take(&mut self, count: u32) -> Result<u32, DecodeError> {
        self.skip(count)?;
        Ok((self.buffer >> self.held) as u32 & ((1 << count) - 1))
    }

    /// Passes over up to 16 bits.
    pub(super) fn skip(&mut self, count: u32) -> Result<(), DecodeError> {
        if self.held < count {
            self.fill();
        }
        self.held = self.held.checked_sub(count).ok_or_else(|| self.ended())?;
        Ok(())
    }

    /// Passes the restart marker of that number, which must be next.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), DecodeError> {
        self.finish()?;
        while self.bytes.get(self.at) == Some(&0xff) && self.bytes.get(self.at + 1) == Some(&0xff) {
            self.at += 1;
        }
        if self.bytes.get(self.at..self.at + 2) != Some(&[0xff, RST0 + number % 8]) {
            return Err(self.damaged("a missing restart marker"));
        }
        self.at += 2;
        Ok(())
    }

    /// How many bytes the data took; fails if whole bytes are left over before the next marker.
    fn finish(&mut self) -> Result<usize, DecodeError> {
        self.fill();
        if self.held >= 8 {
            return Err(self.damaged("data beyond the last block"));
        }
        self.held = 0;
        Ok(self.at)
    }

    /// Where the data end. Zeros may stand behind them, if none was taken for a part of them: a file that was cut and filled
    /// up with zeros has blocks made of nothing.
    pub(super) fn end(&mut self) -> Result<End, DecodeError> {
        self.fill();
        // Zeros are one byte each in the file, which stuffed bytes are not.
        let zeros = (self.held / 8) as usize;
        let whole_bytes = 1_u64.checked_shl(8 * zeros as u32).unwrap_or(0).wrapping_sub(1);
        if self.buffer & whole_bytes != 0 {
            return Err(self.damaged("data beyond the last block"));
        }
        self.held = 0;
        let at = self.at - zeros;
        let padding = self.bytes[at..].iter().take_while(|byte| **byte == 0).count();
        let next = self.bytes.get(at + padding);
        if next.is_some_and(|byte| *byte != 0xff) {
            return Err(self.damaged("data beyond the last block"));
        }
        let is_sure = at >= 1 && self.bytes[at - 1] != 0 || at >= 2 && self.bytes[at - 2..at] == [0xff, 0];
        if !is_sure && (padding > 0 || next.is_none()) {
            return Err(truncated(Format::Jpeg, "zeros stand in place of its last blocks"));
        }
        self.at = at + padding;
        Ok(End { at, padding })
    }

    pub(super) fn damaged(&self, what: &str) -> DecodeError {
        corrupt(Format::Jpeg, format!("{what} near byte {} of a scan", self.at))
    }

    fn ended(&self) -> DecodeError {
        if self.at >= self.bytes.len() {
            truncated(Format::Jpeg, "it ends within the picture")
        } else {
            self.damaged("a marker within the picture")
        }
    }

    /// Loads bytes until the buffer is full or a marker or the end is next.
    fn fill(&mut self) {
        if let Some(&four) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>)
            && self.held <= 32
            && !four.contains(&0xff)
        {
            self.at += 4;
            self.buffer = self.buffer << 32 | u64::from(u32::from_be_bytes(four));
            self.held += 32;
            return;
        }
        while self.held <= 48 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            if byte == 0xff {
                // 0xff 0x00 stands for the byte 0xff; anything else is a marker.
                if self.bytes.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.held += 8;
        }
    }
}
