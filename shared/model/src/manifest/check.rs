//! What TOML types cannot say. Each check gives `(key, message)`.

use std::collections::HashSet;

use super::{
    Cost, EMBEDDING, ExpertInput, FORMAT, InputKind, MODEL_FILE, Manifest, Variant, golden_path, model_path,
    variant_path,
};
use crate::novelty::UNKNOWN;

mod products;

type Refused = (String, String);

/// What is said of a manifest of another format.
pub(super) fn other_format(format: u32) -> Refused {
    let advice = match format < FORMAT {
        true => "pack the bundle anew, or rewrite `bundle.toml` as docs/bundles.md says under \"Format 1\"",
        false => "take a newer Millgate",
    };
    refuse("format", format!("is {format}, this version reads {FORMAT}: {advice}"))
}

pub(super) fn check(manifest: &Manifest) -> Result<(), Refused> {
    for (key, text) in [("name", &manifest.name), ("version", &manifest.version)] {
        plain_name(key, text)?;
    }
    modalities(manifest)?;
    tasks(manifest)?;
    encoders(manifest)?;
    plain_name("gate.name", &manifest.gate.name)?;
    experts(manifest)?;
    combine(manifest)?;
    offload(manifest)?;
    products::products(manifest)?;
    golden(manifest)?;
    digests(manifest)
}

fn modalities(manifest: &Manifest) -> Result<(), Refused> {
    unique("modalities", manifest.modalities.iter().map(|modality| &modality.name))?;
    for (at, modality) in manifest.modalities.iter().enumerate() {
        if modality.name.split('.').next() == Some(EMBEDDING) {
            let message = format!("`{}` is what the encoders' embeddings are called", modality.name);
            return Err(refuse(format!("modalities[{at}].name"), message));
        }
        // Part of file names.
        plain_name(&format!("modalities[{at}].name"), &modality.name)?;
    }
    for (at, modality) in manifest.modalities.iter().enumerate() {
        if let Some(name) = &modality.reference {
            let refuse = |message: &str| {
                Err(refuse(format!("modalities[{at}].reference"), format!("`{name}` {message}")))
            };
            let Some(other) = manifest.modalities.iter().find(|other| other.name == *name) else {
                return refuse("is not a modality of this bundle");
            };
            if other.name == modality.name {
                return refuse("is the modality itself");
            }
            if (&other.kind, other.channels) != (&modality.kind, modality.channels) {
                return refuse("is of another kind, or has other channels");
            }
            if other.reference.is_some() {
                return refuse("has a reference itself");
            }
        }
    }
    Ok(())
}

fn tasks(manifest: &Manifest) -> Result<(), Refused> {
    unique("tasks", manifest.tasks.iter().map(|task| &task.name))?;
    for (at, task) in manifest.tasks.iter().enumerate() {
        if task.k == 0 {
            return Err(refuse(format!("tasks[{at}].k"), "must be at least 1"));
        }
        unique(&format!("tasks[{at}].labels"), task.labels.iter())?;
        if let Some(label) = task.labels.iter().find(|label| !label.contains('/')) {
            return Err(refuse(
                format!("tasks[{at}].labels"),
                format!("`{label}` is not `<product>/<class>`"),
            ));
        }
    }
    Ok(())
}

fn encoders(manifest: &Manifest) -> Result<(), Refused> {
    unique("encoders", manifest.encoders.iter().map(|encoder| &encoder.name))?;
    let dims = manifest.encoders.first().map_or(0, |first| first.dims);
    for (at, encoder) in manifest.encoders.pairs() {
        let key = format!("encoders[{at}]");
        plain_name(&format!("{key}.name"), &encoder.name)?;
        known_modality(manifest, &format!("{key}.modality"), &encoder.modality)?;
        if manifest.encoder_index(&encoder.modality) != Some(at) {
            let message = format!("`{}` has two encoders", encoder.modality);
            return Err(refuse(format!("{key}.modality"), message));
        }
        if encoder.dims == 0 || encoder.dims != dims {
            return Err(refuse(format!("{key}.dims"), "all encoders must share one embedding width over 0"));
        }
        cost(&key, encoder.cost)?;
    }
    Ok(())
}

fn experts(manifest: &Manifest) -> Result<(), Refused> {
    unique("experts", manifest.experts.iter().map(|expert| &expert.name))?;
    for (at, expert) in manifest.experts.iter().enumerate() {
        let key = format!("experts[{at}]");
        plain_name(&format!("{key}.name"), &expert.name)?;
        for name in &expert.tasks {
            let Some(task) = manifest.task(name) else {
                return Err(refuse(format!("{key}.tasks"), format!("`{name}` is not a task of this bundle")));
            };
            if let Some(label) = expert.labels.iter().find(|label| !task.labels.contains(label)) {
                return Err(refuse(
                    format!("{key}.labels"),
                    format!("`{label}` is not a label of task `{name}`"),
                ));
            }
        }
        non_empty(&format!("{key}.tasks"), expert.tasks.iter())?;
        unique(&format!("{key}.labels"), expert.labels.iter())?;
        for name in &expert.substitutes {
            if name == &expert.name || manifest.expert_index(name).is_none() {
                let message = format!("`{name}` is not another expert of this bundle");
                return Err(refuse(format!("{key}.substitutes"), message));
            }
        }
        let numbers = [
            ("price", expert.price),
            ("competence.bias", expert.competence.bias),
            ("competence.confidence", expert.competence.confidence),
            ("competence.gate", expert.competence.gate),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| !number.is_finite()) {
            return Err(refuse(format!("{key}.{name}"), "must be a finite number"));
        }
        cost(&key, expert.cost)?;
        expert_inputs(manifest, &key, &expert.inputs)?;
        variants(&key, &expert.variants)?;
    }
    Ok(())
}

fn expert_inputs(manifest: &Manifest, key: &str, inputs: &[ExpertInput]) -> Result<(), Refused> {
    for kind in [InputKind::Value, InputKind::Embedding] {
        let of_kind: Vec<&String> =
            inputs.iter().filter(|input| input.kind == kind).map(|input| &input.modality).collect();
        if !of_kind.is_empty() || inputs.is_empty() {
            unique(&format!("{key}.inputs"), of_kind.into_iter())?;
        }
    }
    for (at, spec) in inputs.iter().enumerate() {
        let key = format!("{key}.inputs[{at}]");
        known_modality(manifest, &format!("{key}.modality"), &spec.modality)?;
        if spec.kind == InputKind::Embedding {
            embedding(manifest, &key, spec)?;
        }
    }
    Ok(())
}

fn embedding(manifest: &Manifest, key: &str, spec: &ExpertInput) -> Result<(), Refused> {
    let Some(encoder) = manifest.encoder_index(&spec.modality).map(|at| &manifest.encoders[at]) else {
        return Err(refuse(format!("{key}.modality"), format!("`{}` has no encoder", spec.modality)));
    };
    if spec.shape != [encoder.dims] {
        let message = format!("is {:?}, `{}` gives [{}]", spec.shape, encoder.name, encoder.dims);
        return Err(refuse(format!("{key}.shape"), message));
    }
    if let Some(name) = spec.preprocess.keys().next() {
        let message = "is for a modality's value, and this is an embedding";
        return Err(refuse(format!("{key}.preprocess.{name}"), message));
    }
    Ok(())
}

fn variants(key: &str, variants: &[Variant]) -> Result<(), Refused> {
    for (at, variant) in variants.iter().enumerate() {
        let key = format!("{key}.variants[{at}]");
        let file = &variant.file;
        plain_name(&format!("{key}.file"), file)?;
        if !file.ends_with(".onnx") || file == MODEL_FILE {
            return Err(refuse(format!("{key}.file"), format!("`{file}` is no `.onnx` file of its own")));
        }
        plain_name(&format!("{key}.engine"), &variant.engine)?;
        if variant.engine == "tract" {
            let message = "is `tract`, which every agent and pool has: a variant is for another engine";
            return Err(refuse(format!("{key}.engine"), message));
        }
        let others = &variants[..at];
        if others.iter().any(|other| other.file == *file) {
            return Err(refuse(format!("{key}.file"), format!("`{file}` stands twice")));
        }
        if others.iter().any(|other| (&other.engine, other.precision) == (&variant.engine, variant.precision))
        {
            let (precision, engine) = (variant.precision.as_str(), &variant.engine);
            return Err(refuse(key, format!("there is another one in {precision} for {engine}")));
        }
        if !(variant.logit_tolerance > 0.0 && variant.logit_tolerance <= 1.0) {
            return Err(refuse(format!("{key}.logit_tolerance"), "must be over 0 and at most 1"));
        }
        let measured = variant.measured;
        if !(measured.speed_up >= 1.0 && measured.speed_up.is_finite()) {
            return Err(refuse(format!("{key}.measured.speed_up"), "must be a finite number of at least 1"));
        }
        if !(-1.0..=1.0).contains(&measured.accuracy_lost) {
            return Err(refuse(format!("{key}.measured.accuracy_lost"), "must be from -1 to 1"));
        }
    }
    Ok(())
}

fn combine(manifest: &Manifest) -> Result<(), Refused> {
    let combine = manifest.combine;
    if combine.k_min == 0 {
        return Err(refuse("combine.k_min", "must be at least 1"));
    }
    if !(0.0..0.5).contains(&combine.drop_below) {
        return Err(refuse("combine.drop_below", "must be at least 0 and under 0.5"));
    }
    if !(combine.sharpness > 0.0 && combine.sharpness.is_finite()) {
        return Err(refuse("combine.sharpness", "must be over 0"));
    }
    Ok(())
}

fn offload(manifest: &Manifest) -> Result<(), Refused> {
    let is_share = |number: f64| number > 0.0 && number < 1.0;
    for (key, number) in
        [("offload.default_risk", manifest.offload.default_risk), ("offload.delta", manifest.offload.delta)]
    {
        if !is_share(number) {
            return Err(refuse(key, "must be over 0 and under 1"));
        }
    }
    for (at, entry) in manifest.offload.thresholds.iter().enumerate() {
        let key = format!("offload.thresholds[{at}]");
        if !is_share(entry.risk) {
            return Err(refuse(format!("{key}.risk"), "must be over 0 and under 1"));
        }
        if !(0.0..=1.0).contains(&entry.threshold) {
            return Err(refuse(format!("{key}.threshold"), "must be from 0 to 1"));
        }
        if entry.calibration_kept > entry.calibration_samples
            || entry.calibration_errors > entry.calibration_kept
        {
            return Err(refuse(key, "counts must fall from samples to kept to errors"));
        }
        let of_product = |label: &String| super::product_of(label) == entry.product;
        if !manifest.tasks.iter().any(|task| task.labels.iter().any(of_product)) {
            let message = format!("no label belongs to product `{}`", entry.product);
            return Err(refuse(format!("{key}.product"), message));
        }
    }
    Ok(())
}

fn golden(manifest: &Manifest) -> Result<(), Refused> {
    for (key, number) in [
        ("golden.relative_tolerance", manifest.golden.relative_tolerance),
        ("golden.absolute_tolerance", manifest.golden.absolute_tolerance),
    ] {
        if !(0.0..1.0).contains(&number) {
            return Err(refuse(key, "must be at least 0 and under 1"));
        }
    }
    for (at, decision) in manifest.golden.decisions.iter().enumerate() {
        let key = format!("golden.decisions[{at}]");
        let Some(task) = manifest.task(&decision.task) else {
            return Err(refuse(format!("{key}.task"), format!("`{}` is not a task", decision.task)));
        };
        for name in &decision.labels {
            if !task.labels.iter().any(|label| label == name || super::product_of(label) == name) {
                let message = format!("`{name}` is neither a product nor a label of task `{}`", task.name);
                return Err(refuse(format!("{key}.labels"), message));
            }
        }
        if decision.label != UNKNOWN && !task.labels.contains(&decision.label) {
            return Err(refuse(format!("{key}.label"), format!("`{}` is not a label", decision.label)));
        }
        non_empty(&format!("{key}.parts"), decision.parts.keys())?;
        for name in decision.parts.keys() {
            known_modality(manifest, &format!("{key}.parts.{name}"), name)?;
        }
        if let Some(name) = decision.experts.iter().find(|name| manifest.expert_index(name).is_none()) {
            return Err(refuse(format!("{key}.experts"), format!("`{name}` is not an expert")));
        }
    }
    Ok(())
}

fn digests(manifest: &Manifest) -> Result<(), Refused> {
    let key = |file: &str| format!("digests.\"{file}\"");
    for (file, digest) in &manifest.digests {
        let inside = file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !inside || file.contains('\\') {
            return Err(refuse(key(file), "is not a plain path inside the bundle"));
        }
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(refuse(key(file), "is not `sha256:` and 64 lower-case hex digits"));
        }
    }
    let models = manifest.encoders.iter().map(|encoder| &encoder.name);
    let models =
        models.chain([&manifest.gate.name]).chain(manifest.experts.iter().map(|expert| &expert.name));
    let mut seen = HashSet::new();
    for model in models {
        if !seen.insert(model) {
            return Err(refuse("experts", format!("two models are named `{model}`")));
        }
        for file in [model_path(model), golden_path(model)] {
            if !manifest.digests.contains_key(&file) {
                return Err(refuse(key(&file), "is missing"));
            }
        }
    }
    for expert in &manifest.experts {
        for variant in &expert.variants {
            let file = variant_path(&expert.name, &variant.file);
            if !manifest.digests.contains_key(&file) {
                return Err(refuse(key(&file), "is missing"));
            }
        }
    }
    let goldens = manifest.golden.decisions.iter();
    for file in goldens.flat_map(|decision| decision.parts.values()) {
        if !manifest.digests.contains_key(file) {
            return Err(refuse(key(file), "is missing"));
        }
    }
    Ok(())
}

fn cost(key: &str, cost: Cost) -> Result<(), Refused> {
    if cost.macs == 0 {
        return Err(refuse(format!("{key}.cost.macs"), "must be over 0"));
    }
    Ok(())
}

fn known_modality(manifest: &Manifest, key: &str, name: &str) -> Result<(), Refused> {
    match manifest.modality_index(name) {
        Some(_) => Ok(()),
        None => Err(refuse(key, format!("`{name}` is not a modality of this bundle"))),
    }
}

/// Names become folder names and URL parts.
fn plain_name(key: &str, name: &str) -> Result<(), Refused> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.bytes().all(plain) {
        return Err(refuse(key, format!("`{name}` must be 1 to 64 letters, digits, `.`, `_`, `+` or `-`")));
    }
    Ok(())
}

fn unique<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Result<(), Refused> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(refuse(key, format!("`{name}` stands twice")));
        }
    }
    if seen.is_empty() {
        return Err(refuse(key, "must not be empty"));
    }
    Ok(())
}

fn non_empty<'a>(key: &str, mut list: impl Iterator<Item = &'a String>) -> Result<(), Refused> {
    if list.next().is_none() { Err(refuse(key, "must not be empty")) } else { Ok(()) }
}

fn refuse(key: impl Into<String>, message: impl Into<String>) -> Refused {
    (key.into(), message.into())
}
