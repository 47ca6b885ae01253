//! A picture to a model's input size.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::GreyImage;

/// Resizes to `width` times `height` pixels with the antialiased triangle filter of `docs/bundles.md`; the aspect is
/// not kept. A side of 0, which no bundle has, counts as 1.
pub fn resize(image: &GreyImage, width: u32, height: u32) -> GreyImage {
    let (width, height) = (width.max(1), height.max(1));
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let source = ImageRef::new(image.width, image.height, &image.pixels, PixelType::U8);
    let source = source.expect("a GreyImage has as many bytes as pixels");
    let mut target = Image::new(width, height, PixelType::U8);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let resized = Resizer::new().resize(&source, &mut target, Some(&options));
    resized.expect("both pictures are of 8-bit grey and the whole source is used");
    GreyImage { width, height, pixels: target.into_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every texture at once, and the same in Python: `(x*x*7 + y*13 + x*y*3) % 256`.
    fn picture(width: u32, height: u32) -> GreyImage {
        let pixel = |i: u32| {
            let (x, y) = (i % width, i / width);
            ((x * x * 7 + y * 13 + x * y * 3) % 256) as u8
        };
        GreyImage::new(width, height, (0..width * height).map(pixel).collect()).unwrap()
    }

    /// Compares every n-th pixel with those of Pillow 13.0, `Image.fromarray(picture).resize(to, Image.BILINEAR)`.
    fn check(from: (u32, u32), to: (u32, u32), expected: &[u8]) {
        let resized = resize(&picture(from.0, from.1), to.0, to.1);
        assert_eq!((resized.width(), resized.height()), to);
        for (k, &expected) in expected.iter().enumerate() {
            let got = resized.pixels()[k * resized.pixels().len() / 24];
            assert!(got.abs_diff(expected) <= 1, "{from:?} to {to:?}, sample {k}: {got}, Pillow {expected}");
        }
    }

    /// Pillow counts in 22 bits and `fast_image_resize` in 15 or so: up to a quarter of the pixels of noise differ, by
    /// one level; of real crops one in a hundred at most.
    #[test]
    fn is_within_one_level_of_pillow() {
        #[rustfmt::skip]
        check((128, 128), (64, 64), &[
            18, 115, 109, 124, 155, 153, 110, 67, 125, 97, 155, 133, 79, 143, 141, 38, 155, 109, 129, 99, 153, 115, 75,
            113,
        ]);
        #[rustfmt::skip]
        check((200, 117), (64, 64), &[
            31, 122, 116, 147, 130, 169, 161, 119, 97, 124, 135, 131, 155, 103, 132, 161, 134, 140, 149, 119, 144, 109,
            149, 111,
        ]);
        #[rustfmt::skip]
        check((33, 33), (64, 64), &[
            0, 95, 123, 50, 157, 157, 104, 108, 86, 158, 152, 58, 211, 89, 200, 9, 108, 128, 63, 157, 57, 116, 171, 187,
        ]);
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let picture = picture(31, 17);
        assert_eq!(resize(&picture, 31, 17), picture);
    }

    #[test]
    fn the_smallest_sizes_are_no_trouble() {
        for (width, height) in [(1, 1), (1, 500), (500, 1)] {
            assert_eq!(resize(&picture(width, height), 64, 64).pixels().len(), 64 * 64);
            assert_eq!(resize(&picture(64, 64), width, height).pixels().len(), (width * height) as usize);
        }
    }
}
