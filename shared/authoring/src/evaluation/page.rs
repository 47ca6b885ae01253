//! The page: one file that a person can read, with everything in it.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use image::{DynamicImage, ImageFormat};
use maud::{DOCTYPE, Markup, html};
use millgate_base::bounded;

use super::{Evaluation, Judged, Point};

/// Longest side of a picture on the page, in pixels.
const SIDE: u32 = 160;
/// Largest file that is shown, in bytes.
const LARGEST: u64 = 64 << 20;
const STYLE: &str = ":root{color-scheme:light dark;--text:#1d2433;--soft:#566074;--line:#d6dbe4;--back:#fff;--right:#dff3e4;--wrong:#fbe3e1;\
    --curve:#2456c7}@media(prefers-color-scheme:dark){:root{--text:#e9edf4;--soft:#aab4c5;--line:#3a4456;--back:#12161d;--right:#17402a;\
    --wrong:#4a1f20;--curve:#8ab0ff}}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;\
    color:var(--text);background:var(--back)}.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}\
    td,th{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right}td:first-child,th:first-child{text-align:left}\
    figure{display:inline-block;margin:.5rem;width:11rem;vertical-align:top}figure img{max-width:100%;image-rendering:pixelated}\
    figcaption{font-size:.8rem;overflow-wrap:anywhere}.right{background:var(--right)}.wrong{background:var(--wrong)}svg{max-width:100%}\
    svg text{font-size:12px;fill:var(--soft)}svg line{stroke:var(--line)}polyline{stroke:var(--curve)}code{overflow-wrap:anywhere}\
    h2{margin-top:2.5rem}";
/// The picture of a curve, in its own units: its size, and the room for the words beside it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 60.0;
const BELOW: f64 = 30.0;
const ROOM: f64 = 25.0;

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
                div.wide tabindex="0" { table {
                    tr { th { "" } th { "accuracy" } th { "macro-F1" } th { "calibration error" } th { "by chance under" } }
                    @for (name, judged) in [("device with pool", mixture), ("device alone", device), ("pool for every sample", pool)] {
                        tr {
                            td { (name) } td { (share(judged.accuracy)) } td { (number(judged.macro_f1)) }
                            td { (number(judged.calibration.error)) } td { (number(judged.calibration.band)) }
                        }
                    }
                } }
                p {
                    "With the pool, in 95 of 100 cases the true accuracy is from " (share(evaluation.intervals.accuracy[0])) " to "
                    (share(evaluation.intervals.accuracy[1])) " and the true macro-F1 from " (number(evaluation.intervals.macro_f1[0])) " to "
                    (number(evaluation.intervals.macro_f1[1])) ", on samples drawn as these " (evaluation.intervals.groups) " groups were. "
                    "A calibration error under the last column may be chance."
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
                @if !evaluation.worst_groups.is_empty() {
                    h2 { "Where it errs most" }
                    table {
                        tr { th { "group" } th { "samples" } th { "accuracy" } }
                        @for one in &evaluation.worst_groups {
                            tr { td { (one.group) } td { (one.samples) } td { (share(one.accuracy)) } }
                        }
                    }
                }
                h2 { "By label, device with pool" }
                div.wide tabindex="0" { table {
                    tr { th { "label" } th { "samples" } th { "precision" } th { "recall" } th { "F1" } }
                    @for (label, class) in &mixture.classes {
                        tr {
                            td { (label) } td { (class.samples) } td { (number(class.precision)) }
                            td { (number(class.recall)) } td { (number(class.f1)) }
                        }
                    }
                } }
                h2 { "What is taken for what" }
                p { "A row for each true label, a column for each verdict." }
                (confusion(mixture))
                h2 { "How much can be kept on the device" }
                p {
                    "Share of errors among the samples of lowest local risk, by the share that is kept; on the mean over all shares "
                    (number(evaluation.aurc)) " (area under the curve; 0 is best)."
                }
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
    let mut columns: Vec<&String> =
        judged.confusion.iter().flat_map(|(truth, row)| row.keys().chain([truth])).collect();
    columns.sort();
    columns.dedup();
    html! {
        div.wide tabindex="0" { table {
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
        } }
    }
}

/// A curve with its axes, and its numbers under it for whoever does not see it.
fn curve(points: &[Point]) -> Markup {
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| {
        (low.min(point.value), high.max(point.value))
    });
    let range = (high - low).max(1e-9);
    let x = |share: f64| LEFT + (WIDTH - LEFT - ROOM) * share;
    let y = |value: f64| ROOM + (HEIGHT - BELOW - ROOM) * (1.0 - (value - low) / range);
    let line: Vec<String> =
        points.iter().map(|point| format!("{:.1},{:.1}", x(point.share), y(point.value))).collect();
    let levels = if high - low > 1e-9 { vec![low, low + range / 2.0, high] } else { vec![low] };
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) role="img" aria-label="curve; its numbers stand in the table" {
            @for level in &levels {
                line x1=(LEFT) x2=(WIDTH - ROOM) y1=(y(*level)) y2=(y(*level)) {}
                text x=(LEFT - 5.0) y=(y(*level) + 4.0) text-anchor="end" { (share(*level)) }
            }
            @for share_of in [0.0, 0.25, 0.5, 0.75, 1.0] {
                text x=(x(share_of)) y=(HEIGHT - 8.0) text-anchor="middle" { (format!("{:.0} %", 100.0 * share_of)) }
            }
            polyline points=(line.join(" ")) fill="none" stroke-width="2" {}
        }
        div.wide tabindex="0" { table {
            tr { th { "share" } @for point in points { th { (share(point.share)) } } }
            tr { td { "value" } @for point in points { td { (number(point.value)) } } }
        } }
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
    Some(format!("data:image/png;base64,{}", BASE64.encode(png.get_ref())))
}
