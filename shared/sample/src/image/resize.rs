//! A picture to a model's input size.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::{Picture, PictureError};

/// Resizes to `width` times `height` pixels with the antialiased triangle filter of `docs/bundles.md`; the aspect is
/// not kept, and each channel is resized by itself. A side of 0, which no bundle has, counts as 1.
///
/// Grey and three channels have code of their own, and pictures of any other number are resized plane by plane: the
/// code for a kind of pixel is large, and each takes seconds to compile.
pub fn resize(picture: &Picture, width: u32, height: u32) -> Picture {
    let (width, height) = (width.max(1), height.max(1));
    if (picture.width(), picture.height()) == (width, height) {
        return picture.clone();
    }
    let resized = match picture.channels().count() {
        1 => resize_pixels::<U8>(picture, width, height),
        3 => resize_pixels::<U8x3>(picture, width, height),
        _ => {
            let each = picture.map_planes(|plane| Ok::<_, PictureError>(resize(&plane, width, height)));
            return each.expect("the planes have one size");
        }
    };
    let resized = Picture::new(width, height, picture.channels(), resized);
    resized.expect("the target has as many bytes as samples")
}

fn resize_pixels<P: PixelTrait>(picture: &Picture, width: u32, height: u32) -> Vec<u8> {
    let source = TypedImageRef::<P>::from_buffer(picture.width(), picture.height(), picture.samples());
    let source = source.expect("a picture has as many bytes as samples");
    let mut resized = vec![0; width as usize * height as usize * picture.channels().count()];
    let target = TypedImage::<P>::from_buffer(width, height, &mut resized);
    let mut target = target.expect("the target has as many bytes as samples");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let done = Resizer::new().resize_typed(&source, &mut target, Some(&options));
    done.expect("the whole source is used");
    resized
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::Channels;

    /// Every texture at once, and the same in Python: `(x*x*7 + y*13 + x*y*3) % 256`.
    fn picture(width: u32, height: u32) -> Picture {
        let pixel = |i: u32| {
            let (x, y) = (i % width, i / width);
            ((x * x * 7 + y * 13 + x * y * 3) % 256) as u8
        };
        Picture::grey(width, height, (0..width * height).map(pixel).collect()).unwrap()
    }

    /// Compares every n-th pixel with those of Pillow 13.0, `Image.fromarray(picture).resize(to, Image.BILINEAR)`.
    fn check(from: (u32, u32), to: (u32, u32), expected: &[u8]) {
        let resized = resize(&picture(from.0, from.1), to.0, to.1);
        assert_eq!((resized.width(), resized.height()), to);
        for (k, &expected) in expected.iter().enumerate() {
            let got = resized.samples()[k * resized.samples().len() / 24];
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
            assert_eq!(resize(&picture(width, height), 64, 64).samples().len(), 64 * 64);
            assert_eq!(resize(&picture(64, 64), width, height).samples().len(), (width * height) as usize);
        }
    }

    proptest! {
        #[test]
        fn each_channel_is_resized_as_if_it_were_alone(
            (width, height, count) in (1..50_u32, 1..50_u32, 1..7_u8),
            (to_width, to_height) in (1..50_u32, 1..50_u32),
            seed in any::<u32>(),
        ) {
            let channels = Channels::try_from(count).unwrap();
            let length = width * height * u32::from(count);
            let sample = |at: u32| (at.wrapping_mul(seed | 1) >> 13) as u8;
            let picture = Picture::new(width, height, channels, (0..length).map(sample).collect()).unwrap();
            let resized = resize(&picture, to_width, to_height);
            for (together, alone) in resized.planes().zip(picture.planes()) {
                prop_assert_eq!(together.unwrap(), resize(&alone.unwrap(), to_width, to_height));
            }
        }
    }
}
