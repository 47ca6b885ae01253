//! Grey as it always was: digests of what the decoder gave before pictures had channels.

use std::path::{Path, PathBuf};

use image::ExtendedColorType;
use sha2::{Digest, Sha256};

use super::super::{BitDepth, File, Limits, read};
use super::make::{Tiff, chunk, exif, jpeg, png, with_chunks, with_segment};
use super::{BILEVEL, COLOUR, JPEG};
use crate::image::{Channels, Codec, encode, prepare, resize};

/// Everything that the grey path makes of a file, in one number.
fn digest(files: impl IntoIterator<Item = (Vec<u8>, Option<BitDepth>)>) -> String {
    let mut hash = Sha256::new();
    for (bytes, depth) in files {
        match read(&File { bytes: &bytes, channels: Channels::GREY, depth }, &Limits::default()) {
            Ok(decoded) => {
                let image = &decoded.image;
                hash.update(format!("{}x{} ", image.width(), image.height()));
                hash.update(image.samples());
                let remarks: Vec<String> =
                    decoded.remarks.iter().map(|remark| format!("{}: {remark}", remark.code())).collect();
                hash.update(format!("{remarks:?} {}", decoded.is_plain));
                for (width, height) in [(64, 64), (31, 7), (1, 1)] {
                    hash.update(resize(image, width, height).samples());
                }
                let values = prepare(image, &[1, 24, 32], &0.45.into(), &0.225.into()).unwrap();
                values.iter().for_each(|value| hash.update(value.to_le_bytes()));
                let sent = encode(image, None, None);
                hash.update(match sent.codec {
                    // Its bytes are another library's.
                    Codec::Source => b"PNG",
                    _ => &sent.bytes[..],
                });
            }
            Err(error) => hash.update(format!("{}: {error}", error.code())),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn committed(folder: &str) -> Vec<(Vec<u8>, Option<BitDepth>)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|at| at.join("models/factory").is_dir());
    let folder = top.expect("the repository holds the crate").join(folder);
    let entries = std::fs::read_dir(&folder).expect("a folder of pictures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|name| name == "png"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| (std::fs::read(path).unwrap(), None)).collect()
}

/// Numbers that look like noise, and are the same everywhere.
fn samples(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..count).map(|at| if at % 7 == 0 { next() } else { (at * at / 3 % 253) as u8 }).collect()
}

/// Every kind of picture that an encoder at hand writes.
fn generated() -> Vec<(Vec<u8>, Option<BitDepth>)> {
    const KINDS: [(ExtendedColorType, usize); 8] = [
        (ExtendedColorType::L8, 1),
        (ExtendedColorType::La8, 2),
        (ExtendedColorType::Rgb8, 3),
        (ExtendedColorType::Rgba8, 4),
        (ExtendedColorType::L16, 2),
        (ExtendedColorType::La16, 4),
        (ExtendedColorType::Rgb16, 6),
        (ExtendedColorType::Rgba16, 8),
    ];
    let mut files = Vec::new();
    for (number, (width, height)) in [(1, 1), (16, 16), (37, 5), (64, 80)].into_iter().enumerate() {
        for (kind, (colour, bytes)) in KINDS.into_iter().enumerate() {
            let samples = samples((width * height) as usize * bytes, (number * 8 + kind) as u64);
            let file = png(&samples, width, height, colour);
            for orientation in [3, 6] {
                files.push((with_chunks(&file, &[chunk(b"eXIf", &exif(orientation))]), None));
            }
            files.push((with_chunks(&file, &[chunk(b"gAMA", &100_000_u32.to_be_bytes())]), None));
            files.push((file[..file.len() - 5].to_vec(), None));
            files.push((file.clone(), BitDepth::try_from(12).ok()));
            files.push((file, None));
            if let ExtendedColorType::L8 | ExtendedColorType::Rgb8 = colour {
                let file = jpeg(&samples, width, height, colour);
                files.push((with_segment(&file, 0xe1, &[b"Exif\0\0", &exif(8)[..]].concat()), None));
                files.push((file, None));
            }
        }
    }
    for (photometric, planes) in [(0, 1), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (1, 5), (5, 4)] {
        for bits in [8, 16] {
            for layout in [1, 2] {
                let mut tiff = Tiff::new(12, 10);
                tiff.set(262, &[photometric]).set(277, &[planes]).set(284, &[layout]);
                tiff.set(258, &vec![bits; planes as usize]);
                let strips = if layout == 2 { planes } else { 1 };
                let length = 120 * (planes * bits / 8 / strips) as usize;
                (0..strips).for_each(|at| {
                    tiff.strip(&samples(length, at + 10 * planes));
                });
                files.push((tiff.write(), None));
            }
        }
    }
    files
}

fn tables(files: &[(&str, &[u8])]) -> Vec<(Vec<u8>, Option<BitDepth>)> {
    files.iter().map(|(_, file)| (file.to_vec(), None)).collect()
}

#[test]
fn grey_is_what_it_was_before_pictures_had_channels() {
    // Made by the decoder of commit c958c99, which gave grey alone.
    let before = [
        "0af223e80296236949daa6a5abc10e8a805bf4d343bbc716a1b463558fd47026",
        "9fe454f26ae1c270cb662ce723898ec69c9721c3711e91f3f805563a8c3ac6cb",
        "263871da294698accf27c5bb4266d9dc3fbcf06b917ca1f662946ecac8872eb4",
        "2ae68dfa76c2b684166776ed6b4ef81849baaef8250cfa5303b10c0477061a39",
        "e3e7728d0b9d72b9c9cf5b9a15f332819aeb2709e0e885b3fbdbf94f70838a7e",
        "a40af54d9b880880afc4661f572c9f400415dd20beb6f724a992544d410eda95",
    ];
    let found = [
        digest(committed("models/factory/golden")),
        digest(committed("deploy/demo/samples/deeppcb")),
        digest(tables(COLOUR)),
        digest(tables(BILEVEL)),
        digest(tables(JPEG)),
        digest(generated()),
    ];
    assert_eq!(found, before);
}
