//! Whether the pictures of a sample look as those of its product do: blank, dark, saturated, blurred, of another size.
//!
//! A bundle that knows nothing of its products checks nothing.

use millgate_model::decision::FailedCheck;
use millgate_model::manifest::{Manifest, PictureBounds};
use millgate_sample::image::{Measures, Picture, measures};
use millgate_sample::sample::Sample;

/// A picture whose grey levels spread less than this shows nothing.
const BLANK: f64 = 1.0;
/// The largest spread of grey levels that there is.
const MOST_CONTRAST: f64 = 127.5;

/// Everything that the pictures of a sample fail, by the bounds of a product and the order of the bundle's modalities.
pub fn failed(manifest: &Manifest, product: &str, sample: &Sample) -> Vec<FailedCheck> {
    if manifest.products.is_empty() {
        return Vec::new();
    }
    let none = PictureBounds::default();
    let known = manifest.product(product).map_or(&[][..], |product| &product.checks);
    let mut failed = Vec::new();
    for (index, modality) in manifest.modalities.pairs().filter(|(_, modality)| modality.kind == "image") {
        let value = sample.value(index).map(|value| Picture::of(value.array().clone()));
        let Some(Ok(picture)) = value else { continue };
        let bounds = known.iter().find(|bounds| bounds.modality == modality.name);
        // The reference of another modality is no picture that a camera has just taken.
        let is_reference =
            manifest.modalities.iter().any(|other| other.reference.as_ref() == Some(&modality.name));
        if is_reference && bounds.is_none() {
            continue;
        }
        let found = fails(&measures(&picture), bounds.unwrap_or(&none));
        failed.extend(found.map(|(check, value, bounds)| FailedCheck {
            modality: modality.name.clone(),
            check: check.to_owned(),
            value,
            bounds,
        }));
    }
    failed
}

/// Each check that fails: its name, what was found, and the bounds.
fn fails(
    found: &Measures,
    bounds: &PictureBounds,
) -> impl Iterator<Item = (&'static str, f64, [f64; 2])> + use<> {
    let each = [
        ("size", f64::from(found.width), bounds.width),
        ("size", f64::from(found.height), bounds.height),
        ("blank", found.contrast, Some([BLANK, MOST_CONTRAST])),
        ("saturated", found.saturated, bounds.saturated),
        ("dark", found.dark, bounds.dark),
        ("brightness", found.brightness, bounds.brightness),
        ("contrast", found.contrast, bounds.contrast),
        ("sharpness", found.sharpness, bounds.sharpness),
    ];
    each.into_iter().filter_map(|(check, value, bounds)| {
        let [least, most] = bounds?;
        let check = if check == "sharpness" && value < least { "blurred" } else { check };
        (value < least || value > most).then_some((check, value, [least, most]))
    })
}

#[cfg(test)]
mod tests {
    use millgate_model::manifest::Product;
    use millgate_sample::index::{Ix, ModalityIx};

    use super::*;

    fn manifest() -> Manifest {
        let text = std::fs::read_to_string("../../models/factory/bundle.toml").unwrap();
        let mut manifest = Manifest::parse(&text).unwrap();
        manifest.products = vec![Product {
            name: "xsdd".to_owned(),
            dispositions: Default::default(),
            costs: None,
            checks: vec![PictureBounds {
                modality: "image".to_owned(),
                samples: 100,
                width: Some([64.0, 64.0]),
                sharpness: Some([0.5, 80.0]),
                saturated: Some([0.0, 0.3]),
                ..PictureBounds::default()
            }],
            novelty: None,
        }];
        manifest
    }

    fn checked(manifest: &Manifest, levels: impl Fn(u32) -> u8, width: u32) -> Vec<String> {
        let picture = Picture::grey(width, 64, (0..width * 64).map(levels).collect()).unwrap();
        let mut sample = Sample::empty(&manifest.modalities);
        sample.values[ModalityIx::new(0)] = Some(picture.array().clone().into());
        failed(manifest, "xsdd", &sample).into_iter().map(|failed| failed.check).collect()
    }

    /// Squares of four pixels a side.
    fn board(at: u32) -> u8 {
        if (at / 64 / 4 + at % 64 / 4).is_multiple_of(2) { 60 } else { 180 }
    }

    #[test]
    fn a_picture_as_it_should_be_fails_nothing() {
        assert!(checked(&manifest(), board, 64).is_empty());
    }

    #[test]
    fn each_fault_is_called_by_its_name() {
        let manifest = manifest();
        assert_eq!(checked(&manifest, |_| 0, 64), ["blank", "blurred"]);
        assert_eq!(checked(&manifest, |at| (at % 64) as u8, 64), ["blurred"]);
        assert_eq!(checked(&manifest, |at| if at % 8 < 4 { 255 } else { 60 }, 64), ["saturated"]);
        assert!(checked(&manifest, board, 32).contains(&"size".to_owned()));
    }

    #[test]
    fn a_bundle_that_knows_nothing_of_products_checks_nothing() {
        let mut manifest = manifest();
        manifest.products.clear();
        assert!(checked(&manifest, |_| 0, 64).is_empty());
    }
}
