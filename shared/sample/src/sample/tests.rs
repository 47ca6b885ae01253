use std::sync::Arc;

use millgate_array::{Array, Values};

use super::*;
use crate::image::{Channels, Picture, encode};
use crate::index::Ix;
use crate::modality::{Effort, MODALITIES};
use crate::part::FILE;

/// A bundle's modalities; `front` is coded against `golden`.
fn modalities() -> By<ModalityIx, Spec> {
    #[derive(Deserialize)]
    struct Declared {
        modalities: By<ModalityIx, Spec>,
    }
    let text = r#"
        modalities = [
            { name = "front", kind = "image", unit = "grey", reference = "golden" },
            { name = "golden", kind = "image", unit = "grey" },
            { name = "colour", kind = "image", unit = "sRGB", channels = 3 },
        ]
    "#;
    let mut modalities = toml::from_str::<Declared>(text).unwrap().modalities;
    modalities.iter_mut().for_each(|spec| spec.resolve(MODALITIES).unwrap());
    modalities
}

/// Two levels, with a spot.
fn board(spot: usize) -> Picture {
    let mut levels = vec![255; 16 * 16];
    levels[spot] = 0;
    Picture::grey(16, 16, levels).unwrap()
}

fn png(picture: &Picture) -> Vec<u8> {
    let mut noisy = picture.samples().to_vec();
    noisy[0] = 128;
    noisy[1] = 17;
    let noisy = Picture::new(picture.width(), picture.height(), picture.channels(), noisy).unwrap();
    encode(&noisy, None, None).bytes
}

fn value(picture: &Picture) -> Value {
    picture.array().clone().into()
}

fn refused(parts: &[Part]) -> (usize, &'static str, &'static str, String) {
    let Unread { at, source, .. } = read(&modalities(), parts, &Limits::default()).unwrap_err();
    (at, source.field, source.code, source.message)
}

#[test]
fn a_sample_is_what_its_parts_say_whatever_their_order() {
    let modalities = modalities();
    let (front, golden) = (png(&board(9)), png(&board(70)));
    let parts = [Part::file("golden", golden.clone()), Part::file("front", front.clone())];
    let first = read(&modalities, &parts, &Limits::default()).unwrap();
    assert_eq!(first.sample.presence(), [true, true, false].into());
    assert_eq!(first.sha256, sha256_hex(&front), "the bundle's first modality stands for the sample");
    let original = first.sample.value(ModalityIx::new(1)).unwrap().original();
    assert_eq!(original.unwrap()[..], golden[..]);
    let [a, b] = parts;
    let second = read(&modalities, &[b, a], &Limits::default()).unwrap();
    assert_eq!((second.sample, second.sha256), (first.sample.clone(), first.sha256));
    let bare = first.sample.without_originals();
    assert!(bare.values.iter().flatten().all(|value| value.original().is_none()));
}

#[test]
fn a_picture_comes_back_over_the_line_and_only_after_its_reference() {
    let modalities = modalities();
    let (front, golden) = (board(9), board(70));
    let spec = |at: usize| &modalities[ModalityIx::new(at)];
    let write = |at: usize, picture: &Picture, reference: Option<&Picture>| {
        let reference = reference.map(value);
        spec(at).modality().encode(spec(at), &value(picture), reference.as_ref(), Effort::Full).unwrap()
    };
    let golden_part = write(1, &golden, None);
    assert_eq!((&*golden_part.codec, &golden_part.shape[..]), ("bw", &[16, 16][..]));
    let mut front_part = write(0, &front, Some(&golden));
    front_part = match &*front_part.codec {
        "bwr" => front_part,
        // One spot is as short without; what counts is that it comes back.
        _ => write(0, &golden, Some(&golden)),
    };
    let both = [golden_part, front_part.clone()];
    let sample = read(&modalities, &both, &Limits::default()).unwrap().sample;
    assert_eq!(sample.value(ModalityIx::new(1)), Some(&value(&golden)));
    if front_part.codec == "bwr" {
        let [golden_part, front_part] = both;
        let (at, field, ..) = refused(&[front_part, golden_part]);
        assert_eq!((at, field), (0, "data"));
    }
}

#[test]
fn a_colour_picture_keeps_its_channels() {
    let modalities = modalities();
    let samples = (0..16 * 16 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let picture = Picture::new(16, 16, Channels::RGB, samples).unwrap();
    let at = ModalityIx::new(2);
    let part =
        modalities[at].modality().encode(&modalities[at], &value(&picture), None, Effort::Full).unwrap();
    assert_eq!(part.codec, FILE);
    let sample = read(&modalities, &[part], &Limits::default()).unwrap().sample;
    assert_eq!(**sample.value(at).unwrap().array(), **picture.array());
    // Grey is repeated.
    let grey = read(&modalities, &[Part::file("colour", png(&board(3)))], &Limits::default()).unwrap().sample;
    assert_eq!(grey.value(at).unwrap().array().shape(), [16, 16, 3]);
}

#[test]
fn what_is_wrong_with_a_part_is_named() {
    let file = || Part::file("front", png(&board(9)));
    let (at, field, code, message) = refused(&[file(), Part::file("smell", vec![1])]);
    assert_eq!((at, field, code), (1, "modality", "unknown_modality"));
    assert!(message.contains("`smell`"), "{message}");
    let (at, field, code, _) = refused(&[file(), file()]);
    assert_eq!((at, field, code), (1, "modality", "double_modality"));
    let (at, field, code, message) = refused(&[Part { codec: "jpeg2000".into(), ..file() }]);
    assert_eq!((at, field, code), (0, "codec", "unknown_codec"));
    assert!(message.contains("`jpeg2000`"), "{message}");
    let (at, field, code, _) =
        refused(&[Part::file("golden", png(&board(9))), Part::file("front", vec![1, 2])]);
    assert_eq!((at, field, code), (1, "data", "not_an_image"));
    let with =
        |name: &str, text: &str| Part { attributes: [(name.to_owned(), text.to_owned())].into(), ..file() };
    assert_eq!(refused(&[with("bit_depth", "17")]).1, "attributes.bit_depth");
    assert_eq!(refused(&[with("smell", "1")]).1, "attributes");
    let shapeless = Part { codec: "bw".into(), ..file() };
    assert_eq!(refused(&[shapeless]).1, "shape");
}

#[test]
fn a_tensor_is_no_larger_than_it_may_be_and_holds_only_numbers() {
    let array = Array::new(vec![2, 2], Values::Fp32(vec![1.0, 2.0, 3.0, f32::NAN])).unwrap();
    let limits = Limits { max_elements: 4, ..Limits::default() };
    let part = Part::tensor("x", &array);
    assert_eq!(part.read_tensor(&limits).unwrap_err().field, "data");
    let whole = Array::new(vec![2, 2], Values::Int16(vec![1, 2, 3, 4])).unwrap();
    let part = Part::tensor("x", &whole);
    assert_eq!(part.read_tensor(&limits).unwrap(), whole);
    let fewer = Limits { max_elements: 3, ..limits };
    assert_eq!(part.read_tensor(&fewer).unwrap_err().code, "too_large");
    assert_eq!(Part { datatype: None, ..part.clone() }.read_tensor(&limits).unwrap_err().field, "datatype");
    let short = Part { shape: vec![5], ..part };
    assert_eq!(short.read_tensor(&Limits::default()).unwrap_err().field, "data");
}

fn of(modality: &str, side: u32, attributes: &[(&str, &str)]) -> Part {
    let levels = (0..side * side).map(|at| (at % 251) as u8).collect();
    let attributes =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Part { attributes, ..Part::file(modality, png(&Picture::grey(side, side, levels).unwrap())) }
}

#[test]
fn a_region_is_cut_out_of_every_picture_alike() {
    let modalities = modalities();
    let parts = [of("front", 32, &[("region", "8,16,10,12")]), of("golden", 32, &[])];
    let read = read(&modalities, &parts, &Limits::default()).unwrap();
    for modality in [0, 1] {
        let value = read.sample.value(ModalityIx::new(modality)).unwrap();
        assert_eq!((value.array().shape(), value.original()), (&[12, 10, 1][..], None));
        let cut = Picture::of(Arc::clone(value.array())).unwrap();
        assert_eq!(u32::from(cut.samples()[0]), (16 * 32 + 8) % 251);
    }
}

#[test]
fn several_regions_are_samples_of_their_own() {
    let modalities = modalities();
    let parts = [of("front", 32, &[("region", "0,0,8,8;16,16,16,16"), ("tile", "8")]), of("golden", 32, &[])];
    let (whole, views) = read_views(&modalities, &parts, &Limits::default()).unwrap();
    assert_eq!(whole.sample.value(ModalityIx::new(0)).unwrap().array().shape(), [32, 32, 1]);
    assert_eq!(views[0].region, [0, 0, 8, 8]);
    assert!(views.len() > 4 && views.iter().all(|view| view.region[2..] == [8, 8]));
    assert_eq!(refused(&parts).2, "several_regions", "where one is looked at");
    let (_, views) = read_views(&modalities, &[of("front", 32, &[])], &Limits::default()).unwrap();
    assert!(views.is_empty());
}

#[test]
fn regions_that_do_not_fit_are_refused_by_their_part() {
    let (at, field, _, message) =
        refused(&[of("golden", 16, &[]), of("front", 32, &[("region", "0,0,8,8")])]);
    assert_eq!((at, field), (1, "attributes.region"));
    assert!(message.contains("`golden` too, which is [16, 16] and not [32, 32]"), "{message}");
    let regions = |region| of("front", 32, &[("region", region)]);
    assert!(refused(&[regions("30,0,8,8")]).3.contains("is not inside"));
    assert_eq!(refused(&[of("front", 32, &[("tile", "x")])]).1, "attributes.tile");
    let other = [regions("0,0,8,8"), of("golden", 32, &[("region", "8,8,8,8")])];
    assert!(refused(&other).3.contains("is not what `front` names"));
}
