//! `MODEL_CARD.md` of a new bundle: what it was made of, what it reached, and whose the backbone is.

use std::fmt::Write;

use super::report::Report;

/// The card.
pub(super) fn card(report: &Report) -> String {
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _written = write(&mut card, report);
    card
}

fn write(card: &mut String, report: &Report) -> std::fmt::Result {
    let Report { product, backbone, .. } = report;
    writeln!(card, "# {product}\n")?;
    writeln!(
        card,
        "Made by `millgate-cloud bundle init` from labelled pictures of the product, without training a network: a frozen \
         backbone gives features, and what is fitted on them is linear.\n"
    )?;
    writeln!(card, "## Data\n\n| label | pictures |\n| --- | --- |")?;
    for (label, count) in &report.pictures {
        writeln!(card, "| {label} | {count} |")?;
    }
    writeln!(
        card,
        "\n{} pictures were held out: nothing was fitted on them but calibration.\n",
        report.held_out
    )?;
    writeln!(card, "## Quality\n")?;
    if let Some(classes) = &report.classes {
        writeln!(
            card,
            "{} at {} pixels, macro-F1 **{:.3}** over {} folds by group (each judged by a head that was fitted on the others). \
             Control, the same head on the same network with the weights of each layer shuffled: {:.3}{}.\n",
            classes.head,
            report.size,
            classes.macro_f1,
            classes.folds,
            classes.control_macro_f1,
            as_good(classes.control_is_as_good),
        )?;
        writeln!(card, "| label | F1 |\n| --- | --- |")?;
        for (label, f1) in &classes.f1 {
            writeln!(card, "| {label} | {f1:.3} |")?;
        }
        writeln!(card, "\n| tried | pixels | macro-F1 |\n| --- | --- | --- |")?;
        for tried in &classes.tried {
            writeln!(card, "| {} | {} | {:.3} |", tried.head, tried.size, tried.macro_f1)?;
        }
        writeln!(card)?;
    }
    if let Some(good) = &report.good {
        writeln!(
            card,
            "It knows good pictures alone: {} of {} pictures at {} pixels. {} more were kept aside for the threshold: a new good \
             picture, taken as those were, is called anomalous at most {:.2} % of the time ({:.2} % was asked).\n",
            good.detector,
            good.learned,
            report.size,
            good.aside,
            100.0 * good.false_alarms,
            100.0 * good.false_alarms_asked
        )?;
        match &good.defects {
            None => writeln!(card, "What it catches is not known: no defects were given.\n")?,
            Some(defects) => {
                writeln!(
                    card,
                    "Of {} known defects it catches {}; AUROC {:.3}. Control, the same on shuffled weights: {:.3}{}. It is an \
                     assistant, and no inspector.\n",
                    defects.all,
                    defects.caught,
                    defects.auroc,
                    defects.control_auroc,
                    as_good(defects.control_is_as_good)
                )?;
            }
        }
    }
    for warning in &report.warnings {
        writeln!(card, "- {warning}")?;
    }
    writeln!(card, "\n## Backbone\n")?;
    let licence = if backbone.licence.is_empty() { "not stated in its file" } else { &backbone.licence };
    writeln!(
        card,
        "{} (SHA-256 `{}`), licence: {licence}. {}\n",
        backbone.name, backbone.sha256, backbone.notice
    )?;
    writeln!(
        card,
        "Backbones are mostly trained on ImageNet, whose pictures are for research that is not commercial; whether weights \
         inherit that is not settled."
    )
}

fn as_good(is_as_good: bool) -> &'static str {
    if is_as_good { ", which is as good: what the backbone learned elsewhere plays no part here" } else { "" }
}
