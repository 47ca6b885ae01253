//! `check`: loads what a configuration names, as `serve` would, and says what each model runs with, and why.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::serve::ServeArgs;
use super::{CommandError, Output, table};
use crate::engines::choice::{Alternative, micros};
use crate::engines::missing::{INSTALL, Missing};
use crate::engines::search::Found;
use crate::identity::material;
use crate::pool::Pool;
use crate::server;
use crate::serving::catalogue::Listed;
use crate::serving::served::Served;
use crate::switching::kept::Kept;

/// Loads and tries every model of the bundle and of the repositories. An error if the configuration is at fault or any
/// model cannot be served.
pub async fn check(args: ServeArgs, output: Output, out: &mut impl Write) -> Result<(), CommandError> {
    let loaded = async {
        let config = args.resolve()?;
        material::check(&config.tls)?;
        let kept = Kept::look(&config.state_dir);
        Ok::<_, CommandError>(server::load(&config, kept).await?.pool)
    };
    let pool = match (loaded.await, output) {
        (Ok(pool), _) => pool,
        (Err(error), Output::Text) => return Err(error),
        (Err(error), Output::Json) => {
            writeln!(out, "{}", json!({ "ok": false, "error": error.to_string() }))?;
            return Err(error);
        }
    };
    let index = pool.serving().index();
    let refused: Vec<&Listed> = index.iter().filter(|listed| listed.reason.is_some()).collect();
    match output {
        Output::Text => write_text(&pool, &refused, out)?,
        Output::Json => writeln!(out, "{}", to_json(&pool, &refused))?,
    }
    match refused.len() {
        0 => Ok(()),
        models => Err(CommandError::NotServed(models)),
    }
}

fn library(pool: &Pool) -> Option<String> {
    pool.serving().engines().onnxruntime_library().map(|path| path.display().to_string())
}

fn write_text(pool: &Pool, refused: &[&Listed], out: &mut impl Write) -> std::io::Result<()> {
    let found = pool.serving().engines().found();
    let engines = library(pool)
        .map_or("tract".to_owned(), |path| format!("tract, onnxruntime ({path}, {})", found.text()));
    match pool.hosted() {
        None => writeln!(out, "bundle   none")?,
        Some(hosted) => {
            let manifest = hosted.manifest();
            writeln!(out, "bundle   {} {}  {}", manifest.name, manifest.version, hosted.digest())?;
        }
    }
    writeln!(out, "engines  {engines}")?;
    if let Found::Nowhere { .. } = found {
        write_missing(found, &pool.missing(), out)?;
    }
    writeln!(out)?;
    let rows: Vec<Vec<String>> = pool.serving().all().iter().map(|served| row(served)).collect();
    let header = ["model", "version", "engine", "us alone", "us a row", "knee", "rows", "why"];
    table::write(out, &header, &rows)?;
    let notes = pool.serving().index();
    for (at, (listed, note)) in notes.iter().filter_map(|it| Some((it, it.note.as_ref()?))).enumerate() {
        writeln!(
            out,
            "{}  {} {}: {note}",
            if at == 0 { "\nto be known\n" } else { "" },
            listed.name,
            listed.version
        )?;
    }
    if refused.is_empty() {
        return writeln!(out, "\n{} models can be served", rows.len());
    }
    writeln!(out, "\ncannot be served")?;
    for listed in refused {
        writeln!(out, "  {}: {}", listed.name, listed.reason.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn write_missing(found: &Found, missing: &Missing, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "         ONNX Runtime is not here: {}", found.text())?;
    writeln!(out, "         to bring it: {INSTALL}")?;
    for (what, models) in [
        ("cannot be served without it", &missing.cannot_be_served),
        ("may be faster with it", &missing.may_gain),
    ] {
        if !models.is_empty() {
            let models: Vec<&str> = models.iter().map(String::as_str).collect();
            writeln!(out, "         {what}: {}", models.join(", "))?;
        }
    }
    Ok(())
}

fn row(served: &Served) -> Vec<String> {
    let measured = served.choice.measured;
    // A composite's parts stand for themselves.
    let shown = |text: String| if served.is_composite { "-".to_owned() } else { text };
    vec![
        served.name.clone(),
        served.version.to_string(),
        served.choice.name(),
        shown(micros(measured.alone)),
        shown(micros(measured.best)),
        shown(served.knee.to_string()),
        match (&served.unproven, served.rows_are_independent) {
            (Some(_), _) => "unproven",
            (None, true) => "independent",
            (None, false) => "joined",
        }
        .to_owned(),
        served.choice.why.clone(),
    ]
}

fn to_json(pool: &Pool, refused: &[&Listed]) -> Value {
    let bundle = pool.hosted().map(|hosted| {
        let (manifest, digest) = (hosted.manifest(), hosted.digest().to_string());
        json!({ "name": manifest.name, "version": manifest.version, "digest": digest })
    });
    let models: Vec<Value> = pool.serving().all().iter().map(|served| model(served)).collect();
    let refused: Vec<Value> =
        refused.iter().map(|listed| json!({ "name": listed.name, "reason": listed.reason })).collect();
    let (found, missing) = (pool.serving().engines().found(), pool.missing());
    let without = matches!(found, Found::Nowhere { .. }).then(|| {
        json!({
            "why": found.text(),
            "remedy": INSTALL,
            "cannot_be_served": missing.cannot_be_served,
            "may_gain": missing.may_gain,
        })
    });
    json!({
        "ok": refused.is_empty(),
        "bundle": bundle,
        "onnxruntime_library": library(pool),
        "onnxruntime": found.text(),
        "without_onnxruntime": without,
        "models": models,
        "cannot_be_served": refused,
    })
}

fn model(served: &Served) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let alternative = |other: &Alternative| match &other.outcome {
        Ok(measured) => json!({
            "engine": other.engine,
            "us_alone": us(measured.alone),
            "us_per_row": us(measured.best),
        }),
        Err(reason) => json!({ "engine": other.engine, "reason": reason }),
    };
    let choice = &served.choice;
    json!({
        "name": served.name,
        "version": served.version,
        "engine": choice.engine,
        "precision": choice.precision,
        "why": choice.why,
        "us_alone": us(choice.measured.alone),
        "us_per_row": us(choice.measured.best),
        "knee": served.knee,
        "rows_are_independent": served.rows_are_independent,
        "unproven": served.unproven,
        "left_out_outputs": served.signature().left_out,
        "alternatives": choice.alternatives.iter().map(alternative).collect::<Vec<_>>(),
    })
}
