//! Is a JPEG wholly there? Asked before it is decoded.
//!
//! The decoder behind the `image` crate is lenient by design: a file cut off in the middle gives a picture whose rest
//! is grey, and no error. A classifier would judge that grey. So the entropy-coded data are walked here first, without
//! computing a pixel: every block of every scan must be there, made of codes from its tables, with the restart
//! markers in place, and the end marker after the last. JPEG has no checksum, so a flipped bit that happens to give
//! another valid picture of the same number of blocks passes; nothing can tell that from a picture.

mod blocks;
mod entropy;
mod frame;

use super::{DecodeError, Format, corrupt, truncated};
use blocks::Scan;
use entropy::Huffman;
use frame::Frame;

/// As many as the decoder allows, and ten times what encoders write; bounds the work for a small file.
const MAX_SCANS: usize = 100;

// Second bytes of the markers acted upon; the first is always 0xff.
const SOF_BASELINE: u8 = 0xc0;
const SOF_EXTENDED: u8 = 0xc1;
const SOF_PROGRESSIVE: u8 = 0xc2;
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const RST0: u8 = 0xd0;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DRI: u8 = 0xdd;

/// Width and height in pixels, from the frame header.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut at = 2;
    loop {
        let (marker, segment, end) = segment(bytes, at)?;
        if is_frame(marker) {
            let [_, h1, h0, w1, w0] = *segment.first_chunk().ok_or_else(|| short("a frame header"))?;
            return Ok((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into()));
        }
        if marker == SOS || marker == EOI {
            return Err(corrupt(Format::Jpeg, "no frame header before the picture".to_owned()));
        }
        at = end;
    }
}

/// Refuses a file that is cut short, damaged, or of a kind that cannot be checked.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut frame: Option<Frame> = None;
    let mut tables = Tables::default();
    let mut restart_interval = 0;
    let mut scans = 0;
    let mut at = 2;
    loop {
        let (marker, segment, end) = segment(bytes, at)?;
        at = end;
        match marker {
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE if frame.is_some() => {
                return Err(corrupt(Format::Jpeg, "two frame headers".to_owned()));
            }
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE => {
                frame = Some(Frame::parse(segment, marker == SOF_PROGRESSIVE)?);
            }
            _ if is_frame(marker) => {
                let feature = "lossless, hierarchical or arithmetic coding".to_owned();
                return Err(DecodeError::Unsupported { format: Format::Jpeg, feature });
            }
            DHT => tables.read(segment)?,
            DRI => restart_interval = segment.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
            SOS => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(corrupt(Format::Jpeg, format!("more than {MAX_SCANS} scans")));
                }
                let no_frame = || corrupt(Format::Jpeg, "a scan before the frame header".to_owned());
                let frame = frame.as_mut().ok_or_else(no_frame)?;
                let scan = Scan::parse(segment, frame)?;
                at += scan.walk(&bytes[end..], frame, &tables, restart_interval)?;
            }
            EOI => {
                return if frame.is_some_and(|frame| frame.complete()) {
                    Ok(())
                } else {
                    Err(truncated(Format::Jpeg, "not every scan is there"))
                };
            }
            _ => {}
        }
    }
}

/// The marker at `at`, its segment without the length, and where the next begins.
fn segment(bytes: &[u8], mut at: usize) -> Result<(u8, &[u8], usize), DecodeError> {
    let end_missing = || truncated(Format::Jpeg, "the end marker is missing");
    if *bytes.get(at).ok_or_else(end_missing)? != 0xff {
        return Err(corrupt(Format::Jpeg, format!("no marker where one is due, at byte {at}")));
    }
    // Any number of 0xff may fill the gap before a marker.
    while *bytes.get(at).ok_or_else(end_missing)? == 0xff {
        at += 1;
    }
    let marker = bytes[at];
    at += 1;
    if matches!(marker, RST0..=EOI) {
        return Ok((marker, &[], at));
    }
    let cut = || truncated(Format::Jpeg, "it ends within a header");
    let length = bytes.get(at..).and_then(<[u8]>::first_chunk).map(|b| usize::from(u16::from_be_bytes(*b)));
    let end = at + length.ok_or_else(cut)?;
    let segment = bytes.get(at + 2..end.max(at + 2)).ok_or_else(cut)?;
    Ok((marker, segment, end.max(at + 2)))
}

/// Whether a marker starts a frame, of whatever kind.
fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && ![DHT, JPG, DAC].contains(&marker)
}

/// The Huffman tables as last defined, by number.
#[derive(Default)]
struct Tables {
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
}

impl Tables {
    fn read(&mut self, mut segment: &[u8]) -> Result<(), DecodeError> {
        while let Some((&[class_and_number], rest)) = segment.split_first_chunk() {
            let (table, rest) = Huffman::parse(rest)?;
            let kind = if class_and_number >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            kind[usize::from(class_and_number & 3)] = Some(table);
            segment = rest;
        }
        Ok(())
    }
}

fn short(what: &str) -> DecodeError {
    corrupt(Format::Jpeg, format!("{what} is too short"))
}
