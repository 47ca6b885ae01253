//! Any decoded pixel type to 8-bit grey.

use image::DynamicImage;

use super::depth::BitDepth;

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

/// Grey levels of a picture, alpha dropped; `None` for pixel types without a rule (floating point).
pub(super) fn to_grey(picture: DynamicImage, scale: Scale) -> Option<Vec<u8>> {
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

/// Whether any pixel is not wholly opaque. `may_be_unused`: an alpha of nothing but zeros is one that its writer did not
/// fill in.
pub(super) fn is_transparent(picture: &DynamicImage, may_be_unused: bool) -> bool {
    fn any<T: PartialEq + Default>(
        alphas: impl Iterator<Item = T> + Clone,
        full: T,
        may_be_unused: bool,
    ) -> bool {
        let is_unused = may_be_unused && alphas.clone().all(|alpha| alpha == T::default());
        !is_unused && alphas.into_iter().any(|alpha| alpha != full)
    }
    match picture {
        DynamicImage::ImageLumaA8(p) => any(p.pixels().map(|p| p.0[1]), u8::MAX, may_be_unused),
        DynamicImage::ImageRgba8(p) => any(p.pixels().map(|p| p.0[3]), u8::MAX, may_be_unused),
        DynamicImage::ImageLumaA16(p) => any(p.pixels().map(|p| p.0[1]), u16::MAX, may_be_unused),
        DynamicImage::ImageRgba16(p) => any(p.pixels().map(|p| p.0[3]), u16::MAX, may_be_unused),
        _ => false,
    }
}

/// ITU-R BT.601 in 16-bit fixed point, bit for bit what Pillow's `convert("L")` gives for RGB.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768;
    // The weights add up to 65,536, so the result is at most 255.
    (sum >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luma_is_that_of_pillow() {
        // Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0)), Pillow 13.0
        let cases = [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([255, 255, 255], 255)];
        for (colour, grey) in
            cases.into_iter().chain([([1, 2, 3], 2), ([200, 100, 50], 124), ([17, 18, 16], 17)])
        {
            assert_eq!(luma(colour), grey, "{colour:?}");
        }
    }

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
