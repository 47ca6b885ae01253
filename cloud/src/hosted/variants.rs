//! Whether a variant of an expert is served in its place: if the golden samples agree, and it is faster, here and now.

use millgate_shared::bundle::Bundle;
use millgate_shared::bundle::manifest::{Expert, Variant};
use millgate_shared::proof::variant::{Timed, compare_model, judge, open};

use crate::engines::choice::{Alternative, micros};
use crate::engines::{Engines, Home, Kind, Loaded};

/// The first that pays; for each of the others the log says why not. `usual` is what is served without it.
pub(super) fn best(
    engines: &Engines,
    bundle: &Bundle,
    expert: &Expert,
    usual: &Loaded,
    home: &Home,
) -> Option<Loaded> {
    expert.variants.iter().find_map(|variant| {
        let (name, file) = (&expert.name, &variant.file);
        match tried(engines, bundle, expert, variant, (usual, home)) {
            Ok(loaded) => {
                tracing::info!(expert = name, file, why = loaded.choice.why, "a variant is served");
                Some(loaded)
            }
            Err(reason) => {
                tracing::info!(expert = name, file, reason, "a variant is not served");
                None
            }
        }
    })
}

fn tried(
    engines: &Engines,
    bundle: &Bundle,
    expert: &Expert,
    variant: &Variant,
    (usual, home): (&Loaded, &Home),
) -> Result<Loaded, String> {
    let kind = Kind::named(&variant.engine).filter(|kind| engines.has(*kind));
    let kind = kind.ok_or_else(|| format!("it is for {}, which this pool does not have", variant.engine))?;
    let text = |error: millgate_shared::bundle::BundleError| error.to_string();
    let file = open(bundle, expert, variant).map_err(text)?;
    let loaded = engines.load_with(kind, &expert.name, &file, home, String::new());
    let mut loaded = loaded.map_err(|error| error.reason)?;
    let agreement = compare_model(bundle, expert, variant, &loaded.model).map_err(text)?;
    let speed_up = judge(&agreement, &times(usual, &loaded)).map_err(|why| format!("it {why}"))?;
    let precision = variant.precision.as_str();
    let (ours, theirs) = (loaded.choice.measured, usual.choice.measured);
    loaded.choice.precision = Some(precision);
    loaded.choice.why = format!(
        "{precision} is {speed_up:.1}x faster than FP32 on {}: {} against {} us a row; logits within {:.3} on the golden samples",
        usual.choice.engine,
        micros(ours.best),
        micros(theirs.best),
        agreement.difference,
    );
    loaded.choice.alternatives = vec![Alternative { engine: usual.choice.engine, outcome: Ok(theirs) }];
    Ok(loaded)
}

/// Runs of as many rows by both.
fn times(usual: &Loaded, variant: &Loaded) -> Vec<Timed> {
    let of = |loaded: &Loaded, rows: usize| {
        loaded.trial.times.iter().find(|(found, _)| *found == rows).map(|(_, time)| *time)
    };
    let both = |(rows, fp32): &(usize, std::time::Duration)| {
        Some(Timed { rows: *rows, fp32: *fp32, variant: of(variant, *rows)? })
    };
    usual.trial.times.iter().filter_map(both).collect()
}
