//! Any decoded pixel type to 8-bit grey.

use image::DynamicImage;

/// Grey levels of a picture, alpha dropped; `None` for pixel types without a rule (floating point).
pub(super) fn to_grey(picture: DynamicImage) -> Option<Vec<u8>> {
    Some(match picture {
        DynamicImage::ImageLuma8(p) => p.into_raw(),
        DynamicImage::ImageLumaA8(p) => p.pixels().map(|p| p.0[0]).collect(),
        DynamicImage::ImageRgb8(p) => p.pixels().map(|p| luma(p.0)).collect(),
        DynamicImage::ImageRgba8(p) => p.pixels().map(|p| luma([p.0[0], p.0[1], p.0[2]])).collect(),
        DynamicImage::ImageLuma16(p) => p.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().map(|p| high(p.0[0])).collect(),
        DynamicImage::ImageRgb16(p) => p.pixels().map(|p| luma(p.0.map(high))).collect(),
        DynamicImage::ImageRgba16(p) => {
            p.pixels().map(|p| luma([p.0[0], p.0[1], p.0[2]].map(high))).collect()
        }
        _ => return None,
    })
}

/// ITU-R BT.601 in 16-bit fixed point, bit for bit what Pillow's `convert("L")` gives for RGB.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768;
    // The weights add up to 65,536, so the result is at most 255.
    (sum >> 16) as u8
}

/// The high byte: Pillow's rule, and exact for 8-bit pictures stored as 16.
fn high(sample: u16) -> u8 {
    (sample >> 8) as u8
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
}
