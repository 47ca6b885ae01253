//! Who decides, how fast, how well, and what it costs to send.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline, SparklineBar};

use super::model::Model;
use super::style::{AMBER, CLOUD, GOOD, bold, dim, time};
use crate::report::{bytes, millis, percent, ratio};
use crate::tally::{Phase, Score};

/// A panel of this width has room for words in full.
const WIDE: u16 = 50;
/// The sparkline's scale is logarithmic, else one deadline would flatten all the rest: from this time ...
const SPARK_FLOOR: Duration = Duration::from_micros(500);
/// ... up, with so many steps for a factor of two.
const SPARK_STEPS: f64 = 8.0;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Instant) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    draw_work(frame, left, model);
    draw_quality(frame, right, model, now);
}

fn draw_work(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = Block::bordered().title(" who decides, how fast ");
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)];
    let [gauge, sent, times, spark] = Layout::vertical(rows).areas(inside);
    let tally = &model.tally;

    let local = 1.0 - tally.cloud_share().unwrap_or(0.0);
    let label = format!("local {} · cloud {}", percent(Some(local)), percent(Some(1.0 - local)));
    let share =
        Gauge::default().ratio(local).label(label).gauge_style(Style::new().fg(GOOD).bg(CLOUD)).bold();
    frame.render_widget(share, gauge);

    let uplink = Line::from(vec![
        Span::raw("uplink "),
        Span::styled(bytes(tally.uplink_bytes), bold()),
        Span::raw(format!(" (all-cloud {})", bytes(tally.all_cloud_bytes))),
    ]);
    frame.render_widget(Paragraph::new(uplink), sent);

    let quantiles = Line::from(vec![
        Span::raw("p50 "),
        Span::styled(millis(tally.quantile(0.5)), bold()),
        Span::raw(" ms  p99 "),
        Span::styled(millis(tally.quantile(0.99)), bold()),
        Span::raw(" ms"),
        Span::styled(format!("  limit {} ms", model.facts.deadline_ms), dim()),
    ]);
    frame.render_widget(Paragraph::new(quantiles), times);
    frame.render_widget(
        Sparkline::default().data(bars(model, spark.width.into())).max(bar(deadline(model))),
        spark,
    );
}

/// The newest on the right; those of an outage amber.
fn bars(model: &Model, width: usize) -> Vec<SparklineBar> {
    let shown = model.recent.iter().take(width).rev();
    let bars = shown.map(|measured| {
        let color = if measured.in_outage { AMBER } else { GOOD };
        SparklineBar::from(bar(measured.latency)).style(Style::new().fg(color))
    });
    bars.collect()
}

fn bar(latency: Duration) -> u64 {
    let ratio = latency.as_secs_f64() / SPARK_FLOOR.as_secs_f64();
    (ratio.max(1.0).log2() * SPARK_STEPS) as u64
}

fn deadline(model: &Model) -> Duration {
    Duration::from_millis(model.facts.deadline_ms).max(2 * SPARK_FLOOR)
}

fn draw_quality(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Instant) {
    let tally = &model.tally;
    let block = Block::bordered().title(" accuracy against the labels ");
    let lasted = tally.outage_lasted(now).as_secs_f64();
    let is_wide = area.width >= WIDE;
    let lines = vec![
        score("edge only", &tally.edge_only, Style::new()),
        score("mixture", &tally.mixture, bold().fg(GOOD)),
        score("cloud only", &tally.cloud_only, Style::new().fg(CLOUD)),
        Line::raw(""),
        phase("cloud up".to_owned(), &tally.up, is_wide),
        phase(format!("cut {lasted:.0} s"), &tally.outage, is_wide).fg(AMBER),
    ];
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn score(name: &str, score: &Score, style: Style) -> Line<'static> {
    let wrong = score.answered - score.right;
    let accuracy = ratio(score.accuracy());
    Line::from(vec![
        Span::styled(format!("{name:<11}{accuracy:>5}"), style),
        Span::styled(format!("  {wrong} wrong of {}", score.answered), dim()),
    ])
}

/// The mixture's accuracy and times with the cloud, or without.
fn phase(name: String, phase: &Phase, is_wide: bool) -> Line<'static> {
    let p99 = phase.quantile(0.99).map_or_else(|| "   -".to_owned(), time);
    let accuracy = ratio(phase.mixture.accuracy());
    let provisional = if is_wide { "provisional" } else { "prov." };
    Line::raw(format!("{name:<11}{accuracy:>5}  p99 {p99} ms  {} {provisional}", phase.provisional))
}
