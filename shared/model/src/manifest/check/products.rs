//! Checks of `[[products]]`: names that refer to something, bounds and shares that mean something.

use super::{Refused, known_modality, refuse, unique};
use crate::manifest::{Manifest, NoveltyBank, PictureBounds, product_of};
use crate::recipe::Costs;

/// The detector that every bank may have; the others are `expert:<name>`.
const PICTURE: &str = "picture";
const EXPERT: &str = "expert:";
/// More neighbours than this say nothing of what is near.
const MOST_NEIGHBOURS: usize = 100;

pub(super) fn products(manifest: &Manifest) -> Result<(), Refused> {
    if manifest.products.is_empty() {
        return Ok(());
    }
    unique("products", manifest.products.iter().map(|product| &product.name))?;
    for (at, product) in manifest.products.iter().enumerate() {
        let key = format!("products[{at}]");
        let mut labels = manifest.tasks.iter().flat_map(|task| &task.labels);
        if !labels.any(|label| product_of(label) == product.name) {
            return Err(refuse(
                format!("{key}.name"),
                format!("no label belongs to product `{}`", product.name),
            ));
        }
        for label in product.dispositions.keys() {
            let is_known = manifest.tasks.iter().any(|task| task.labels.contains(label));
            if !is_known || product_of(label) != product.name {
                let message = format!("is not a label of product `{}`", product.name);
                return Err(refuse(format!("{key}.dispositions.\"{label}\""), message));
            }
        }
        if let Some(costs) = &product.costs {
            self::costs(&format!("{key}.costs"), costs)?;
        }
        for (number, bounds) in product.checks.iter().enumerate() {
            let key = format!("{key}.checks[{number}]");
            if product.checks[..number].iter().any(|other| other.modality == bounds.modality) {
                let message = format!("`{}` stands twice", bounds.modality);
                return Err(refuse(format!("{key}.modality"), message));
            }
            picture_bounds(manifest, &key, bounds)?;
        }
        if let Some(bank) = &product.novelty {
            novelty(manifest, &format!("{key}.novelty"), bank)?;
        }
    }
    Ok(())
}

fn costs(key: &str, costs: &Costs) -> Result<(), Refused> {
    let each = [
        ("escape", Some(costs.escape)),
        ("false_reject", Some(costs.false_reject)),
        ("review", costs.review),
    ];
    for (name, cost) in each {
        if cost.is_some_and(|cost| !(cost >= 0.0 && cost.is_finite())) {
            return Err(refuse(format!("{key}.{name}"), "must be a finite number of at least 0"));
        }
    }
    Ok(())
}

fn picture_bounds(manifest: &Manifest, key: &str, bounds: &PictureBounds) -> Result<(), Refused> {
    known_modality(manifest, &format!("{key}.modality"), &bounds.modality)?;
    let of_images = manifest.modality_index(&bounds.modality).map(|index| &manifest.modalities[index].kind);
    if of_images.is_some_and(|kind| kind != "image") {
        return Err(refuse(format!("{key}.modality"), format!("`{}` holds no pictures", bounds.modality)));
    }
    let each = [
        ("width", bounds.width),
        ("height", bounds.height),
        ("brightness", bounds.brightness),
        ("contrast", bounds.contrast),
        ("saturated", bounds.saturated),
        ("dark", bounds.dark),
        ("sharpness", bounds.sharpness),
    ];
    for (name, bound) in each {
        if let Some([least, most]) = bound
            && !(least.is_finite() && most.is_finite() && least <= most)
        {
            return Err(refuse(format!("{key}.{name}"), "must be two finite numbers, the lesser one first"));
        }
    }
    Ok(())
}

fn novelty(manifest: &Manifest, key: &str, bank: &NoveltyBank) -> Result<(), Refused> {
    if !manifest.digests.contains_key(&bank.file) {
        return Err(refuse(format!("digests.\"{}\"", bank.file), "is missing"));
    }
    if !(1..=MOST_NEIGHBOURS).contains(&bank.neighbours) {
        return Err(refuse(format!("{key}.neighbours"), format!("must be from 1 to {MOST_NEIGHBOURS}")));
    }
    if !(bank.false_alarms > 0.0 && bank.false_alarms < 1.0) {
        return Err(refuse(format!("{key}.false_alarms"), "must be over 0 and under 1"));
    }
    unique(&format!("{key}.detectors"), bank.detectors.iter())?;
    for detector in &bank.detectors {
        let is_known = match detector.strip_prefix(EXPERT) {
            Some(expert) => manifest.expert_index(expert).is_some(),
            None => detector == PICTURE,
        };
        if !is_known {
            let message =
                format!("`{detector}` is neither `{PICTURE}` nor `{EXPERT}` and an expert of this bundle");
            return Err(refuse(format!("{key}.detectors"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Product;
    use crate::manifest::tests::manifest;

    fn refused(change: impl FnOnce(&mut Product)) -> Option<Refused> {
        let mut manifest = manifest();
        manifest.digests.insert("novelty/a.safetensors".to_owned(), String::new());
        let mut product = Product {
            name: "a".to_owned(),
            dispositions: [("a/good".to_owned(), crate::recipe::Disposition::Accept)].into(),
            costs: Some(Costs { escape: 10.0, false_reject: 1.0, review: None }),
            checks: vec![PictureBounds {
                modality: "image".to_owned(),
                brightness: Some([10.0, 200.0]),
                ..PictureBounds::default()
            }],
            novelty: Some(NoveltyBank {
                file: "novelty/a.safetensors".to_owned(),
                neighbours: 5,
                detectors: vec!["picture".to_owned(), "expert:a-s".to_owned()],
                false_alarms: 0.02,
                calibration_samples: 100,
            }),
        };
        change(&mut product);
        manifest.products.push(product);
        products(&manifest).err()
    }

    #[test]
    fn a_product_that_is_in_order_passes() {
        assert_eq!(refused(|_| {}), None);
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_key() {
        let key = |change: fn(&mut Product)| refused(change).map(|(key, _)| key).unwrap_or_default();
        assert_eq!(key(|product| product.name = "c".to_owned()), "products[0].name");
        assert_eq!(
            key(|product| {
                let review = crate::recipe::Disposition::Review;
                product.dispositions.insert("b/good".to_owned(), review);
            }),
            "products[0].dispositions.\"b/good\""
        );
        assert_eq!(key(|product| product.costs.as_mut().unwrap().escape = -1.0), "products[0].costs.escape");
        assert_eq!(
            key(|product| product.checks[0].modality = "sound".to_owned()),
            "products[0].checks[0].modality"
        );
        assert_eq!(
            key(|product| product.checks[0].contrast = Some([2.0, 1.0])),
            "products[0].checks[0].contrast"
        );
        let bank = |product: &mut Product, change: fn(&mut NoveltyBank)| {
            change(product.novelty.as_mut().unwrap());
        };
        assert_eq!(
            refused(|product| bank(product, |bank| bank.file = "x".to_owned())).unwrap().0,
            "digests.\"x\""
        );
        assert_eq!(
            refused(|product| bank(product, |bank| bank.neighbours = 0)).unwrap().0,
            "products[0].novelty.neighbours"
        );
        assert_eq!(
            refused(|product| bank(product, |bank| bank.false_alarms = 1.0)).unwrap().0,
            "products[0].novelty.false_alarms"
        );
        assert_eq!(
            refused(|product| bank(product, |bank| bank.detectors.push("expert:none".to_owned()))).unwrap().0,
            "products[0].novelty.detectors"
        );
    }
}
