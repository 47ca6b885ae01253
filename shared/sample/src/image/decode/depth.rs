//! How many bits of a 16-bit sample count.
//!
//! Cameras of 10, 12 and 14 bits write their values into 16-bit files as they are, so that a picture that is read by its high
//! byte turns black. What decides, in this order:
//!
//! 1. what the operator says of the source;
//! 2. what the file says (`sBIT` of a PNG, `MaxSampleValue` of a TIFF), if every sample keeps to it;
//! 3. the largest sample: the fewest of 8, 10, 12 and 14 bits that hold it, with a remark; from 2^14 on it can only be 16.
//!
//! A dark picture is thus taken for one of fewer bits than it has, and only 1 or 2 can tell: hence the remark.

use super::samples::{Pixels, each_16};
use super::{DecodeError, Format, Remark};
use crate::image::Channels;

/// Bits of a sample that count: 8 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "u8")]
pub struct BitDepth(u8);

impl BitDepth {
    /// All bits of the file's samples.
    pub const WHOLE: Self = Self(16);

    pub fn bits(self) -> u8 {
        self.0
    }

    /// The largest sample.
    fn most(self) -> u16 {
        u16::MAX >> (16 - self.0)
    }
}

impl TryFrom<u8> for BitDepth {
    type Error = String;

    fn try_from(bits: u8) -> Result<Self, String> {
        if (8..=16).contains(&bits) { Ok(Self(bits)) } else { Err(format!("{bits} is not of 8 to 16 bits")) }
    }
}

impl std::str::FromStr for BitDepth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<u8>().map_err(|_| format!("`{text}` is not of 8 to 16 bits"))?.try_into()
    }
}

/// Depths that cameras have and that a largest sample can tell.
const GUESSES: [BitDepth; 4] = [BitDepth(8), BitDepth(10), BitDepth(12), BitDepth(14)];
/// One of so many samples may be over the depth that was said: a stuck pixel, or a stamp in the first line.
const STRAYS: u64 = 1000;

/// What a picture's 16-bit samples are like; alpha is left out where it is no channel like others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    largest: u16,
    /// Each high byte is its low byte: 8 bits that were stretched to 16.
    is_stretched: bool,
}

/// The depth that was settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) depth: BitDepth,
    /// Nobody said so, and another picture of the same sample may show better.
    pub(super) is_guess: bool,
}

impl Seen {
    /// `None` where samples are not of 16 bits. `is_inverted`: 0 is white, and the decoder has turned that round.
    pub(super) fn of(pixels: &Pixels, wanted: Channels, is_inverted: bool) -> Option<Self> {
        let mut all = Self { largest: 0, is_stretched: true };
        let mut see = |sample: u16| {
            let sample = if is_inverted { !sample } else { sample };
            all.largest = all.largest.max(sample);
            all.is_stretched &= sample >> 8 == sample & 0xff;
        };
        each_16(pixels, wanted, &mut see)?;
        Some(all)
    }

    pub(super) fn guessed(self, depth: BitDepth) -> Remark {
        Remark::GuessedDepth { bits: depth.bits(), largest: self.largest }
    }
}

/// `said` by the operator, `declared` by the file.
pub(super) fn choose(
    format: Format,
    seen: Seen,
    said: Option<BitDepth>,
    declared: Option<BitDepth>,
    over: impl FnOnce(u16) -> (u64, u64),
) -> Result<(Chosen, Option<Remark>), DecodeError> {
    let Seen { largest, is_stretched } = seen;
    if let Some(depth) = said {
        let chosen = Chosen { depth, is_guess: false };
        if largest <= depth.most() {
            return Ok((chosen, None));
        }
        let (over, of) = over(depth.most());
        if over * STRAYS > of {
            return Err(DecodeError::BitDepth { format, bits: depth.bits(), largest, over, of });
        }
        return Ok((chosen, Some(Remark::OverDepth { bits: depth.bits(), largest, over })));
    }
    if let Some(depth) = declared.filter(|depth| largest <= depth.most()) {
        return Ok((Chosen { depth, is_guess: false }, None));
    }
    let held = GUESSES.into_iter().find(|depth| largest <= depth.most());
    match held {
        // All zeros are black at any depth.
        Some(depth) if !is_stretched => Ok((Chosen { depth, is_guess: true }, Some(seen.guessed(depth)))),
        _ => Ok((Chosen { depth: BitDepth::WHOLE, is_guess: false }, None)),
    }
}

/// How many samples are over `most`, and of how many.
pub(super) fn count_over(pixels: &Pixels, wanted: Channels, is_inverted: bool, most: u16) -> (u64, u64) {
    let (mut over, mut of) = (0, 0);
    let mut count = |sample: u16| {
        let sample = if is_inverted { !sample } else { sample };
        over += u64::from(sample > most);
        of += 1;
    };
    // Pictures of other samples have none that is over.
    let _other = each_16(pixels, wanted, &mut count).is_none();
    (over, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        largest: u16,
        said: Option<u8>,
        declared: Option<u8>,
    ) -> Result<(u8, Option<&'static str>), DecodeError> {
        let seen = Seen { largest, is_stretched: largest == 0 };
        let depth = |bits: Option<u8>| bits.map(|bits| BitDepth::try_from(bits).unwrap());
        let (chosen, remark) = choose(Format::Png, seen, depth(said), depth(declared), |_| (3, 1000))?;
        assert!(!chosen.is_guess || remark.is_some());
        Ok((chosen.depth.bits(), remark.map(|remark| remark.code())))
    }

    #[test]
    fn the_largest_sample_tells_where_nobody_says() {
        let guessed = Some("bit_depth_guessed");
        for (largest, bits, remark) in [
            (0, 16, None),
            (255, 8, guessed),
            (256, 10, guessed),
            (900, 10, guessed),
            (1023, 10, guessed),
            (1024, 12, guessed),
            (4095, 12, guessed),
            (4096, 14, guessed),
            (16_383, 14, guessed),
            (16_384, 16, None),
            (65_535, 16, None),
        ] {
            assert_eq!(chosen(largest, None, None), Ok((bits, remark)), "{largest}");
        }
    }

    #[test]
    fn the_file_is_believed_where_its_samples_keep_to_it() {
        assert_eq!(chosen(900, None, Some(12)), Ok((12, None)));
        assert_eq!(chosen(900, None, Some(16)), Ok((16, None)));
        // PNG has samples stretched to all 16 bits, whatever `sBIT` says.
        assert_eq!(chosen(65_520, None, Some(12)), Ok((16, None)));
        assert_eq!(chosen(5000, None, Some(12)), Ok((14, Some("bit_depth_guessed"))));
    }

    #[test]
    fn the_operator_decides_and_is_told_where_that_cannot_be() {
        assert_eq!(chosen(900, Some(12), Some(10)), Ok((12, None)));
        assert_eq!(chosen(900, Some(16), None), Ok((16, None)));
        let error = chosen(65_520, Some(12), None).unwrap_err();
        assert_eq!(error.code(), "bit_depth");
        assert!(error.to_string().contains("bit_depth = 12"), "{error}");
        let seen = Seen { largest: 4096, is_stretched: false };
        let said = Some(BitDepth(12));
        let (chosen, remark) = choose(Format::Png, seen, said, None, |_| (1, 1000)).unwrap();
        assert_eq!((chosen.depth.bits(), remark.unwrap().code()), (12, "bit_depth_exceeded"));
    }

    #[test]
    fn depths_are_of_8_to_16_bits() {
        assert!(BitDepth::try_from(7).is_err() && BitDepth::try_from(17).is_err());
        assert_eq!("12".parse(), Ok(BitDepth(12)));
        assert!("twelve".parse::<BitDepth>().unwrap_err().contains("8 to 16"));
        assert_eq!((BitDepth(8).most(), BitDepth(12).most(), BitDepth(16).most()), (255, 4095, 65_535));
    }
}
