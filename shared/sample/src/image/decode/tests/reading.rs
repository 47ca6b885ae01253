//! What files leave open: bits that count, the way up, white, alpha, gamma.

use image::ExtendedColorType;

use super::super::{BitDepth, Decoded, File, Limits, read, read_all};
use super::make::{Tiff, chunk, exif, jpeg, png, png16, with_chunks, with_segment};
use super::refused;
use crate::image::{Channels, Picture};

const WIDTH: u32 = 16;

/// Every grey level once.
fn levels() -> Vec<u8> {
    (0..=255).collect()
}

fn plain() -> Picture {
    Picture::grey(WIDTH, WIDTH, levels()).unwrap()
}

fn shifted(by: u32) -> Vec<u16> {
    levels().into_iter().map(|level| u16::from(level) << by).collect()
}

fn depth(bits: u8) -> Option<BitDepth> {
    Some(BitDepth::try_from(bits).unwrap())
}

fn grey(bytes: &[u8], depth: Option<BitDepth>) -> File<'_> {
    File { bytes, channels: Channels::GREY, depth }
}

fn take(file: &[u8], depth: Option<BitDepth>) -> Decoded {
    read(&grey(file, depth), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn codes(decoded: &Decoded) -> Vec<&'static str> {
    decoded.remarks.iter().map(|remark| remark.code()).collect()
}

fn grey_tiff(samples: &[u16], is_big_endian: bool) -> Tiff {
    let mut tiff = Tiff::new(WIDTH, WIDTH);
    tiff.is_big_endian = is_big_endian;
    tiff.set(258, &[16]).strip16(samples);
    tiff
}

#[test]
fn a_camera_of_few_bits_gives_the_grey_of_eight() {
    for (bits, by) in [(8, 0), (10, 2), (12, 4), (14, 6), (16, 8)] {
        let samples = shifted(by);
        for (name, file) in [
            ("PNG", png16(&samples, WIDTH)),
            ("TIFF", grey_tiff(&samples, false).write()),
            ("TIFF, big endian", grey_tiff(&samples, true).write()),
        ] {
            let guessed = take(&file, None);
            assert_eq!(guessed.image, plain(), "{name} of {bits} bits");
            let is_sure = bits == 16;
            assert_eq!(codes(&guessed).is_empty(), is_sure, "{name} of {bits} bits: {:?}", guessed.remarks);
            assert_eq!(guessed.is_plain, is_sure, "what was assumed is not to be assumed again by others");
            let said = take(&file, depth(bits));
            assert_eq!((said.image, said.remarks), (plain(), vec![]), "{name} of {bits} bits");
        }
    }
}

#[test]
fn the_file_says_how_many_bits_count() {
    // The largest is 900, so that nothing else could tell.
    let samples: Vec<u16> = (0..256).map(|i| (i * 900 / 255) as u16).collect();
    let sbit = |bits: u8| with_chunks(&png16(&samples, WIDTH), &[chunk(b"sBIT", &[bits])]);
    let most = |tag: u16, value: u64| grey_tiff(&samples, false).set(tag, &[value]).write();
    for (name, file, bits) in [
        ("sBIT", sbit(12), 12),
        ("sBIT", sbit(14), 14),
        ("sBIT", sbit(16), 16),
        ("MaxSampleValue", most(281, 4095), 12),
        ("MaxSampleValue", most(281, 65_535), 16),
        ("SMaxSampleValue", most(341, 1023), 10),
    ] {
        let decoded = take(&file, None);
        let wanted: Vec<u8> = samples.iter().map(|sample| (sample >> (bits - 8)) as u8).collect();
        assert_eq!(decoded.image.samples(), wanted, "{name} of {bits} bits");
        assert_eq!(codes(&decoded), Vec::<&str>::new(), "{name} of {bits} bits");
    }
    // The largest sample of one picture says nothing of its scale.
    assert_eq!(codes(&take(&most(281, 900), None)), ["bit_depth_guessed"]);
    // Nor does a chunk whose checksum is wrong.
    let mut damaged = sbit(12);
    damaged[33 + 8] = 14;
    assert_eq!(codes(&take(&damaged, None)), ["bit_depth_guessed"]);
}

#[test]
fn a_dark_picture_says_that_its_bits_were_guessed() {
    let samples: Vec<u16> = (0..256).map(|i| (i * 900 / 255) as u16).collect();
    let file = png16(&samples, WIDTH);
    let guessed = take(&file, None);
    assert_eq!(guessed.image.samples()[255], 225, "900 of 1023");
    let message = guessed.remarks[0].to_string();
    assert!(message.contains("at most 900") && message.contains("10 bits"), "{message}");
    for (bits, white) in [(10, 225), (12, 56), (14, 14), (16, 3)] {
        let said = take(&file, depth(bits));
        assert_eq!((said.image.samples()[255], codes(&said)), (white, vec![]), "{bits} bits");
    }
    // Eight bits that were stretched to sixteen are sure, however dark.
    let stretched: Vec<u16> = (0..256).map(|i| (i % 16) * 257).collect();
    let decoded = take(&png16(&stretched, WIDTH), None);
    assert_eq!((decoded.image.samples()[15], codes(&decoded)), (15, vec![]));
    // And black is black.
    assert_eq!(codes(&take(&png16(&[0; 256], WIDTH), None)), Vec::<&str>::new());
}

#[test]
fn a_depth_that_cannot_be_is_refused_or_said() {
    let file = png16(&shifted(8), WIDTH);
    let error = read(&grey(&file, depth(12)), &Limits::default()).unwrap_err();
    assert_eq!(error.code(), "bit_depth");
    let mut samples: Vec<u16> = shifted(4).into_iter().cycle().take(2048).collect();
    samples[0] = u16::MAX;
    let decoded = take(&png16(&samples, WIDTH), depth(12));
    assert_eq!((decoded.image.samples()[0], codes(&decoded)), (255, vec!["bit_depth_exceeded"]));
    // Samples of eight bits have no other depth.
    let eight = png(&levels(), WIDTH, WIDTH, ExtendedColorType::L8);
    assert_eq!(take(&eight, depth(12)), take(&eight, None));
}

#[test]
fn pictures_of_one_sample_are_read_alike() {
    let dark: Vec<u16> = shifted(4).into_iter().map(|sample| sample / 8).collect();
    let (bright, dark) = (png16(&shifted(4), WIDTH), png16(&dark, WIDTH));
    let eight = png(&levels(), WIDTH, WIDTH, ExtendedColorType::L8);
    let all =
        read_all(&[grey(&dark, None), grey(&eight, None), grey(&bright, None)], &Limits::default()).unwrap();
    assert_eq!(all[0].image.samples()[255], 255 / 8, "12 bits, as the other shows");
    assert!(all[0].remarks[0].to_string().contains("12 bits"));
    assert_eq!((&all[1].image, &all[2].image), (&plain(), &plain()));
    let alone = read_all(&[grey(&dark, None)], &Limits::default()).unwrap();
    assert!(alone[0].image.samples()[255] > 100, "alone nobody can tell");
    let (at, error) = read_all(&[grey(&dark, None), grey(b"x", None)], &Limits::default()).unwrap_err();
    assert_eq!((at, error.code()), (1, "not_an_image"));
}

#[test]
fn colours_of_few_bits_are_weighed_after_they_were_scaled() {
    let colours: Vec<u8> = levels().iter().flat_map(|level| [*level, 255 - level, level / 2]).collect();
    let eight = take(&png(&colours, WIDTH, WIDTH, ExtendedColorType::Rgb8), None);
    let twelve: Vec<u8> = colours.iter().flat_map(|level| (u16::from(*level) << 4).to_ne_bytes()).collect();
    let twelve = take(&png(&twelve, WIDTH, WIDTH, ExtendedColorType::Rgb16), None);
    assert_eq!((&twelve.image, codes(&twelve)), (&eight.image, vec!["bit_depth_guessed"]));
    let alpha: Vec<u8> =
        (shifted(4).into_iter()).flat_map(|level| [level, u16::MAX].map(u16::to_ne_bytes).concat()).collect();
    let with_alpha = take(&png(&alpha, WIDTH, WIDTH, ExtendedColorType::La16), None);
    assert_eq!(with_alpha.image, plain(), "alpha has all its bits, and tells nothing");
}

#[test]
fn white_is_what_the_file_says() {
    let inverted: Vec<u8> = levels().iter().map(|level| 255 - level).collect();
    let mut eight = Tiff::new(WIDTH, WIDTH);
    eight.set(262, &[0]).strip(&inverted);
    assert_eq!(take(&eight.write(), None).image, plain());
    for bits in [12, 16] {
        let samples: Vec<u16> =
            inverted.iter().map(|level| u16::from(*level) << (bits - 8) | ((1 << (bits - 8)) - 1)).collect();
        for is_big_endian in [false, true] {
            let file = grey_tiff(&samples, is_big_endian).set(262, &[0]).write();
            assert_eq!(take(&file, None).image, plain(), "{bits} bits");
            assert_eq!(take(&file, depth(bits)).image, plain(), "{bits} bits");
        }
    }
    // One bit: 0 is white.
    let mut one = Tiff::new(8, 1);
    one.set(258, &[1]).set(262, &[0]).strip(&[0b0101_0000]);
    assert_eq!(take(&one.write(), None).image.samples(), [255, 0, 255, 0, 255, 255, 255, 255]);
}

/// Three by two, turned back by each orientation: what EXIF calls the top and left of row and column 0.
#[test]
fn a_picture_is_turned_as_its_camera_says() {
    let upright: [u8; 6] = [0, 50, 100, 150, 200, 250];
    let stored: [(u32, [usize; 6]); 8] = [
        (3, [0, 1, 2, 3, 4, 5]),
        (3, [2, 1, 0, 5, 4, 3]),
        (3, [5, 4, 3, 2, 1, 0]),
        (3, [3, 4, 5, 0, 1, 2]),
        (2, [0, 3, 1, 4, 2, 5]),
        (2, [2, 5, 1, 4, 0, 3]),
        (2, [5, 2, 4, 1, 3, 0]),
        (2, [3, 0, 4, 1, 5, 2]),
    ];
    for (orientation, (width, order)) in (1..).zip(stored) {
        let pixels = order.map(|at| upright[at]);
        let grey = png(&pixels, width, 6 / width, ExtendedColorType::L8);
        let in_png = with_chunks(&grey, &[chunk(b"eXIf", &exif(orientation))]);
        let mut tiff = Tiff::new(width, 6 / width);
        let in_tiff = tiff.set(274, &[orientation.into()]).strip(&pixels).write();
        for file in [in_png, in_tiff] {
            let decoded = take(&file, None);
            assert_eq!((decoded.image.width(), decoded.image.height()), (3, 2), "{orientation}");
            assert_eq!(decoded.image.samples(), upright, "{orientation}");
            let is_turned = orientation != 1;
            assert_eq!(codes(&decoded).contains(&"orientation"), is_turned, "{orientation}");
            assert_eq!(decoded.is_plain, !is_turned, "{orientation}");
        }
    }
    // A JPEG's pixels are not exact: a light half tells which way is up.
    let halves: Vec<u8> = (0..64 * 32).map(|i| if i % 64 < 32 { 20 } else { 230 }).collect();
    let file = jpeg(&halves, 64, 32, ExtendedColorType::L8);
    let turned = with_segment(&file, 0xe1, &[b"Exif\0\0", &exif(6)[..]].concat());
    let decoded = take(&turned, None);
    assert_eq!((decoded.image.width(), decoded.image.height()), (32, 64));
    assert!(decoded.image.samples()[0] < 30 && decoded.image.samples()[32 * 63] > 220);
    assert_eq!(codes(&decoded), ["orientation"]);
    for unknown in [0, 9] {
        let untouched = with_segment(&file, 0xe1, &[b"Exif\0\0", &exif(unknown)[..]].concat());
        assert_eq!(take(&untouched, None).image, take(&file, None).image);
    }
}

#[test]
fn what_is_not_applied_is_said() {
    let grey = png(&levels(), WIDTH, WIDTH, ExtendedColorType::L8);
    let gamma = |gamma: u32| chunk(b"gAMA", &gamma.to_be_bytes());
    let of = |chunks: &[Vec<u8>]| {
        let decoded = take(&with_chunks(&grey, chunks), None);
        assert_eq!(decoded.image, plain());
        assert!(decoded.is_plain);
        codes(&decoded)
    };
    assert_eq!(of(&[gamma(45_455)]), Vec::<&str>::new());
    assert_eq!(of(&[gamma(100_000)]), ["gamma"]);
    assert_eq!(of(&[chunk(b"sRGB", &[0]), gamma(100_000)]), Vec::<&str>::new());
    let jpeg = jpeg(&levels(), WIDTH, WIDTH, ExtendedColorType::L8);
    let profile = |name: &str| {
        let data = [b"ICC_PROFILE\0\x01\x01", &[0; 128][..], name.as_bytes()].concat();
        codes(&take(&with_segment(&jpeg, 0xe2, &data), None))
    };
    assert_eq!(profile("sRGB IEC61966-2.1"), Vec::<&str>::new());
    assert_eq!(profile("Dot Gain 20%"), ["colour_profile"]);
    let half: Vec<u8> = levels().iter().flat_map(|level| [*level, 128]).collect();
    let decoded = take(&png(&half, WIDTH, WIDTH, ExtendedColorType::La8), None);
    assert_eq!((decoded.image.clone(), codes(&decoded)), (plain(), vec!["transparency"]));
}

#[test]
fn planes_and_alpha_of_a_tiff_are_taken_apart() {
    let planes = |planes: &[&[u8]], layout: u64| {
        let mut tiff = Tiff::new(WIDTH, WIDTH);
        let samples = planes.len() as u64;
        tiff.set(277, &[samples]).set(284, &[layout]).set(258, &vec![8; planes.len()]);
        if layout == 2 {
            planes.iter().for_each(|plane| {
                tiff.strip(plane);
            });
        } else {
            let mixed = (0..256).flat_map(|i| planes.iter().map(move |plane| plane[i]));
            tiff.strip(&mixed.collect::<Vec<u8>>());
        }
        tiff
    };
    let (grey, opaque, half) = (levels(), vec![255; 256], vec![128; 256]);
    for layout in [1, 2] {
        let alpha = planes(&[&grey, &opaque], layout).set(338, &[2]).write();
        assert_eq!(take(&alpha, None).image, plain(), "layout {layout}");
        let colour = planes(&[&grey, &opaque, &half], layout).set(262, &[2]).write();
        let bytes: Vec<u8> = grey.iter().flat_map(|level| [*level, 255, 128]).collect();
        let same = take(&png(&bytes, WIDTH, WIDTH, ExtendedColorType::Rgb8), None);
        assert_eq!(take(&colour, None).image, same.image, "layout {layout}");
    }
    let transparent = planes(&[&grey, &half], 1).set(338, &[2]).write();
    assert_eq!(codes(&take(&transparent, None)), ["transparency"]);
    let mut deep = Tiff::new(WIDTH, WIDTH);
    let mixed: Vec<u16> = shifted(4).into_iter().flat_map(|level| [level, u16::MAX]).collect();
    deep.set(277, &[2]).set(258, &[16, 16]).set(338, &[2]).strip16(&mixed);
    assert_eq!(take(&deep.write(), None).image, plain(), "12 bits and alpha");
}

#[test]
fn a_big_tiff_is_a_tiff() {
    for is_big_endian in [false, true] {
        let mut tiff = Tiff::new(WIDTH, WIDTH);
        (tiff.is_big, tiff.is_big_endian) = (true, is_big_endian);
        let file = tiff.set(258, &[16]).set(281, &[4095]).strip16(&shifted(4)).write();
        let decoded = take(&file, None);
        assert_eq!((&decoded.image, codes(&decoded)), (&plain(), vec![]));
        for end in 0..file.len() {
            assert!(read(&grey(&file[..end], None), &Limits::default()).is_err(), "cut to {end}");
        }
    }
}

#[test]
fn what_a_tiff_may_hold_and_has_no_rule_is_named() {
    let with = |tags: &[(u16, &[u64])]| {
        let mut tiff = Tiff::new(WIDTH, WIDTH);
        tags.iter().for_each(|(tag, values)| {
            tiff.set(*tag, values);
        });
        tiff.strip(&[0; 4096]).write()
    };
    refused(&with(&[(258, &[12])]), "unsupported_colour", "12-bit samples");
    refused(&with(&[(258, &[4])]), "unsupported_colour", "4-bit samples");
    refused(&with(&[(339, &[2])]), "unsupported_colour", "signed samples");
    refused(&with(&[(258, &[32]), (339, &[3])]), "unsupported_colour", "32-bit floating-point");
    refused(&with(&[(258, &[32]), (339, &[6])]), "unsupported_colour", "complex");
    refused(&with(&[(262, &[3])]), "unsupported_colour", "a palette");
    refused(&with(&[(262, &[0]), (277, &[2])]), "unsupported_colour", "2 samples a grey pixel");
    refused(&with(&[(266, &[2])]), "unsupported", "FillOrder 2");
}

#[test]
fn pictures_of_other_formats_are_named() {
    for (bytes, name) in [
        (b"RIFF\x24\0\0\0WEBPVP8 " as &[u8], "WebP"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"P5\n640 480\n255\n", "PNM"),
        (b"8BPS\0\x01", "Photoshop"),
    ] {
        refused(bytes, "unsupported", &format!("{name} pictures are not supported"));
    }
    refused(b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "unsupported", "JPEG-LS");
    refused(b"P5 is the name of a part", "not_an_image", "PNG, JPEG");
}
