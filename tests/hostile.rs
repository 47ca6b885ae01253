//! Files that are not what they seem: each is named with its reason, and the others are decided.

use std::path::Path;

use image::{ImageBuffer, ImageEncoder, Luma, Rgb};
use system_tests::{recorded_of, run};

/// (name, code expected in its record); an empty code means that it must be decided.
fn write_all(dir: &Path) -> Vec<(&'static str, &'static str)> {
    let good = std::fs::read(&recorded_of("xsdd", 1)[0].path).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("a_good.png", &good);
    write("b_truncated.png", &good[..good.len() / 2]);
    write("c_empty.png", b"");
    write("d_bomb.png", &png_header(30_000, 30_000));
    write("e_text.png", b"this is a log file, not a picture\n");
    write("f_good_under_a_wrong_name.jpg", &good);

    let grey16: ImageBuffer<Luma<u16>, _> =
        ImageBuffer::from_fn(200, 120, |x, y| Luma([(x * 300 + y) as u16]));
    grey16.save(dir.join("g_16bit.tiff")).unwrap();
    let colour: ImageBuffer<Rgb<u8>, _> = ImageBuffer::from_fn(301, 77, |x, y| Rgb([x as u8, y as u8, 7]));
    colour.save(dir.join("h_colour.bmp")).unwrap();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .write_image(&colour, 301, 77, image::ExtendedColorType::Rgb8)
        .unwrap();
    write("i_colour.jpeg", &jpeg);
    write("j_truncated.jpeg", &jpeg[..jpeg.len() - jpeg.len() / 3]);
    let mut gif = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        let frame =
            |level| image::Frame::new(ImageBuffer::from_pixel(8, 8, image::Rgba([level, level, level, 255])));
        encoder.encode_frames([frame(0), frame(255)]).unwrap();
    }
    write("k_animated.gif", &gif);
    write("l_noise.png", &[0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 1, 2, 3]);
    std::fs::create_dir(dir.join("m_directory.png")).unwrap();
    vec![
        ("a_good.png", ""),
        ("b_truncated.png", "truncated"),
        ("c_empty.png", "empty_file"),
        ("d_bomb.png", "too_large"),
        ("e_text.png", "not_an_image"),
        ("f_good_under_a_wrong_name.jpg", ""),
        ("g_16bit.tiff", ""),
        ("h_colour.bmp", ""),
        ("i_colour.jpeg", ""),
        ("j_truncated.jpeg", "truncated"),
        ("k_animated.gif", "animated"),
        ("l_noise.png", "*"),
    ]
}

/// A PNG that announces a size and ends there.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&[0], 1, 1, image::ExtendedColorType::L8)
        .unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = !0_u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn each_bad_file_is_named_and_the_others_are_decided() {
    let dir = tempfile::tempdir().unwrap();
    let expected = write_all(dir.path());
    let ran = run(
        "millgate-edge",
        &["infer", "--mode", "never", "--output", "jsonl", dir.path().to_str().unwrap()],
    );
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let lines = ran.lines();
    assert_eq!(lines.len(), expected.len());
    for (name, code) in expected {
        let path = dir.path().join(name).display().to_string();
        let named = |line: &&serde_json::Value| {
            line["path"] == path.as_str() || line["sample"]["path"] == path.as_str()
        };
        let line = lines.iter().find(named).unwrap_or_else(|| panic!("nothing of {name}"));
        match code {
            "" => assert!(line["verdict"]["label"].is_string(), "{line}"),
            "*" => assert!(
                line["error"]["message"].as_str().is_some_and(|message| !message.is_empty()),
                "{line}"
            ),
            code => assert_eq!(line["error"]["code"], code, "{line}"),
        }
    }
}

#[test]
fn what_is_not_there_or_holds_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let good = recorded_of("xsdd", 1)[0].path.display().to_string();
    let absent = dir.path().join("absent.png").display().to_string();
    let empty = dir.path().display().to_string();
    let ran =
        run("millgate-edge", &["infer", "--mode", "never", "--output", "jsonl", &absent, &empty, &good]);
    assert_eq!(ran.code, 2);
    let lines = ran.lines();
    assert_eq!(lines[0]["error"]["code"], "unreadable");
    assert_eq!(lines[1]["error"]["code"], "no_images");
    assert!(lines[2]["verdict"].is_object());
}

#[test]
fn a_bad_template_is_told_from_a_bad_picture() {
    let dir = tempfile::tempdir().unwrap();
    let good = std::fs::read(&recorded_of("deeppcb", 1)[0].path).unwrap();
    std::fs::write(dir.path().join("part.png"), &good).unwrap();
    std::fs::write(dir.path().join("part.template.png"), b"x").unwrap();
    let path = dir.path().join("part.png").display().to_string();
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--output", "jsonl", &path]);
    assert_eq!(ran.code, 2);
    let message = ran.lines()[0]["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("template: "), "{message}");
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let good = recorded_of("xsdd", 1)[0].path.display().to_string();
    for (args, word) in [
        (vec!["--risk", "2"], "risk"),
        (vec!["--task", "dance"], "dance"),
        (vec!["--cloud", "ftp://x"], "https://host:port"),
        (vec!["--mode", "pinned"], "--pinned"),
        (vec!["--mode", "pinned", "--pinned", "nobody"], "nobody"),
        (vec!["--bundle", "/nowhere"], "/nowhere"),
    ] {
        let args: Vec<&str> = ["infer"].into_iter().chain(args).chain([good.as_str()]).collect();
        let ran = run("millgate-edge", &args);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
    }
    let flags = run("millgate-edge", &["infer", "--nonsense", &good]);
    assert_eq!(flags.code, 2);
}

#[test]
fn a_pool_that_refuses_or_is_nobody_still_gives_answers() {
    let good = recorded_of("deeppcb", 1)[0].path.display().to_string();
    let (address, cloud) = ("127.0.0.1:1", "http://127.0.0.1:1");
    let args =
        ["infer", "--mode", "always", "--cloud", cloud, "--wait-cloud", "0s", "--output", "jsonl", &good];
    let ran = run("millgate-edge", &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.lines()[0]["degraded"]["reason"], "offline");
    assert!(ran.stderr.contains(address), "{}", ran.stderr);
}
