//! `bundle inspect`: what a bundle says of itself, for people or as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use millgate_shared::bundle::Bundle;
use millgate_shared::bundle::manifest::{
    Expert, ExpertInput, Manifest, Task, Variant, model_path, product_of, variant_path,
};
use serde_json::{Value, json};

use super::{open, size, total};
use crate::command::{CommandError, Output, table};

/// Opens a bundle (which checks its digests; no model is run) and describes it.
pub fn inspect(path: &Path, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let bundle = open(path)?;
    match output {
        Output::Text => write_text(&bundle, out)?,
        Output::Json => writeln!(out, "{}", to_json(&bundle))?,
    }
    Ok(())
}

/// Classes by product, in the order of the labels.
fn products(labels: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut products: Vec<(&str, Vec<&str>)> = Vec::new();
    for label in labels {
        let product = product_of(label);
        let class = label.split_once('/').map_or("", |(_, class)| class);
        match products.iter_mut().find(|(known, _)| *known == product) {
            Some((_, classes)) => classes.push(class),
            None => products.push((product, vec![class])),
        }
    }
    products
}

fn write_text(bundle: &Bundle, out: &mut impl Write) -> io::Result<()> {
    let manifest = bundle.manifest();
    let (bytes, files) = total(bundle);
    writeln!(out, "bundle      {} {}", manifest.name, manifest.version)?;
    writeln!(out, "            {}", manifest.description)?;
    writeln!(out, "digest      {}", bundle.digest())?;
    writeln!(out, "signed      {}", if bundle.is_signed() { "yes" } else { "no" })?;
    writeln!(out, "licence     {}", manifest.licence)?;
    writeln!(out, "size        {} bytes in {files} files", table::grouped(bytes))?;
    let modalities =
        manifest.modalities.iter().map(|modality| format!("{} ({})", modality.name, modality.unit));
    writeln!(out, "modalities  {}", modalities.collect::<Vec<_>>().join(", "))?;
    for task in &manifest.tasks {
        write_task(task, out)?;
    }
    writeln!(out, "\nexperts")?;
    let rows: Vec<Vec<String>> = manifest.experts.iter().map(|expert| row(bundle, expert)).collect();
    let header = [
        "name",
        "tier",
        "knows",
        "labels",
        "bytes",
        "MACs",
        "up",
        "price",
        "inputs",
        "competence",
        "substitutes",
    ];
    table::write(out, &header, &rows)?;
    writeln!(out, "  up: mean bytes sent when asked; competence: bias, confidence, gate\n")?;
    write_variants(bundle, out)?;
    writeln!(out, "other models")?;
    let rows: Vec<Vec<String>> = others(manifest)
        .map(|(name, role, macs)| {
            let bytes = table::grouped(size(bundle, &model_path(name)));
            vec![name.to_owned(), role.to_owned(), bytes, table::grouped(macs)]
        })
        .collect();
    table::write(out, &["name", "role", "bytes", "MACs"], &rows)?;
    write_rules(manifest, out)
}

fn write_task(task: &Task, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\ntask `{}`: {} labels, {} experts a sample", task.name, task.labels.len(), task.k)?;
    let products = products(&task.labels);
    let rows: Vec<Vec<String>> = products
        .iter()
        .map(|(product, classes)| vec![(*product).to_owned(), classes.len().to_string(), classes.join(", ")])
        .collect();
    table::write(out, &["product", "labels", "classes"], &rows)
}

fn row(bundle: &Bundle, expert: &Expert) -> Vec<String> {
    let knows: Vec<&str> = products(&expert.labels).iter().map(|(product, _)| *product).collect();
    let inputs: Vec<String> = expert.inputs.iter().map(input).collect();
    let competence = expert.competence;
    vec![
        expert.name.clone(),
        expert.tier.as_str().to_owned(),
        knows.join(", "),
        expert.labels.len().to_string(),
        table::grouped(size(bundle, &model_path(&expert.name))),
        table::grouped(expert.cost.macs),
        table::grouped(expert.cost.uplink_bytes),
        format!("{:.2}", expert.price),
        inputs.join(", "),
        format!("{:.2}, {:.2}, {:.2}", competence.bias, competence.confidence, competence.gate),
        if expert.substitutes.is_empty() { "none".to_owned() } else { expert.substitutes.join(", ") },
    ]
}

fn write_variants(bundle: &Bundle, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<Vec<String>> = (bundle.manifest().experts.iter())
        .flat_map(|expert| expert.variants.iter().map(move |variant| (expert, variant)))
        .map(|(expert, variant)| {
            vec![
                expert.name.clone(),
                variant.precision.as_str().to_owned(),
                variant.engine.as_str().to_owned(),
                table::grouped(size(bundle, &variant_path(&expert.name, &variant.file))),
                format!("{:.2}", variant.measured.speed_up),
                format!("{:.2}", 100.0 * variant.measured.accuracy_lost),
                format!("{}", variant.logit_tolerance),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "variants")?;
    let header = ["of", "precision", "engine", "bytes", "times as fast", "points lost", "logits within"];
    table::write(out, &header, &rows)?;
    writeln!(out, "  as measured by its maker; a pool measures again before it uses one\n")
}

fn input(input: &ExpertInput) -> String {
    let axes: Vec<String> = input.shape.iter().map(usize::to_string).collect();
    format!("{} {}", input.name, axes.join("x"))
}

fn others(manifest: &Manifest) -> impl Iterator<Item = (&str, &str, u64)> {
    let encoders =
        manifest.encoders.iter().map(|encoder| (encoder.name.as_str(), "encoder", encoder.cost.macs));
    encoders.chain([(manifest.gate.name.as_str(), "gate", manifest.gate.cost.macs)])
}

fn write_rules(manifest: &Manifest, out: &mut impl Write) -> io::Result<()> {
    let (combine, offload) = (manifest.combine, &manifest.offload);
    writeln!(
        out,
        "\ncombine: answers needed {}, dropped under {} of the weight, sharpness {}",
        combine.k_min, combine.drop_below, combine.sharpness
    )?;
    writeln!(
        out,
        "offload: default risk {}, certificates hold with probability {}",
        offload.default_risk,
        1.0 - offload.delta
    )?;
    let rows: Vec<Vec<String>> = offload
        .thresholds
        .iter()
        .map(|entry| {
            vec![
                entry.product.clone(),
                entry.risk.to_string(),
                format!("{:.4}", entry.threshold),
                format!("{}/{}", entry.calibration_kept, entry.calibration_samples),
                entry.calibration_errors.to_string(),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => writeln!(out, "  no certified threshold: every sample asks the cloud")?,
        false => table::write(out, &["product", "risk", "threshold", "kept", "errors"], &rows)?,
    }
    writeln!(out, "\ngolden: {} whole decisions, and rows for every model", manifest.golden.decisions.len())
}

fn to_json(bundle: &Bundle) -> Value {
    let manifest = bundle.manifest();
    let (bytes, files) = total(bundle);
    let tasks = manifest.tasks.iter().map(|task| {
        let products: BTreeMap<&str, Vec<&str>> = products(&task.labels).into_iter().collect();
        json!({ "name": task.name, "k": task.k, "labels": task.labels, "products": products })
    });
    let others = others(manifest).map(|(name, role, macs)| {
        json!({ "name": name, "role": role, "bytes": size(bundle, &model_path(name)), "macs": macs })
    });
    let thresholds = manifest.offload.thresholds.iter().map(|entry| {
        json!({
            "product": entry.product,
            "risk": entry.risk,
            "threshold": entry.threshold,
            "calibration_samples": entry.calibration_samples,
            "calibration_kept": entry.calibration_kept,
            "calibration_errors": entry.calibration_errors,
        })
    });
    let modalities =
        manifest.modalities.iter().map(|modality| json!({ "name": modality.name, "unit": modality.unit }));
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "licence": manifest.licence,
        "digest": bundle.digest().to_string(),
        "signed": bundle.is_signed(),
        "bytes": bytes,
        "files": files,
        "modalities": modalities.collect::<Vec<_>>(),
        "tasks": tasks.collect::<Vec<_>>(),
        "experts": manifest.experts.iter().map(|expert| expert_json(bundle, expert)).collect::<Vec<_>>(),
        "models": others.collect::<Vec<_>>(),
        "combine": {
            "k_min": manifest.combine.k_min,
            "drop_below": manifest.combine.drop_below,
            "sharpness": manifest.combine.sharpness,
        },
        "offload": {
            "default_risk": manifest.offload.default_risk,
            "delta": manifest.offload.delta,
            "thresholds": thresholds.collect::<Vec<_>>(),
        },
        "golden_decisions": manifest.golden.decisions.len(),
    })
}

fn expert_json(bundle: &Bundle, expert: &Expert) -> Value {
    let inputs = expert.inputs.iter().map(|input| {
        json!({
            "name": input.name,
            "modality": input.modality,
            "shape": input.shape,
            "kind": input.kind.as_str(),
            "preprocess": input.preprocess,
        })
    });
    json!({
        "name": expert.name,
        "tier": expert.tier.as_str(),
        "tasks": expert.tasks,
        "labels": expert.labels,
        "inputs": inputs.collect::<Vec<_>>(),
        "bytes": size(bundle, &model_path(&expert.name)),
        "macs": expert.cost.macs,
        "uplink_bytes": expert.cost.uplink_bytes,
        "price": expert.price,
        "competence": {
            "bias": expert.competence.bias,
            "confidence": expert.competence.confidence,
            "gate": expert.competence.gate,
        },
        "substitutes": expert.substitutes,
        "variants": expert.variants.iter().map(|variant| variant_json(bundle, expert, variant)).collect::<Vec<_>>(),
    })
}

fn variant_json(bundle: &Bundle, expert: &Expert, variant: &Variant) -> Value {
    json!({
        "file": variant.file,
        "precision": variant.precision.as_str(),
        "engine": variant.engine.as_str(),
        "bytes": size(bundle, &variant_path(&expert.name, &variant.file)),
        "logit_tolerance": variant.logit_tolerance,
        "measured": {
            "speed_up": variant.measured.speed_up,
            "accuracy_lost": variant.measured.accuracy_lost,
        },
    })
}
