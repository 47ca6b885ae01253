//! Colour through agent and pool: an expert that sees it tells red from green where grey cannot.

use image::{ImageBuffer, ImageFormat, Rgb};
use millgate_cloud::server::Running;
use millgate_edge::agent::Ask;
use millgate_edge::input::Input;
use millgate_shared::deciding::Mode;
use millgate_shared::decision::{Decision, State};
use millgate_shared::part::Part;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::proto::v1::{DecideRequest, Sample};
use system_tests::tinted::{CLOUD, EDGE, LABELS, write_bundle};
use system_tests::{TestAgent, agent_with, part, pool_with, url};

/// Width and height of the pictures; the experts take smaller ones.
const SIDE: u32 = 20;
/// Red and green of one luma: grey, both have the level 76.
const COLOURS: [[u8; 3]; 2] = [[255, 0, 0], [0, 130, 0]];

fn bundle(channels: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_bundle(dir.path(), channels);
    dir
}

fn png(colour: [u8; 3]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    ImageBuffer::from_pixel(SIDE, SIDE, Rgb(colour)).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// Samples of 12 bits, which nobody says the depth of: such a file does not go up as it is.
fn deep_png(colour: [u8; 3]) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let deep = colour.map(|sample| u16::from(sample) << 4);
    ImageBuffer::from_pixel(SIDE, SIDE, Rgb(deep)).write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

/// A TIFF of five bands, of which the first two are red and green; `bits` are 8 or 16.
fn bands(colour: [u8; 3], bits: u16) -> Vec<u8> {
    const BANDS: u16 = 5;
    let pixel = [colour[0], colour[1], colour[2], 7, 200];
    let pixel: Vec<u8> = match bits {
        8 => pixel.to_vec(),
        _ => pixel.iter().flat_map(|sample| (u16::from(*sample) << 4).to_le_bytes()).collect(),
    };
    let strip = pixel.repeat((SIDE * SIDE) as usize);
    let tags = [
        (256_u16, SIDE as u16),
        (257, SIDE as u16),
        (258, bits),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, BANDS),
        (278, SIDE as u16),
        (279, strip.len() as u16),
    ];
    let mut file = b"II\x2a\0".to_vec();
    file.extend((8 + strip.len() as u32).to_le_bytes());
    file.extend(&strip);
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        file.extend(
            [
                &tag.to_le_bytes()[..],
                &3_u16.to_le_bytes(),
                &1_u32.to_le_bytes(),
                &value.to_le_bytes(),
                &[0; 2],
            ]
            .concat(),
        );
    }
    file.extend([0; 4]);
    file
}

async fn pool_of(bundle: &tempfile::TempDir) -> Running {
    pool_with(|config| config.bundle = bundle.path().to_path_buf()).await
}

async fn agent_of(bundle: &tempfile::TempDir, pool: &Running, mode: Mode) -> TestAgent {
    agent_with(Some(url(pool)), |config| {
        config.bundle = bundle.path().to_path_buf();
        config.mode = mode;
    })
    .await
}

async fn decide(agent: &TestAgent, file: Vec<u8>) -> Decision {
    let input = Input { parts: vec![Part::file("image", file)], ..Input::default() };
    agent.agent.decide(input, Ask::default()).await.unwrap()
}

/// Label and probability that the pool gives by itself.
async fn ask(pool: &Running, file: Vec<u8>) -> (String, f64) {
    let mut client = InferenceServiceClient::connect(url(pool)).await.unwrap();
    let sample =
        Sample { task: "inspect".to_owned(), parts: vec![part("image", file)], ..Default::default() };
    let request = DecideRequest { sample: Some(sample), mode: "gate".to_owned(), ..Default::default() };
    let verdict = client.decide(request).await.unwrap().into_inner().decision.unwrap().verdict.unwrap();
    (verdict.label, verdict.probability.unwrap_or(0.0))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_sees_colour_tells_red_from_green_on_the_device_and_in_the_pool() {
    let bundle = bundle(3);
    let pool = pool_of(&bundle).await;
    let alone = agent_of(&bundle, &pool, Mode::Never).await;
    let asking = agent_of(&bundle, &pool, Mode::Pinned(vec![CLOUD.to_owned()])).await;
    for (colour, label) in COLOURS.into_iter().zip(LABELS) {
        for file in [png(colour), deep_png(colour)] {
            let here = decide(&alone, file.clone()).await;
            assert_eq!((here.verdict.label.as_str(), here.experts[0].name.as_str()), (label, EDGE));
            assert!(here.verdict.probability.unwrap_or(0.0) > 0.99, "{here:?}");
            let there = decide(&asking, file.clone()).await;
            assert_eq!((there.state, there.verdict.label.as_str()), (State::Final, label), "{there:?}");
            assert_eq!(
                (there.experts[0].name.as_str(), there.experts[0].place.as_str()),
                (CLOUD, "cloud:node-1")
            );
            assert!(there.uplink_bytes > 0);
            assert!(
                (there.verdict.probability.unwrap_or(0.0) - here.verdict.probability.unwrap_or(0.0)).abs()
                    < 1e-6,
                "the same picture"
            );
            assert_eq!(ask(&pool, file).await.0, label);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grey_cannot_tell_them_apart() {
    let bundle = bundle(1);
    let pool = pool_of(&bundle).await;
    let alone = agent_of(&bundle, &pool, Mode::Never).await;
    let [red, green] = COLOURS.map(png);
    let (first, second) = (decide(&alone, red.clone()).await, decide(&alone, green.clone()).await);
    assert_eq!(first.verdict, second.verdict);
    assert_eq!(ask(&pool, red).await, ask(&pool, green).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_bands_are_seen_and_another_number_is_refused_by_name() {
    let bundle = bundle(5);
    let pool = pool_of(&bundle).await;
    let alone = agent_of(&bundle, &pool, Mode::Never).await;
    let asking = agent_of(&bundle, &pool, Mode::Pinned(vec![CLOUD.to_owned()])).await;
    for (colour, label) in COLOURS.into_iter().zip(LABELS) {
        for file in [bands(colour, 8), bands(colour, 16)] {
            let (here, there) = (decide(&alone, file.clone()).await, decide(&asking, file.clone()).await);
            assert_eq!((here.verdict.label.as_str(), there.verdict.label.as_str()), (label, label));
            assert_eq!((there.state, there.experts[0].name.as_str()), (State::Final, CLOUD), "{there:?}");
            assert!(
                (there.verdict.probability.unwrap_or(0.0) - here.verdict.probability.unwrap_or(0.0)).abs()
                    < 1e-6,
                "the same picture"
            );
            assert_eq!(ask(&pool, file).await.0, label);
        }
    }
    let input = Input { parts: vec![Part::file("image", png(COLOURS[0]))], ..Input::default() };
    let error = alone.agent.decide(input, Ask::default()).await.unwrap_err();
    assert_eq!(error.code(), "channels");
    let words = "PNG file has 3 channels, the modality takes 5";
    assert!(error.to_string().contains(words), "{error}");
}
