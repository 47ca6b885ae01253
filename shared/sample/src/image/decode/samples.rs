//! Any decoded pixel type to 8-bit samples of the channels that are wanted.

use image::DynamicImage;

use super::depth::BitDepth;
use crate::image::picture::thrice;
use crate::image::{Channels, luma};

/// A file's pixels as its decoder gave them.
#[derive(Debug)]
pub(super) enum Pixels {
    /// Grey or RGB, with or without alpha.
    Image(DynamicImage),
    /// A TIFF of as many 8-bit samples a pixel as are wanted, whatever they stand for.
    Bands8(Vec<u8>),
    /// A TIFF of as many 16-bit samples a pixel as are wanted, whatever they stand for.
    Bands16(Vec<u16>),
}

impl Channels {
    /// Whether samples are taken as they stand in the file: grey and RGB are made of whatever it holds.
    pub(super) fn are_raw(self) -> bool {
        ![Self::GREY, Self::RGB].contains(&self)
    }
}

/// How a 16-bit sample becomes 8 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) depth: BitDepth,
    /// 0 was white in the file, and the decoder has turned all 16 bits round.
    pub(super) is_inverted: bool,
}

impl Scale {
    /// The upper 8 of the bits that count; of 16 bits the high byte, which is Pillow's rule, and exact for 8-bit pictures
    /// stored as 16.
    fn to_8(self, sample: u16) -> u8 {
        let level = |sample: u16| (sample >> (self.depth.bits() - 8)).min(255) as u8;
        if self.is_inverted { !level(!sample) } else { level(sample) }
    }
}

/// Samples for as many channels as are wanted, pixel by pixel. `None` for pixel types without a rule (floating point), and
/// where raw channels are wanted and the picture has another number of them.
pub(super) fn of(pixels: Pixels, wanted: Channels, scale: Scale) -> Option<Vec<u8>> {
    let picture = match pixels {
        Pixels::Bands8(samples) => return Some(samples),
        Pixels::Bands16(samples) => return Some(to_8(samples, scale)),
        Pixels::Image(picture) => picture,
    };
    match wanted {
        Channels::GREY => to_grey(picture, scale),
        Channels::RGB => to_rgb(picture, scale),
        raw if usize::from(picture.color().channel_count()) == raw.count() => to_raw(picture, scale),
        _ => None,
    }
}

fn to_8(samples: Vec<u16>, scale: Scale) -> Vec<u8> {
    samples.into_iter().map(|sample| scale.to_8(sample)).collect()
}

/// Grey levels, alpha dropped.
fn to_grey(picture: DynamicImage, scale: Scale) -> Option<Vec<u8>> {
    let to_8 = |sample: u16| scale.to_8(sample);
    Some(match picture {
        DynamicImage::ImageLuma8(p) => p.into_raw(),
        DynamicImage::ImageLumaA8(p) => p.pixels().map(|p| p.0[0]).collect(),
        DynamicImage::ImageRgb8(p) => p.pixels().map(|p| luma(p.0)).collect(),
        DynamicImage::ImageRgba8(p) => p.pixels().map(|p| luma([p.0[0], p.0[1], p.0[2]])).collect(),
        DynamicImage::ImageLuma16(p) => p.into_raw().into_iter().map(to_8).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().map(|p| to_8(p.0[0])).collect(),
        DynamicImage::ImageRgb16(p) => p.pixels().map(|p| luma(p.0.map(to_8))).collect(),
        DynamicImage::ImageRgba16(p) => {
            p.pixels().map(|p| luma([p.0[0], p.0[1], p.0[2]].map(to_8))).collect()
        }
        _ => return None,
    })
}

/// Red, green and blue, alpha dropped; grey becomes all three.
fn to_rgb(picture: DynamicImage, scale: Scale) -> Option<Vec<u8>> {
    let to_8 = |sample: u16| scale.to_8(sample);
    Some(match picture {
        DynamicImage::ImageLuma8(p) => thrice(p.as_raw()),
        DynamicImage::ImageLumaA8(p) => p.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageRgba8(p) => p.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma16(p) => p.as_raw().iter().flat_map(|sample| [to_8(*sample); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().flat_map(|p| [to_8(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.pixels().flat_map(|p| p.0.map(to_8)).collect(),
        DynamicImage::ImageRgba16(p) => p.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(to_8)).collect(),
        _ => return None,
    })
}

/// Every sample as it stands, alpha among them.
fn to_raw(picture: DynamicImage, scale: Scale) -> Option<Vec<u8>> {
    Some(match picture {
        DynamicImage::ImageLumaA8(p) => p.into_raw(),
        DynamicImage::ImageRgba8(p) => p.into_raw(),
        DynamicImage::ImageLumaA16(p) => to_8(p.into_raw(), scale),
        DynamicImage::ImageRgba16(p) => to_8(p.into_raw(), scale),
        _ => return None,
    })
}

/// Shows every 16-bit sample that counts: all where raw channels are wanted, else all but alpha. `None` where samples are
/// not of 16 bits.
pub(super) fn each_16(pixels: &Pixels, wanted: Channels, see: &mut impl FnMut(u16)) -> Option<()> {
    let all: &[u16] = match pixels {
        Pixels::Bands8(_) => return None,
        Pixels::Bands16(samples) => samples,
        Pixels::Image(picture) => match picture {
            DynamicImage::ImageLuma16(p) => p.as_raw(),
            DynamicImage::ImageRgb16(p) => p.as_raw(),
            DynamicImage::ImageLumaA16(p) if wanted.are_raw() => p.as_raw(),
            DynamicImage::ImageRgba16(p) if wanted.are_raw() => p.as_raw(),
            DynamicImage::ImageLumaA16(p) => {
                p.pixels().for_each(|p| see(p.0[0]));
                return Some(());
            }
            DynamicImage::ImageRgba16(p) => {
                p.pixels().for_each(|p| p.0[..3].iter().for_each(|sample| see(*sample)));
                return Some(());
            }
            _ => return None,
        },
    };
    all.iter().for_each(|sample| see(*sample));
    Some(())
}

/// Whether any pixel is not wholly opaque, where alpha is no channel like others. `may_be_unused`: an alpha of nothing but
/// zeros is one that its writer did not fill in.
pub(super) fn is_transparent(pixels: &Pixels, wanted: Channels, may_be_unused: bool) -> bool {
    fn any<T: PartialEq + Default>(
        alphas: impl Iterator<Item = T> + Clone,
        full: T,
        may_be_unused: bool,
    ) -> bool {
        let is_unused = may_be_unused && alphas.clone().all(|alpha| alpha == T::default());
        !is_unused && alphas.into_iter().any(|alpha| alpha != full)
    }
    let Pixels::Image(picture) = pixels else { return false };
    match picture {
        _ if wanted.are_raw() => false,
        DynamicImage::ImageLumaA8(p) => any(p.pixels().map(|p| p.0[1]), u8::MAX, may_be_unused),
        DynamicImage::ImageRgba8(p) => any(p.pixels().map(|p| p.0[3]), u8::MAX, may_be_unused),
        DynamicImage::ImageLumaA16(p) => any(p.pixels().map(|p| p.0[1]), u16::MAX, may_be_unused),
        DynamicImage::ImageRgba16(p) => any(p.pixels().map(|p| p.0[3]), u16::MAX, may_be_unused),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_depth_has_its_own_white_and_black() {
        for bits in 8..=16 {
            let depth = BitDepth::try_from(bits).unwrap();
            let most = u16::MAX >> (16 - bits);
            let (plain, inverted) = (Scale { depth, is_inverted: false }, Scale { depth, is_inverted: true });
            assert_eq!((plain.to_8(0), plain.to_8(most)), (0, 255));
            // The decoder has turned what stood in the file: white was 0.
            assert_eq!((inverted.to_8(!0), inverted.to_8(!most)), (255, 0));
            assert_eq!(plain.to_8(u16::MAX), 255, "what is over it is white");
        }
    }
}
