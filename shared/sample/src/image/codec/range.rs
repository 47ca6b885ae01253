//! A binary arithmetic coder: each bit costs what its probability says, down to small fractions of a bit.
//!
//! The interval `low..=high` of 32-bit numbers is narrowed bit by bit; leading bytes on which both ends agree are
//! written out (the carryless form of Mahoney's lpaq). The end of the stream counts as zeros, so that trailing zero
//! bytes need not be sent.

/// A probability of one in 65,536ths, 1..=65,535.
pub(super) type Probability = u32;

#[derive(Debug)]
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const ALL: Self = Self { low: 0, high: u32::MAX };

    /// The last number of the part that stands for a one.
    fn split(&self, one: Probability) -> u32 {
        let width = u64::from(self.high - self.low);
        // Below `high` as the probability is below one, so neither part is empty.
        self.low + ((width * u64::from(one)) >> 16) as u32
    }

    fn narrow(&mut self, split: u32, bit: u8) {
        if bit == 1 {
            self.high = split;
        } else {
            self.low = split + 1;
        }
    }

    /// A byte that is settled, if any.
    fn settled(&mut self) -> Option<u8> {
        let byte = (self.high >> 24) as u8;
        if self.low >> 24 != u32::from(byte) {
            return None;
        }
        self.low <<= 8;
        self.high = self.high << 8 | 0xff;
        Some(byte)
    }
}

pub(super) struct Encoder {
    interval: Interval,
    bytes: Vec<u8>,
}

impl Encoder {
    /// Appends to `bytes`.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { interval: Interval::ALL, bytes }
    }

    pub(super) fn put(&mut self, bit: u8, one: Probability) {
        let split = self.interval.split(one);
        self.interval.narrow(split, bit);
        while let Some(byte) = self.interval.settled() {
            self.bytes.push(byte);
        }
    }

    /// Writes the number of the interval with the most trailing zero bytes, without those.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let Interval { low, high } = self.interval;
        // Zeros alone, unless something must lift the number to `low`.
        if low > 0 {
            let kept =
                (1..4).find(|kept| round_up(low, *kept).is_some_and(|number| number <= high)).unwrap_or(4);
            let number = round_up(low, kept).unwrap_or(low);
            self.bytes.extend(&number.to_be_bytes()[..kept as usize]);
        }
        self.bytes
    }
}

/// The smallest number not below `low` of which only the first `kept` bytes are not zero.
fn round_up(low: u32, kept: u32) -> Option<u32> {
    let rest = u32::MAX.checked_shr(8 * kept).unwrap_or(0);
    Some(low.checked_add(rest)? & !rest)
}

pub(super) struct Decoder<'a> {
    interval: Interval,
    /// The stream's number within the interval.
    number: u32,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { interval: Interval::ALL, number: 0, bytes };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    pub(super) fn get(&mut self, one: Probability) -> u8 {
        let split = self.interval.split(one);
        let bit = u8::from(self.number <= split);
        self.interval.narrow(split, bit);
        while self.interval.settled().is_some() {
            self.shift();
        }
        bit
    }

    fn shift(&mut self) {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.number = self.number << 8 | u32::from(*first);
        self.bytes = rest;
    }
}
