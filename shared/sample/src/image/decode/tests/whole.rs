//! Files that lack something, though every pixel is there; and those where that only seems so.

use image::ExtendedColorType;

use super::super::{Decoded, File, Limits, read};
use super::make::{jpeg, png};
use super::{COLOUR, JPEG, refused, take};
use crate::image::Channels;

/// A picture that fills its blocks with more than one level.
fn picture() -> Vec<u8> {
    (0..40 * 24 * 3).map(|i: u32| (i * i % 251) as u8).collect()
}

fn colour() -> Vec<u8> {
    jpeg(&picture(), 40, 24, ExtendedColorType::Rgb8)
}

fn noted(file: &[u8]) -> (Decoded, Vec<&'static str>) {
    let decoded = read(&File { bytes: file, channels: Channels::GREY, depth: None }, &Limits::default())
        .unwrap_or_else(|error| panic!("{error}"));
    let codes = decoded.remarks.iter().map(|remark| remark.code()).collect();
    (decoded, codes)
}

/// Where the last scan's data begin.
fn data_of(file: &[u8]) -> usize {
    let mut at = 2;
    while file[at + 1] != 0xda {
        at += 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
    }
    at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]))
}

fn all_jpegs() -> Vec<Vec<u8>> {
    JPEG.iter().map(|(_, file)| file.to_vec()).chain([colour()]).collect()
}

#[test]
fn a_jpeg_without_its_end_is_decided_with_a_note() {
    for file in all_jpegs() {
        let whole = take(&file).unwrap();
        let without = &file[..file.len() - 2];
        for (bytes, code) in [
            (without.to_vec(), "no_end"),
            ([without, &[0xff]].concat(), "no_end"),
            ([without, &[0; 1], &[0xff, 0xd9]].concat(), "padding"),
            ([without, &[0; 700], &[0xff, 0xd9]].concat(), "padding"),
        ] {
            let (decoded, codes) = noted(&bytes);
            assert_eq!((&decoded.image, &codes[..]), (&whole, &[code][..]));
            assert!(!decoded.is_plain, "others may be stricter");
        }
        let (decoded, codes) = noted(&[without, &[0; 700]].concat());
        assert_eq!((decoded.image, codes), (whole.clone(), vec!["padding", "no_end"]));
        let (decoded, codes) = noted(&[&file, &[0; 700][..]].concat());
        assert_eq!((decoded.image, codes), (whole, vec![]), "behind the end is nothing of the picture's");
    }
}

#[test]
fn a_jpeg_that_was_cut_and_filled_up_with_zeros_is_refused() {
    for file in all_jpegs() {
        for end in data_of(&file) + 1..file.len() - 3 {
            let zeros = vec![0; 4000];
            // To the length that it had, and beyond.
            for filled in [file.len() - end, zeros.len()] {
                assert!(
                    take(&[&file[..end], &zeros[..filled]].concat()).is_err(),
                    "cut to {end}, {filled} zeros"
                );
            }
            let ended = [&file[..end], &zeros, &[0xff, 0xd9]].concat();
            assert!(take(&ended).is_err(), "cut to {end}, zeros and an end");
        }
    }
}

#[test]
fn frames_of_motion_jpeg_have_the_standard_tables() {
    for (samples, colour) in
        [(picture(), ExtendedColorType::Rgb8), (picture()[..40 * 24].to_vec(), ExtendedColorType::L8)]
    {
        let file = jpeg(&samples, 40, 24, colour);
        let mut without = file[..2].to_vec();
        let mut at = 2;
        while file[at + 1] != 0xda {
            let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
            if file[at + 1] != 0xc4 {
                without.extend(&file[at..end]);
            }
            at = end;
        }
        without.extend(&file[at..]);
        assert!(without.len() < file.len());
        let (decoded, codes) = noted(&without);
        assert_eq!((decoded.image, codes), (take(&file).unwrap(), vec!["standard_tables"]));
        // What was coded with other tables is not made of these.
        let cut = without.len() * 3 / 4;
        assert!(take(&without[..cut]).is_err());
    }
}

#[test]
fn a_png_without_its_end_is_decided_with_a_note() {
    let written = COLOUR.iter().filter(|(name, _)| name.ends_with(".png")).map(|(_, file)| file.to_vec());
    for file in written.chain([png(&picture(), 40, 24, ExtendedColorType::Rgb8)]) {
        let (whole, _) = noted(&file);
        for cut in 1..=12 {
            let (decoded, codes) = noted(&file[..file.len() - cut]);
            assert_eq!(decoded.image, whole.image, "{cut} bytes are missing");
            assert!(codes.contains(&"no_end"), "{cut} bytes are missing");
        }
        refused(&file[..file.len() - 24], "truncated", "");
    }
}
