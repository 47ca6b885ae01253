//! Pictures of two grey levels, pixel by pixel, each coded by how often its surroundings were followed by black or
//! white so far: the idea of JBIG (ITU-T T.82) and of JBIG2's refinement regions (T.88), with simpler statistics.
//!
//! ```text
//! low level, high level, CRC-32 of the pixels (its low 16 bits, big endian), arithmetic code
//! ```
//!
//! The check costs 2 bytes. Without it every payload would be some picture: arithmetic code has no redundancy, and a
//! reference that differs by one pixel would turn the rest into noise.
//!
//! # Contexts
//! Small pictures end before large contexts have learnt anything, so they get the four nearest pixels; large ones get
//! eleven. Against a reference, its pixel at the same place and the four beside that join the four nearest.
//! Counts start at a tenth of an observation, for pictures are mostly predictable.

use super::range::{Decoder, Encoder, Probability};
use super::{Channels, PayloadError, Picture};

/// Surroundings as columns and rows from the pixel; in the picture itself only what was coded before.
type Places = &'static [(isize, isize)];

const NEAR: Places = &[(-1, 0), (-1, -1), (0, -1), (1, -1)];
#[rustfmt::skip]
const FAR: Places = &[
    (-1, 0), (-2, 0), (-3, 0), (-2, -1), (-1, -1), (0, -1), (1, -1), (2, -1), (-1, -2), (0, -2), (1, -2),
];
const IN_REFERENCE: Places = &[(0, -1), (-1, 0), (0, 0), (1, 0), (0, 1)];

/// From this many pixels on, [`FAR`] codes smaller than [`NEAR`].
const FAR_FROM_PIXELS: u64 = 96 * 96;

/// Weight of one observed pixel, where a context starts with a weight of 1 for either bit.
const OBSERVED: u32 = 10;

/// Codes a picture; `None` if it is not grey, has more than two levels, or cannot be compared with the reference.
pub(super) fn encode(image: &Picture, reference: Option<&Picture>) -> Option<Vec<u8>> {
    let (levels, mut plane) = Plane::of(image)?;
    let reference = match reference {
        Some(reference) => Some(comparable(reference, image.width(), image.height())?),
        None => None,
    };
    Some(encode_plane(levels, check(image.samples()), &mut plane, reference.as_ref()))
}

fn encode_plane(
    (low, high): (u8, u8),
    check: [u8; 2],
    plane: &mut Plane,
    reference: Option<&Plane>,
) -> Vec<u8> {
    let mut encoder = Encoder::new(vec![low, high, check[0], check[1]]);
    each_pixel(plane, reference, |bit, one| {
        encoder.put(bit, one);
        bit
    });
    encoder.finish()
}

/// Decodes, and refuses everything that [`encode`] would not have made of the picture that it gives.
pub(super) fn decode(
    bytes: &[u8],
    width: u32,
    height: u32,
    reference: Option<&Picture>,
) -> Result<Picture, PayloadError> {
    let (&[low, high, ..], code) = bytes.split_first_chunk::<4>().ok_or(PayloadError::Corrupt)?;
    let reference = match reference {
        Some(image) => {
            Some(comparable(image, width, height).ok_or(PayloadError::NoReference { width, height })?)
        }
        None => None,
    };
    let mut plane = Plane::empty(width, height);
    let mut decoder = Decoder::new(code);
    each_pixel(&mut plane, reference.as_ref(), |_, one| decoder.get(one));
    let pixels: Vec<u8> = plane.rows().flatten().map(|&bit| if bit == 1 { high } else { low }).collect();
    let image = Picture::grey(width, height, pixels)?;
    let (levels, mut plane) = Plane::of(&image).ok_or(PayloadError::Corrupt)?;
    // Made again rather than compared in parts: no byte may be missing, left over, or without meaning.
    let canonical = encode_plane(levels, check(image.samples()), &mut plane, reference.as_ref());
    if canonical == bytes { Ok(image) } else { Err(PayloadError::Corrupt) }
}

/// The bits of a picture of the same size and of two levels.
fn comparable(reference: &Picture, width: u32, height: u32) -> Option<Plane> {
    let same_size = (reference.width(), reference.height()) == (width, height);
    same_size.then(|| Plane::of(reference)).flatten().map(|(_, plane)| plane)
}

fn check(pixels: &[u8]) -> [u8; 2] {
    let mut crc = flate2::Crc::new();
    crc.update(pixels);
    (crc.sum() as u16).to_be_bytes()
}

/// Visits the pixels in order. `code` is given the bit that the plane holds and the probability of a one, and gives
/// the bit to go on with.
fn each_pixel(plane: &mut Plane, reference: Option<&Plane>, mut code: impl FnMut(u8, Probability) -> u8) {
    let pixels = plane.width as u64 * plane.height as u64;
    let own: Places = if reference.is_none() && pixels >= FAR_FROM_PIXELS { FAR } else { NEAR };
    let beside = if reference.is_some() { IN_REFERENCE } else { &[] };
    let mut counts = vec![[1_u32; 2]; 1 << (own.len() + beside.len())];
    for y in 0..plane.height {
        for x in 0..plane.width {
            let mut context = plane.gather(0, own, x, y);
            if let Some(reference) = reference {
                context = reference.gather(context, beside, x, y);
            }
            let [zeros, ones] = &mut counts[context];
            let one = (u64::from(*ones) << 16) / u64::from(*zeros + *ones);
            let at = plane.index(x, y);
            let bit = code(plane.bits[at], (one as Probability).max(1));
            plane.bits[at] = bit;
            *(if bit == 1 { ones } else { zeros }) += OBSERVED;
        }
    }
}

/// One bit a pixel, in a byte each, with zeros around so that no context looks outside.
struct Plane {
    width: usize,
    height: usize,
    bits: Vec<u8>,
}

/// The farthest that a context looks, in pixels.
const MARGIN: usize = 3;

impl Plane {
    fn empty(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { width, height, bits: vec![0; (width + 2 * MARGIN) * (height + 2 * MARGIN)] }
    }

    /// Low and high level (the same for a uniform picture) and where the high one stands; `None` if the picture is not grey
    /// or has more levels.
    fn of(image: &Picture) -> Option<((u8, u8), Self)> {
        if image.channels() != Channels::GREY {
            return None;
        }
        let pixels = image.samples();
        let (low, high) = pixels.iter().fold((u8::MAX, u8::MIN), |(low, high), &p| (low.min(p), high.max(p)));
        if pixels.iter().any(|&p| p != low && p != high) {
            return None;
        }
        let mut plane = Self::empty(image.width(), image.height());
        for (y, row) in pixels.chunks_exact(plane.width).enumerate() {
            let start = plane.index(0, y);
            for (bit, &pixel) in plane.bits[start..].iter_mut().zip(row) {
                *bit = u8::from(pixel != low);
            }
        }
        Some(((low, high), plane))
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.height).map(|y| &self.bits[self.index(0, y)..][..self.width])
    }

    fn index(&self, x: usize, y: usize) -> usize {
        (y + MARGIN) * (self.width + 2 * MARGIN) + x + MARGIN
    }

    /// The bits at `places` around a pixel, appended to `context`.
    fn gather(&self, context: usize, places: Places, x: usize, y: usize) -> usize {
        let (at, stride) = (self.index(x, y), self.index(0, 1) - self.index(0, 0));
        places.iter().fold(context, |context, &(dx, dy)| {
            let bit = self.bits[at.wrapping_add_signed(dx + dy * stride as isize)];
            context << 1 | usize::from(bit)
        })
    }
}
