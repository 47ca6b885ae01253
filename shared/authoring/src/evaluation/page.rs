//! The page: one file that a person can read, with everything in it.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat};
use maud::{DOCTYPE, Markup, html};
use millgate_base::bounded;

use super::{Evaluation, Judged, Point};

/// Longest side of a picture on the page, in pixels.
const SIDE: u32 = 160;
/// Largest file that is shown, in bytes.
const LARGEST: u64 = 64 << 20;
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1d2433}\
    table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #d6dbe4;text-align:right}\
    td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;width:11rem;vertical-align:top}\
    figure img{max-width:100%;image-rendering:pixelated}figcaption{font-size:.8rem;overflow-wrap:anywhere}\
    .right{background:#dff3e4}.wrong{background:#fbe3e1}svg{max-width:100%}h2{margin-top:2.5rem}";

/// Writes the page.
pub fn page(evaluation: &Evaluation) -> String {
    let Evaluation { bundle, version, digest, task, samples, mixture, device, pool, novelty, .. } =
        evaluation;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (bundle) " " (version) }
                style { (STYLE) }
            }
            body {
                h1 { (bundle) " " (version) " on " (samples) " samples" }
                p { "Task " (task) ", bundle " code { (digest) } "." }
                table {
                    tr { th { "" } th { "accuracy" } th { "macro-F1" } th { "calibration error" } th { "by chance under" } }
                    @for (name, judged) in [("device with pool", mixture), ("device alone", device), ("pool for every sample", pool)] {
                        tr {
                            td { (name) } td { (share(judged.accuracy)) } td { (number(judged.macro_f1)) }
                            td { (number(judged.calibration.error)) } td { (number(judged.calibration.band)) }
                        }
                    }
                }
                p { "The pool is asked for " (share(evaluation.offload)) " of the samples." }
                p { "Of " (novelty.compared) " known samples that were compared with a bank, " (novelty.unknown) " are called unknown." }
                @if !evaluation.dispositions.counts.is_empty() {
                    p {
                        "By the recipe: " (evaluation.dispositions.escapes) " escapes (should be rejected, were accepted), "
                        (evaluation.dispositions.false_rejects) " false rejects."
                    }
                }
                h2 { "By product" }
                table {
                    tr { th { "product" } th { "device with pool" } th { "device alone" } }
                    @for (product, accuracy) in &mixture.accuracy_by_product {
                        tr {
                            td { (product) } td { (share(*accuracy)) }
                            td { (share(device.accuracy_by_product.get(product).copied().unwrap_or(0.0))) }
                        }
                    }
                }
                h2 { "By label, device with pool" }
                table {
                    tr { th { "label" } th { "samples" } th { "precision" } th { "recall" } th { "F1" } }
                    @for (label, class) in &mixture.classes {
                        tr {
                            td { (label) } td { (class.samples) } td { (number(class.precision)) }
                            td { (number(class.recall)) } td { (number(class.f1)) }
                        }
                    }
                }
                h2 { "What is taken for what" }
                p { "A row for each true label, a column for each verdict." }
                (confusion(mixture))
                h2 { "How much can be kept on the device" }
                p { "Share of errors among the samples of lowest local risk, by the share that is kept." }
                (curve(&evaluation.risk_coverage))
                h2 { "What the pool is worth" }
                p { "Accuracy, by the share of samples that the pool is asked for, those of highest risk first." }
                (curve(&evaluation.accuracy_offload))
                h2 { "The worst errors" }
                @if evaluation.worst.is_empty() { p { "There are none." } }
                @for worst in &evaluation.worst {
                    figure {
                        @if let Some(source) = worst.file.as_deref().and_then(picture) { img src=(source) alt=(worst.sample); }
                        figcaption { (worst.sample) br; (worst.truth) " taken for " (worst.verdict) ", " (number(worst.probability)) }
                    }
                }
            }
        }
    };
    markup.into_string()
}

fn number(number: f64) -> String {
    format!("{number:.3}")
}

fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn confusion(judged: &Judged) -> Markup {
    let mut columns: Vec<&String> = judged.confusion.values().flat_map(|row| row.keys()).collect();
    columns.sort();
    columns.dedup();
    html! {
        table {
            tr { th { "" } @for column in &columns { th { (column) } } }
            @for (truth, row) in &judged.confusion {
                tr {
                    td { (truth) }
                    @for column in &columns {
                        @match row.get(*column) {
                            None => td {},
                            Some(count) => td class=(if *column == truth { "right" } else { "wrong" }) { (count) },
                        }
                    }
                }
            }
        }
    }
}

/// A curve, and its numbers under it for whoever does not see it.
fn curve(points: &[Point]) -> Markup {
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
        (low.min(point.value), high.max(point.value))
    });
    let range = (high - low).max(1e-9);
    let place = |point: &Point| {
        format!("{:.1},{:.1}", 20.0 + 560.0 * point.share, 140.0 - 120.0 * (point.value - low) / range)
    };
    let line: Vec<String> = points.iter().map(place).collect();
    html! {
        svg viewBox="0 0 600 160" width="600" role="img" aria-label="curve; its numbers stand in the table" {
            polyline points=(line.join(" ")) fill="none" stroke="#2456c7" stroke-width="2" {}
        }
        table {
            tr { th { "share" } @for point in points { th { (share(point.share)) } } }
            tr { td { "value" } @for point in points { td { (number(point.value)) } } }
        }
    }
}

/// A picture as a source that needs no file; `None` if it cannot be read.
fn picture(path: &Path) -> Option<String> {
    let bytes = bounded::read(path, LARGEST).ok()?;
    let picture = image::load_from_memory(&bytes).ok()?;
    let small =
        if picture.width().max(picture.height()) > SIDE { picture.thumbnail(SIDE, SIDE) } else { picture };
    let mut png = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(small.to_rgb8()).write_to(&mut png, ImageFormat::Png).ok()?;
    Some(format!("data:image/png;base64,{}", base64(png.get_ref())))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_as_everybody_writes_it() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
