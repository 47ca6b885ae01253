//! Pictures as cameras give them: of 10 and 12 bits, too large for the memory there is, in formats that are not taken.

use std::path::{Path, PathBuf};
use std::process::Command;

use image::{ImageBuffer, ImageFormat, Luma};
use millgate_edge::agent::Ask;
use millgate_edge::config::EdgeConfig;
use millgate_shared::deciding::Mode;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use system_tests::{agent, agent_with, binary, input, part, pool, root, run, url};

/// Steel with red iron, 8 bits.
fn red_iron() -> PathBuf {
    root().join("deploy/demo/samples/xsdd/x0005.png")
}

/// What a camera of so many bits writes of it into 16.
fn of_bits(dir: &Path, bits: u32, format: ImageFormat) -> PathBuf {
    let eight = image::open(red_iron()).unwrap().into_luma8();
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(eight.width(), eight.height(), |x, y| {
            Luma([u16::from(eight.get_pixel(x, y).0[0]) << (bits - 8)])
        });
    let path = dir.join(format!("mono{bits}.{}", format.extensions_str()[0]));
    deep.save_with_format(&path, format).unwrap();
    path
}

#[test]
fn a_camera_of_twelve_bits_is_decided_as_one_of_eight() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec!["infer", "--mode", "never", "--output", "jsonl"];
    let eight = red_iron().display().to_string();
    let files: Vec<String> = [10, 12, 14, 16]
        .into_iter()
        .flat_map(|bits| {
            [ImageFormat::Png, ImageFormat::Tiff].map(|format| of_bits(dir.path(), bits, format))
        })
        .map(|path| path.display().to_string())
        .collect();
    args.push(&eight);
    args.extend(files.iter().map(String::as_str));
    let ran = run("millgate-edge", &args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.lines();
    assert_eq!(lines.len(), 9);
    assert!(lines[0]["sample"].get("notes").is_none(), "{}", lines[0]);
    for line in &lines {
        assert_eq!(line["verdict"]["label"], "xsdd/red iron", "{line}");
        assert_eq!(line["verdict"]["probability"], lines[0]["verdict"]["probability"], "{line}");
        let is_guess = ["mono10", "mono12", "mono14"]
            .iter()
            .any(|name| line["sample"]["path"].as_str().is_some_and(|path| path.contains(name)));
        let note = &line["sample"]["notes"][0];
        assert_eq!(note["code"] == "bit_depth_guessed", is_guess, "{line}");
        assert_eq!(note["modality"] == "image", is_guess, "{line}");
    }
    // Who says it is not told.
    let twelve = of_bits(dir.path(), 12, ImageFormat::Tiff).display().to_string();
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--bit-depth", "12", &twelve]);
    assert!(ran.stdout.contains("xsdd/red iron") && !ran.stdout.contains("note "), "{}", ran.stdout);
    let ran = run("millgate-edge", &["infer", "--mode", "never", &twelve]);
    assert!(
        ran.stdout.contains("xsdd/red iron") && ran.stdout.contains("(bit_depth_guessed)"),
        "{}",
        ran.stdout
    );
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--bit-depth", "20", &twelve]);
    assert!(ran.code == 2 && ran.stderr.contains("8 to 16"), "{}", ran.stderr);
}

/// Agent, and pool on its own, over the wire.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_decides_on_what_the_agent_saw() {
    let dir = tempfile::tempdir().unwrap();
    let twelve = of_bits(dir.path(), 12, ImageFormat::Png);
    let pool = pool().await;
    let agent = agent(Some(url(&pool)), Mode::Always).await;
    let (eight, deep) = (agent.decide(&red_iron()).await, agent.decide(&twelve).await);
    assert_eq!(deep.verdict, eight.verdict);
    assert_eq!(deep.probabilities, eight.probabilities);
    assert!(deep.experts.iter().any(|expert| expert.place != "edge"), "{:?}", deep.experts);
    assert_eq!(deep.sample.notes[0].code, "bit_depth_guessed");

    let mut client = InferenceServiceClient::connect(url(&pool)).await.unwrap();
    let mut decide = async |bit_depth: Option<&str>| {
        let mut part = part("image", std::fs::read(&twelve).unwrap());
        part.attributes.extend(bit_depth.map(|bits| ("bit_depth".to_owned(), bits.to_owned())));
        let sample = v1::Sample { task: "inspect".to_owned(), parts: vec![part], ..Default::default() };
        client.decide(v1::DecideRequest { sample: Some(sample), ..Default::default() }).await
    };
    let guessed = decide(None).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(guessed.verdict.unwrap().label, "xsdd/red iron");
    assert_eq!(guessed.sample.unwrap().notes[0].code, "bit_depth_guessed");
    let said = decide(Some("12")).await.unwrap().into_inner().decision.unwrap();
    assert_eq!(said.verdict.unwrap().label, "xsdd/red iron");
    assert!(said.sample.unwrap().notes.is_empty());
    let refused = decide(Some("99")).await.unwrap_err();
    assert!(refused.message().contains("sample.parts[0].attributes.bit_depth"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bits_of_a_source_are_its_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[[sources]]\ntype = \"folder\"\nname = \"cam1\"\npath = \"x\"\nbit_depth = 12\n";
    let config = EdgeConfig::parse("edge.toml", text).unwrap();
    let agent = agent_with(None, |agent| agent.bit_depths = config.bit_depths()).await;
    let path = of_bits(dir.path(), 12, ImageFormat::Png);
    for (source, notes) in [(Some("cam1"), 0), (Some("cam2"), 1), (None, 1)] {
        let mut input = input(&path);
        input.source = source.map(str::to_owned);
        let decision = agent.agent.decide(input, Ask::default()).await.unwrap();
        assert_eq!(decision.verdict.label, "xsdd/red iron");
        assert_eq!(decision.sample.notes.len(), notes, "{source:?}");
    }
}

/// 9,900 x 9,900 pixels of RGBA, 392 MB once it is decoded, in a file of some hundred kilobytes.
fn write_huge(path: &Path) {
    const SIDE: u32 = 9_900;
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut encoder = png::Encoder::new(file, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    let mut rows = writer.stream_writer().unwrap();
    let row = vec![200; 4 * SIDE as usize];
    for _ in 0..SIDE {
        std::io::Write::write_all(&mut rows, &row).unwrap();
    }
    rows.finish().unwrap();
}

#[test]
fn a_picture_larger_than_memory_is_refused_and_the_others_are_decided() {
    let dir = tempfile::tempdir().unwrap();
    write_huge(&dir.path().join("a_huge.png"));
    std::fs::copy(red_iron(), dir.path().join("b_good.png")).unwrap();
    for limit in ["-v 450000", "-d 400000"] {
        let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(binary("millgate-edge"))
            .args(["infer", "--mode", "never", "--output", "jsonl", "--threads", "2"])
            .arg(dir.path())
            .current_dir(root())
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{limit}: {stderr}");
        let lines: Vec<serde_json::Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["error"]["code"], "too_large", "{limit}: {}", lines[0]);
        let message = lines[0]["error"]["message"].as_str().unwrap();
        assert!(message.contains("9900x9900 pixels needs") && message.contains("MiB of memory"), "{message}");
        assert_eq!(lines[1]["verdict"]["label"], "xsdd/red iron", "{limit}");
    }
}

#[test]
fn no_picture_of_a_directory_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(red_iron(), dir.path().join("a.png")).unwrap();
    std::fs::write(dir.path().join("b.webp"), b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0").unwrap();
    std::fs::write(dir.path().join("c.heic"), b"\0\0\0\x1cftypheic\0\0\0\0").unwrap();
    std::fs::write(dir.path().join("d.txt"), b"notes of a shift").unwrap();
    let dir = dir.path().display().to_string();
    let ran = run("millgate-edge", &["infer", "--mode", "never", "--output", "jsonl", &dir]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let lines = ran.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["verdict"]["label"], "xsdd/red iron");
    for (line, name) in lines[1..].iter().zip(["WebP", "HEIF"]) {
        assert_eq!(line["error"]["code"], "unsupported");
        let message = line["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{name} pictures are not supported")), "{message}");
    }
}
