//! What a PNG says of itself, chunk by chunk.

use image::metadata::Orientation;

use super::Facts;
use super::depth::BitDepth;
use super::remark::Remark;

/// Length of the signature.
const HEAD: usize = 8;
/// A chunk without its data: length, type, checksum.
const EMPTY: usize = 12;
const END: &[u8; EMPTY] = b"\0\0\0\0IEND\xae\x42\x60\x82";
/// 1 / 2.2, and what a chunk `sRGB` stands for, in 1/100,000.
const USUAL_GAMMA: u32 = 45_455;
/// Gammas this near to it are the usual one by another name (1 / 2.2 cut short, 1 / 2.25).
const NEAR: u32 = 1_500;

/// What the chunks before the end tell. Damage is the decoder's to find.
pub(super) fn facts(bytes: &[u8]) -> Facts {
    let mut facts = Facts::default();
    let (mut gamma, mut is_srgb) = (None, false);
    let mut at = HEAD;
    while let Some((kind, data)) = chunk(bytes, at) {
        at += EMPTY + data.len();
        match kind {
            b"IEND" => {
                finish(&mut facts, gamma, is_srgb);
                return facts;
            }
            _ if !is_sound(kind, data, &bytes[at - 4..at]) => {}
            b"sBIT" => facts.depth = significant(bytes, data),
            b"gAMA" => gamma = data.first_chunk().map(|gamma| u32::from_be_bytes(*gamma)),
            b"sRGB" => is_srgb = true,
            b"eXIf" => facts.orientation = Orientation::from_exif_chunk(data),
            _ => {}
        }
    }
    // The decoder says whether every pixel came before.
    facts.mended = Some([&bytes[..at], END].concat());
    facts.remarks.push(Remark::NoEnd);
    finish(&mut facts, gamma, is_srgb);
    facts
}

/// Type and data of the chunk at `at`, if it is there whole.
fn chunk(bytes: &[u8], at: usize) -> Option<(&[u8; 4], &[u8])> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let data = rest.get(..length)?;
    rest.get(length..)?.first_chunk::<4>()?;
    Some((kind, data))
}

/// Whether the checksum of a chunk that is read here is right; the decoder looks at the others itself.
fn is_sound(kind: &[u8; 4], data: &[u8], checksum: &[u8]) -> bool {
    if !matches!(kind, b"sBIT" | b"gAMA" | b"sRGB" | b"eXIf") {
        return true;
    }
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    checksum == crc.sum().to_be_bytes()
}

/// The most of the colours' significant bits, of samples of 16 bits.
fn significant(bytes: &[u8], data: &[u8]) -> Option<BitDepth> {
    let &[16, colour_type] = bytes.get(24..)?.first_chunk()? else { return None };
    let colours = if colour_type & 2 == 0 { 1 } else { 3 };
    BitDepth::try_from(data.get(..colours)?.iter().copied().max()?.max(8)).ok()
}

fn finish(facts: &mut Facts, gamma: Option<u32>, is_srgb: bool) {
    if let Some(gamma) = gamma.filter(|gamma| !is_srgb && gamma.abs_diff(USUAL_GAMMA) > NEAR) {
        facts.remarks.push(Remark::Gamma { gamma: f64::from(gamma) / 100_000.0 });
    }
}
