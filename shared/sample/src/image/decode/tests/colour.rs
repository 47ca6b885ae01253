//! Pictures of more channels than one.

use image::ExtendedColorType;
use proptest::prelude::*;

use super::super::{BitDepth, DecodeError, Decoded, File, Format, Limits, decode, need, read};
use super::make::{Tiff, jpeg, png};
use super::{BILEVEL, COLOUR, JPEG};
use crate::image::{Channels, Picture};

const SIDE: u32 = 16;
const PIXELS: usize = 256;

fn channels(count: u8) -> Channels {
    Channels::try_from(count).unwrap()
}

fn take(bytes: &[u8], count: u8) -> Result<Decoded, DecodeError> {
    read(&File { bytes, channels: channels(count), depth: None }, &Limits::default())
}

fn taken(bytes: &[u8], count: u8) -> Decoded {
    take(bytes, count).unwrap_or_else(|error| panic!("{count} channels: {error}"))
}

fn refused(bytes: &[u8], count: u8, code: &str, words: &str) {
    let error = take(bytes, count).expect_err(words);
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(error.to_string(), words);
}

/// A committed file by its name.
fn file(name: &str) -> &'static [u8] {
    COLOUR.iter().find(|(other, _)| *other == name).expect("a committed file").1
}

/// So many planes of different levels.
fn planes(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|plane| (0..PIXELS).map(|at| (at * (plane + 1) + 31 * plane) as u8).collect()).collect()
}

fn interleaved<T: Copy>(planes: &[Vec<T>]) -> Vec<T> {
    (0..PIXELS).flat_map(|at| planes.iter().map(move |plane| plane[at])).collect()
}

/// A TIFF of such planes, side by side (layout 1) or one after the other (layout 2).
fn tiff(planes: &[Vec<u8>], photometric: u64, layout: u64) -> Tiff {
    let mut tiff = Tiff::new(SIDE, SIDE);
    let count = planes.len() as u64;
    tiff.set(262, &[photometric]).set(277, &[count]).set(284, &[layout]).set(258, &vec![8; planes.len()]);
    if layout == 2 {
        planes.iter().for_each(|plane| {
            tiff.strip(plane);
        });
    } else {
        tiff.strip(&interleaved(planes));
    }
    tiff
}

#[test]
fn every_lossless_format_keeps_the_same_colours() {
    let (_, first) = COLOUR[0];
    let colours = taken(first, 3).image;
    assert!(colours.samples().chunks(3).any(|colour| colour[0] != colour[1]), "it has colours");
    let grey = include_bytes!("../testdata/expected.grey");
    for (name, bytes) in COLOUR.iter().chain(BILEVEL) {
        let decoded = taken(bytes, 3);
        let is_grey = name.contains("grey") || name.contains("bilevel");
        if is_grey {
            assert!(decoded.image.samples().chunks(3).all(|colour| colour == [colour[0]; 3]), "{name}");
        } else {
            assert_eq!(decoded.image, colours, "{name}");
            assert_eq!(decoded.image.to_channels(Channels::GREY).unwrap().samples(), grey, "{name}");
        }
        assert_eq!(decoded.remarks, taken(bytes, 1).remarks, "{name}: no other note than for grey");
    }
}

#[test]
fn grey_is_what_colours_are_weighed_to() {
    for (name, bytes) in COLOUR.iter().chain(BILEVEL).chain(JPEG) {
        let (grey, colour) = (taken(bytes, 1), taken(bytes, 3));
        assert_eq!(colour.image.to_channels(Channels::GREY).unwrap(), grey.image, "{name}");
        assert_eq!(colour.is_plain, grey.is_plain, "{name}");
    }
}

#[test]
fn a_jpeg_keeps_its_colours() {
    let red: Vec<u8> = [220, 30, 40].repeat(PIXELS);
    let decoded = taken(&jpeg(&red, SIDE, SIDE, ExtendedColorType::Rgb8), 3).image;
    let is_near = |(found, wanted): (&u8, &u8)| found.abs_diff(*wanted) <= 4;
    assert!(decoded.samples().iter().zip(&red).all(is_near), "{:?}", &decoded.samples()[..3]);
}

#[test]
fn planes_of_a_tiff_become_pixels_in_either_layout() {
    for count in [2, 3, 4, 5, 7, 33] {
        let planes = planes(count);
        let wanted = interleaved(&planes);
        // RGB with more samples than colours has them all where they are wanted.
        for photometric in if count < 3 { vec![1] } else { vec![1, 2] } {
            for layout in [1, 2] {
                for (is_big, is_big_endian) in [(false, false), (true, true)] {
                    if (count, photometric) == (3, 1) {
                        continue;
                    }
                    let mut file = tiff(&planes, photometric, layout);
                    (file.is_big, file.is_big_endian) = (is_big, is_big_endian);
                    let decoded = taken(&file.write(), count as u8);
                    let case = format!("{count} samples, photometric {photometric}, layout {layout}");
                    assert_eq!(decoded.image.samples(), wanted, "{case}");
                    assert!(decoded.is_plain && decoded.remarks.is_empty(), "{case}");
                }
            }
        }
    }
}

#[test]
fn deep_samples_of_all_channels_are_read_by_one_depth() {
    let planes = planes(5);
    let deep: Vec<Vec<u16>> =
        planes.iter().map(|plane| plane.iter().map(|sample| u16::from(*sample) << 4).collect()).collect();
    for layout in [1, 2] {
        let mut file = Tiff::new(SIDE, SIDE);
        file.set(277, &[5]).set(284, &[layout]).set(258, &[16; 5]);
        match layout {
            1 => {
                file.strip16(&interleaved(&deep));
            }
            _ => deep.iter().for_each(|plane| {
                file.strip16(plane);
            }),
        }
        let bytes = file.write();
        let guessed = taken(&bytes, 5);
        assert_eq!(guessed.image.samples(), interleaved(&planes));
        assert_eq!((guessed.remarks[0].code(), guessed.is_plain), ("bit_depth_guessed", false));
        let file = File { bytes: &bytes, channels: channels(5), depth: BitDepth::try_from(12).ok() };
        let said = read(&file, &Limits::default()).unwrap();
        assert_eq!((said.image, said.remarks), (guessed.image, vec![]));
    }
}

#[test]
fn alpha_is_a_channel_where_as_many_are_wanted() {
    let samples = interleaved(&planes(4));
    let rgba = png(&samples, SIDE, SIDE, ExtendedColorType::Rgba8);
    let raw = taken(&rgba, 4);
    assert_eq!((raw.image.samples(), &raw.remarks[..]), (&samples[..], &[][..]));
    let colour = taken(&rgba, 3);
    assert_eq!(colour.image.samples(), interleaved(&planes(4)[..3]));
    assert_eq!(colour.remarks[0].code(), "transparency");
    let pair = interleaved(&planes(2));
    let raw = taken(&png(&pair, SIDE, SIDE, ExtendedColorType::La8), 2);
    assert_eq!((raw.image.samples(), raw.remarks), (&pair[..], vec![]));
    let deep: Vec<u8> = samples.iter().flat_map(|sample| (u16::from(*sample) << 8).to_ne_bytes()).collect();
    let raw = taken(&png(&deep, SIDE, SIDE, ExtendedColorType::Rgba16), 4);
    assert_eq!((raw.image.samples(), raw.remarks), (&samples[..], vec![]));
}

#[test]
fn another_number_of_channels_is_refused_by_name() {
    refused(COLOUR[0].1, 5, "channels", "PNG file has 3 channels, the modality takes 5");
    refused(file("grey.png"), 4, "channels", "PNG file has 1 channel, the modality takes 4");
    refused(file("rgba.png"), 2, "channels", "PNG file has 4 channels, the modality takes 2");
    refused(file("rgb.bmp"), 2, "channels", "BMP file has 3 channels, the modality takes 2");
    refused(file("still.gif"), 4, "channels", "GIF file has 3 channels, the modality takes 4");
    refused(JPEG[0].1, 4, "channels", "JPEG file has 3 channels, the modality takes 4");
    refused(file("rgb.tif"), 4, "channels", "TIFF file has 3 channels, the modality takes 4");
    let six = tiff(&planes(6), 1, 1).write();
    refused(&six, 5, "channels", "TIFF file has 6 channels, the modality takes 5");
    for count in [1, 3, 4] {
        for file in [include_bytes!("../testdata/cmyk.tif") as &[u8], include_bytes!("../testdata/cmyk.jpg")]
        {
            assert_eq!(take(file, count).unwrap_err().code(), "unsupported_colour");
        }
    }
    assert!(take(&tiff(&planes(5), 0, 1).write(), 5).is_err(), "white of many channels has no rule");
}

#[test]
fn every_channel_is_turned_like_a_grey_picture() {
    let upright = |planes: &[Vec<u8>], orientation: u64| {
        let short: Vec<Vec<u8>> = planes.iter().map(|plane| plane[..SIDE as usize * 5].to_vec()).collect();
        let mut file = Tiff::new(SIDE, 5);
        let photometric = if planes.len() == 3 { 2 } else { 1 };
        file.set(262, &[photometric]).set(277, &[planes.len() as u64]).set(258, &vec![8; planes.len()]);
        file.set(284, &[2]).set(274, &[orientation]);
        short.iter().for_each(|plane| {
            file.strip(plane);
        });
        taken(&file.write(), planes.len() as u8)
    };
    for orientation in 1..=8 {
        for count in 2..=6 {
            let planes = planes(count);
            let together = upright(&planes, orientation);
            let codes: Vec<&str> = together.remarks.iter().map(|remark| remark.code()).collect();
            assert_eq!(codes.contains(&"orientation"), orientation != 1, "{orientation}");
            for (plane, alone) in together.image.planes().zip(&planes) {
                let alone = upright(std::slice::from_ref(alone), orientation).image;
                assert_eq!(plane.unwrap(), alone, "{count} channels, orientation {orientation}");
            }
        }
    }
}

#[test]
fn many_channels_take_the_pixels_of_a_picture_of_four() {
    let limits = Limits { max_pixels: PIXELS as u64, ..Limits::default() };
    assert!(decode(&tiff(&planes(4), 1, 1).write(), channels(4), &limits).is_ok());
    let error = decode(&tiff(&planes(5), 1, 1).write(), channels(5), &limits).unwrap_err();
    assert_eq!(error.to_string(), "TIFF of 16x16 pixels exceeds the limit of 128 pixels");
    let twice = Limits { max_pixels: 2 * PIXELS as u64, ..limits };
    assert!(decode(&tiff(&planes(5), 1, 1).write(), channels(5), &twice).is_ok());
}

#[test]
fn memory_is_asked_for_by_channels() {
    const MANY: u64 = 1_000_000;
    let needed = |file: &[u8], count: u8| {
        let format = Format::of(file).unwrap();
        need::bytes(format, file, MANY, channels(count)).unwrap() / MANY
    };
    // A picture of three channels: what stands in the file and what is made of it, or that and two copies of it.
    assert!(needed(file("rgb.bmp"), 1) >= 5 && needed(file("rgb.bmp"), 3) >= 9);
    assert!(needed(JPEG[0].1, 3) >= 9);
    // Twice as they stand in the file, and once as they are wanted.
    assert!(needed(&tiff(&planes(33), 1, 1).write(), 33) >= 99);
}

#[test]
fn a_tiff_of_many_channels_that_is_cut_gives_no_other_picture() {
    for layout in [1, 2] {
        let file = tiff(&planes(6), 2, layout).write();
        for end in 0..file.len() {
            assert!(take(&file[..end], 6).is_err(), "cut to {end}");
        }
    }
}

proptest! {
    #[test]
    fn every_kind_of_picture_has_the_grey_of_its_colours(
        samples in prop::collection::vec(any::<u8>(), PIXELS * 8),
        (colour, bytes) in prop::sample::select(vec![
            (ExtendedColorType::L8, 1),
            (ExtendedColorType::La8, 2),
            (ExtendedColorType::Rgb8, 3),
            (ExtendedColorType::Rgba8, 4),
            (ExtendedColorType::L16, 2),
            (ExtendedColorType::La16, 4),
            (ExtendedColorType::Rgb16, 6),
            (ExtendedColorType::Rgba16, 8),
        ]),
        mask in prop::sample::select(vec![0x0f_u8, 0x3f, 0xff]),
    ) {
        let masked: Vec<u8> = samples.iter().map(|sample| sample & mask).collect();
        let file = png(&masked[..PIXELS * bytes], SIDE, SIDE, colour);
        let (grey, colour) = (taken(&file, 1), taken(&file, 3));
        let weighed: Picture = colour.image.to_channels(Channels::GREY).unwrap();
        prop_assert_eq!(weighed, grey.image);
        prop_assert_eq!(colour.remarks, grey.remarks);
    }
}
