//! Small files made by hand, for what no encoder at hand writes.

use image::{ExtendedColorType, ImageEncoder};

/// A chunk of a PNG.
pub(super) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &crc.sum().to_be_bytes()].concat()
}

/// Puts chunks behind a PNG's header.
pub(super) fn with_chunks(png: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    const HEADER: usize = 33;
    [&png[..HEADER], &chunks.concat(), &png[HEADER..]].concat()
}

/// A PNG of one width and as many rows as there are; `samples` are in the machine's byte order.
pub(super) fn png(samples: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder.write_image(samples, width, height, colour).unwrap();
    file
}

/// A grey PNG of 16-bit samples.
pub(super) fn png16(samples: &[u16], width: u32) -> Vec<u8> {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect();
    png(&bytes, width, samples.len() as u32 / width, ExtendedColorType::L16)
}

/// A JPEG with the tables of annex K.
pub(super) fn jpeg(samples: &[u8], width: u32, height: u32, colour: ExtendedColorType) -> Vec<u8> {
    let mut file = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90)
        .write_image(samples, width, height, colour)
        .unwrap();
    file
}

/// EXIF data that say an orientation, in either byte order.
pub(super) fn exif(orientation: u8) -> Vec<u8> {
    let mut file = Tiff::new(0, 0);
    file.is_big_endian = orientation.is_multiple_of(2);
    file.tags.clear();
    file.set(274, &[orientation.into()]);
    file.write()
}

/// Puts a segment behind a JPEG's start.
pub(super) fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

/// A TIFF without compression.
pub(super) struct Tiff {
    pub(super) is_big_endian: bool,
    /// BigTIFF.
    pub(super) is_big: bool,
    /// Whole numbers by tag, of two bytes where they fit.
    tags: Vec<(u16, Vec<u64>)>,
    strips: Vec<Vec<u8>>,
}

impl Tiff {
    pub(super) fn new(width: u32, height: u32) -> Self {
        let mut tiff = Self { is_big_endian: false, is_big: false, tags: Vec::new(), strips: Vec::new() };
        for (tag, value) in
            [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (277, 1), (278, height)]
        {
            tiff.set(tag, &[value.into()]);
        }
        tiff
    }

    pub(super) fn set(&mut self, tag: u16, values: &[u64]) -> &mut Self {
        self.tags.retain(|(other, _)| *other != tag);
        self.tags.push((tag, values.to_vec()));
        self
    }

    pub(super) fn strip(&mut self, bytes: &[u8]) -> &mut Self {
        self.strips.push(bytes.to_vec());
        self
    }

    /// Samples of 16 bits, in the file's byte order.
    pub(super) fn strip16(&mut self, samples: &[u16]) -> &mut Self {
        let write = if self.is_big_endian { u16::to_be_bytes } else { u16::to_le_bytes };
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| write(*sample)).collect();
        self.strip(&bytes)
    }

    fn number(&self, value: u64, size: usize) -> Vec<u8> {
        match self.is_big_endian {
            true => value.to_be_bytes()[8 - size..].to_vec(),
            false => value.to_le_bytes()[..size].to_vec(),
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        // Places and counts are of so many bytes.
        let place = if self.is_big { 8 } else { 4 };
        let mut file = match (self.is_big_endian, self.is_big) {
            (false, false) => b"II\x2a\0".to_vec(),
            (true, false) => b"MM\0\x2a".to_vec(),
            (false, true) => b"II\x2b\0\x08\0\0\0".to_vec(),
            (true, true) => b"MM\0\x2b\0\x08\0\0".to_vec(),
        };
        let pixels: usize = self.strips.iter().map(Vec::len).sum();
        let first = file.len() + place + pixels;
        file.extend(self.number(first as u64, place));
        let mut tags = self.tags.clone();
        if !self.strips.is_empty() {
            let mut at = file.len();
            let mut places = Vec::new();
            for strip in &self.strips {
                places.push(at as u64);
                at += strip.len();
                file.extend(strip);
            }
            tags.push((273, places));
            tags.push((279, self.strips.iter().map(|strip| strip.len() as u64).collect()));
        }
        tags.sort_by_key(|(tag, _)| *tag);
        file.extend(self.number(tags.len() as u64, if self.is_big { 8 } else { 2 }));
        let mut beyond = file.len() + tags.len() * (4 + 2 * place) + place;
        let mut values = Vec::new();
        for (tag, numbers) in &tags {
            let is_short = numbers.iter().all(|number| *number <= u64::from(u16::MAX));
            let (kind, size) = if is_short { (3, 2) } else { (4, 4) };
            let written: Vec<u8> = numbers.iter().flat_map(|number| self.number(*number, size)).collect();
            file.extend(self.number((*tag).into(), 2));
            file.extend(self.number(kind, 2));
            file.extend(self.number(numbers.len() as u64, place));
            if written.len() <= place {
                file.extend(&written);
                file.extend(vec![0; place - written.len()]);
            } else {
                file.extend(self.number(beyond as u64, place));
                beyond += written.len();
                values.extend(written);
            }
        }
        file.extend(self.number(0, place));
        file.extend(values);
        file
    }
}
