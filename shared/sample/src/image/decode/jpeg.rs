//! Is a JPEG wholly there? Asked before it is decoded.
//!
//! The decoder behind the `image` crate is lenient by design: a file cut off in the middle gives a picture whose rest
//! is grey, and no error. A classifier would judge that grey. So the entropy-coded data are walked here first, without
//! computing a pixel: every block of every scan must be there, made of codes from its tables, with the restart
//! markers in place. JPEG has no checksum, so a flipped bit that happens to give another valid picture of the same number
//! of blocks passes; nothing can tell that from a picture.
//!
//! Cameras leave out what is not the picture's: the end marker, the Huffman tables that all frames of Motion JPEG share; or
//! they fill the rest of a buffer with zeros. Such a file is made whole for the decoder, with a remark.

mod blocks;
mod entropy;
mod frame;
mod standard;

use image::metadata::Orientation;

use super::{DecodeError, Facts, Format, Remark, corrupt, truncated};
use blocks::Scan;
use entropy::{End, Huffman};
use frame::Frame;

/// Most scans of a file: as many as the decoder allows, and ten times what encoders write. This bounds the work for a
/// small file.
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
const SOF_LS: u8 = 0xf7;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;

const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, EOI];

/// Width and height in pixels, from the frame header.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let mut at = 2;
    loop {
        let (marker, segment, end) = segment(bytes, at)?;
        if is_frame(marker) {
            let [_, h1, h0, w1, w0] = *segment.first_chunk().ok_or_else(|| short("a frame header"))?;
            return Ok((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into()));
        }
        if marker == SOF_LS {
            let feature = "JPEG-LS coding".to_owned();
            return Err(DecodeError::Unsupported { format: Format::Jpeg, feature });
        }
        if marker == SOS || marker == EOI {
            return Err(corrupt(Format::Jpeg, "no frame header before the picture".to_owned()));
        }
        at = end;
    }
}

/// What a decode must hold, as far as headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) components: u8,
    /// All coefficients at once, since a pixel's come in several scans.
    pub(super) holds_coefficients: bool,
}

/// By the headers up to the first scan; a file without one is told apart later.
pub(super) fn sort(bytes: &[u8]) -> Sort {
    let mut sort = Sort { components: 3, holds_coefficients: true };
    let mut at = 2;
    while let Ok((marker, segment, end)) = segment(bytes, at) {
        if is_frame(marker) {
            sort.components = segment.get(5).copied().unwrap_or(3);
            sort.holds_coefficients = marker == SOF_PROGRESSIVE;
        }
        if marker == SOS || marker == EOI {
            let in_scan = segment.first().copied().unwrap_or(0);
            sort.holds_coefficients |= in_scan < sort.components;
            break;
        }
        at = end;
    }
    sort
}

/// Refuses a file that is cut short, damaged, or of a kind that cannot be checked.
pub(super) fn check(bytes: &[u8]) -> Result<Facts, DecodeError> {
    let mut walk = Walk::default();
    let mut at = 2;
    loop {
        let (marker, segment, end) = match segment(bytes, at) {
            Ok(segment) => segment,
            // Nothing is due any more but the end marker, and at most the first half of it is left.
            Err(_) if walk.is_complete() && bytes[at.min(bytes.len())..].iter().all(|byte| *byte == 0xff) => {
                return Ok(walk.facts(bytes, true));
            }
            Err(error) => return Err(error),
        };
        if marker == EOI {
            return match walk.is_complete() {
                true => Ok(walk.facts(bytes, false)),
                false => Err(truncated(Format::Jpeg, "not every scan is there")),
            };
        }
        at = walk.step(marker, segment, bytes, end)?;
    }
}

/// What the walk through a file has found so far.
#[derive(Default)]
struct Walk {
    frame: Option<Frame>,
    tables: Tables,
    restart_interval: u16,
    scans: usize,
    orientation: Option<Orientation>,
    has_other_profile: bool,
    /// No table was defined where the first scan began.
    lacks_tables: bool,
    /// Where the last scan's data end in the file, and how many zeros stand behind them.
    data_end: usize,
    padding: usize,
}

impl Walk {
    /// One segment, with the scan behind it; gives where the next begins.
    fn step(&mut self, marker: u8, segment: &[u8], bytes: &[u8], at: usize) -> Result<usize, DecodeError> {
        match marker {
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE if self.frame.is_some() => {
                return Err(corrupt(Format::Jpeg, "two frame headers".to_owned()));
            }
            SOF_BASELINE | SOF_EXTENDED | SOF_PROGRESSIVE => {
                self.frame = Some(Frame::parse(segment, marker == SOF_PROGRESSIVE)?);
            }
            _ if is_frame(marker) => {
                let feature = "lossless, hierarchical or arithmetic coding".to_owned();
                return Err(DecodeError::Unsupported { format: Format::Jpeg, feature });
            }
            DHT => self.tables.read(segment)?,
            DRI => self.restart_interval = segment.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)),
            APP1 => {
                let exif = segment.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk);
                self.orientation = self.orientation.or(exif);
            }
            // A large profile comes in several segments; the first names it.
            APP2 => {
                let profile = segment.strip_prefix(b"ICC_PROFILE\0\x01");
                self.has_other_profile |= profile.is_some_and(|profile| !super::is_srgb(profile));
            }
            SOS => {
                let end = self.scan(segment, &bytes[at..])?;
                (self.data_end, self.padding) = (at + end.at, end.padding);
                return Ok(self.data_end + self.padding);
            }
            _ => {}
        }
        Ok(at)
    }

    fn scan(&mut self, segment: &[u8], data: &[u8]) -> Result<End, DecodeError> {
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(corrupt(Format::Jpeg, format!("more than {MAX_SCANS} scans")));
        }
        let no_frame = || corrupt(Format::Jpeg, "a scan before the frame header".to_owned());
        let frame = self.frame.as_mut().ok_or_else(no_frame)?;
        if self.scans == 1 && self.tables.is_empty() && !frame.progressive {
            self.lacks_tables = true;
            self.tables.read(&standard::TABLES[4..])?;
        }
        let scan = Scan::parse(segment, frame)?;
        let end = scan.walk(data, frame, &self.tables, self.restart_interval)?;
        if end.padding > 0 && !frame.complete() {
            return Err(corrupt(Format::Jpeg, "zeros between its scans".to_owned()));
        }
        Ok(end)
    }

    fn is_complete(&self) -> bool {
        self.frame.as_ref().is_some_and(Frame::complete)
    }

    fn facts(self, bytes: &[u8], lacks_end: bool) -> Facts {
        let Self { orientation, has_other_profile, lacks_tables, data_end, padding, .. } = self;
        let remarks = [
            lacks_tables.then_some(Remark::StandardTables),
            (padding > 0).then_some(Remark::Padding { bytes: padding }),
            lacks_end.then_some(Remark::NoEnd),
            has_other_profile.then_some(Remark::Profile),
        ];
        let is_whole = !lacks_tables && padding == 0 && !lacks_end;
        let mended = (!is_whole).then(|| {
            let tables: &[u8] = if lacks_tables { &standard::TABLES } else { &[] };
            [&START, tables, &bytes[2..data_end], &END].concat()
        });
        Facts { orientation, mended, remarks: remarks.into_iter().flatten().collect(), ..Facts::default() }
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
    fn is_empty(&self) -> bool {
        self.dc.iter().chain(&self.ac).all(Option::is_none)
    }

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
