use proptest::prelude::*;

use super::*;

mod colour;
mod frozen;
mod make;
mod reading;
mod whole;

/// All of one picture of 17x13 pixels in 16 colours, written by Pillow; see `testdata/README.md`.
macro_rules! testdata {
    ($name:literal) => {
        ($name, include_bytes!(concat!("testdata/", $name)) as &[u8])
    };
}

const COLOUR: &[(&str, &[u8])] = &[
    testdata!("rgb.png"),
    testdata!("rgba.png"),
    testdata!("rgb16.png"),
    testdata!("grey.png"),
    testdata!("grey-alpha.png"),
    testdata!("grey16.png"),
    testdata!("palette.png"),
    testdata!("rgb.bmp"),
    testdata!("palette.bmp"),
    testdata!("rgb.tif"),
    testdata!("grey.tif"),
    testdata!("grey16.tif"),
    testdata!("still.gif"),
];
const BILEVEL: &[(&str, &[u8])] =
    &[testdata!("bilevel.png"), testdata!("bilevel.bmp"), testdata!("bilevel.tif")];
const JPEG: &[(&str, &[u8])] =
    &[testdata!("colour.jpg"), testdata!("progressive.jpg"), testdata!("grey.jpg")];

fn take(bytes: &[u8]) -> Result<Picture, DecodeError> {
    decode(bytes, Channels::GREY, &Limits::default())
}

fn check_all(files: &[(&str, &[u8])], expected: &[u8], tolerance: u8) {
    for (name, bytes) in files {
        let image = take(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width(), image.height()), (17, 13), "{name}");
        let worst = image.samples().iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(tolerance), "{name}: differs by {worst:?}");
    }
}

#[test]
fn every_lossless_format_gives_the_grey_of_pillow() {
    check_all(COLOUR, include_bytes!("testdata/expected.grey"), 0);
    check_all(BILEVEL, include_bytes!("testdata/bilevel.grey"), 0);
}

#[test]
fn jpeg_gives_the_grey_of_pillow_within_one_level() {
    check_all(&JPEG[..1], include_bytes!("testdata/colour.jpg.grey"), 1);
    check_all(&JPEG[1..2], include_bytes!("testdata/progressive.jpg.grey"), 1);
    check_all(&JPEG[2..], include_bytes!("testdata/grey.jpg.grey"), 1);
}

fn refused(bytes: &[u8], code: &str, words: &str) {
    let error = take(bytes).expect_err(words);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "`{error}` does not say `{words}`");
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    refused(b"", "empty_file", "file is empty");
    refused(b"BMW builds cars, and this is a text", "not_an_image", "PNG, JPEG, BMP, TIFF or GIF expected");
    refused(testdata!("animated.gif").1, "animated", "GIF is animated");
    refused(testdata!("animated.png").1, "animated", "PNG is animated");
    refused(testdata!("pages.tif").1, "animated", "several pages");
    let mut run_length = testdata!("palette.bmp").1.to_vec();
    run_length[30] = 1;
    refused(&run_length, "unsupported", "run-length coding");
    refused(testdata!("float.tif").1, "unsupported_colour", "32-bit floating-point samples");
    refused(testdata!("cmyk.tif").1, "unsupported_colour", "CMYK");
    refused(testdata!("cmyk.jpg").1, "unsupported_colour", "CMYK");
    refused(testdata!("transparent.gif").1, "unsupported_colour", "transparent");
}

#[test]
fn a_header_that_promises_too_much_is_refused_unread() {
    const SIDE: u16 = 30_000;
    let (be, le) = (u32::from(SIDE).to_be_bytes(), u32::from(SIDE).to_le_bytes());
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" as &[u8], &be, &be].concat();
    let bmp = [b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0" as &[u8], &le, &le].concat();
    let gif = [b"GIF89a" as &[u8], &SIDE.to_le_bytes(), &SIDE.to_le_bytes()].concat();
    let jpeg =
        [b"\xff\xd8\xff\xc0\0\x0b\x08" as &[u8], &SIDE.to_be_bytes(), &SIDE.to_be_bytes(), &[0; 4]].concat();
    let tag = |tag: u8| [&[tag, 1, 4, 0, 1, 0, 0, 0] as &[u8], &le].concat();
    let tiff = [b"II\x2a\0\x08\0\0\0\x02\0" as &[u8], &tag(0), &tag(1), &[0; 4]].concat();
    for bytes in [png, bmp, gif, jpeg, tiff] {
        refused(&bytes, "too_large", "of 30000x30000 pixels exceeds the limit of 100000000 pixels");
    }
}

#[test]
fn limits_are_inclusive() {
    let (_, bytes) = COLOUR[0];
    let exact = Limits { max_pixels: 17 * 13, max_file_bytes: bytes.len() as u64 };
    assert!(decode(bytes, Channels::GREY, &exact).is_ok());
    let error = decode(bytes, Channels::GREY, &Limits { max_pixels: 17 * 13 - 1, ..exact }).unwrap_err();
    assert_eq!(error.to_string(), "PNG of 17x13 pixels exceeds the limit of 220 pixels");
    let error = decode(bytes, Channels::GREY, &Limits { max_file_bytes: exact.max_file_bytes - 1, ..exact })
        .unwrap_err();
    assert_eq!(error.code(), "too_large");
}

/// A cut may only take away what is behind the picture.
#[test]
fn a_file_cut_anywhere_gives_no_other_picture() {
    for (name, bytes) in COLOUR.iter().chain(BILEVEL).chain(JPEG) {
        let whole = take(bytes).unwrap();
        for end in 0..bytes.len() {
            if let Ok(image) = take(&bytes[..end]) {
                assert_eq!(image, whole, "{name} cut to {end} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn a_cut_file_says_so() {
    for (name, bytes) in [COLOUR[0], COLOUR[7], JPEG[0], JPEG[1], JPEG[2]] {
        let error = take(&bytes[..bytes.len() * 4 / 5]).expect_err(name);
        assert_eq!(error.code(), "truncated", "{name}: {error}");
    }
}

#[test]
fn a_jpeg_is_whole_or_refused() {
    for (name, bytes) in JPEG {
        for end in 2..bytes.len() - 2 {
            assert!(take(&bytes[..end]).is_err(), "{name} cut to {end} bytes");
            let ended = [&bytes[..end], b"\xff\xd9"].concat();
            assert!(take(&ended).is_err(), "{name} cut to {end} bytes and ended");
        }
        let trailed = [*bytes, b"a camera's own notes"].concat();
        assert!(take(&trailed).is_ok(), "{name}: what stands behind the end marker is not the picture's");
    }
}

fn any_file() -> impl Strategy<Value = &'static [u8]> {
    let files: Vec<&'static [u8]> =
        COLOUR.iter().chain(BILEVEL).chain(JPEG).map(|(_, bytes)| *bytes).collect();
    prop::sample::select(files)
}

fn any_channels() -> impl Strategy<Value = Channels> {
    (1..=5_u8).prop_map(|count| Channels::try_from(count).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn damage_never_panics_and_never_changes_a_png(
        bytes in any_file(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        channels in any_channels(),
    ) {
        let mut damaged = bytes.to_vec();
        for (at, value) in changes {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
        match decode(&damaged, channels, &limits) {
            // Its checksums see to that.
            Ok(image) if bytes.starts_with(b"\x89PNG") => {
                prop_assert_eq!(image, decode(bytes, channels, &limits).unwrap());
            }
            Ok(image) => {
                prop_assert_eq!(image.channels(), channels);
                prop_assert!(image.pixel_count() <= 1 << 20);
            }
            Err(error) => prop_assert!(!error.to_string().contains("panicked"), "{}", error),
        }
    }

    #[test]
    fn noise_behind_a_magic_number_never_panics(
        magic in prop::sample::select(vec![
            b"\x89PNG\r\n\x1a\n" as &[u8], b"\xff\xd8\xff", b"BM", b"II\x2a\0", b"MM\0\x2a", b"GIF89a", b"",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..400),
        channels in any_channels(),
    ) {
        let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
        if let Err(error) = decode(&[magic, &noise].concat(), channels, &limits) {
            prop_assert!(!error.to_string().contains("panicked"), "{}", error);
        }
    }
}
