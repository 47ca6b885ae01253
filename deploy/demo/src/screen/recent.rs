//! The last decisions: what, by whom, and why.

use millgate_shared::decision::{Decision, ExpertShare, Why};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::model::Model;
use super::style::{AMBER, BAD, CLOUD, GOOD, bold, dim, fitted, short, time};
use crate::replay::Measured;

/// From here on a row has room for the rule in full.
const WIDE: u16 = 110;
/// Columns: mark, probability and time have fixed ones.
const MARK: u16 = 1;
const PROBABILITY: u16 = 3;
const TIME: u16 = 4;
/// How every rule ends; the header says it once.
const RULE_END: &str = " at risk ";

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let is_wide = area.width >= WIDE;
    let rule_height = if is_wide { 0 } else { 1 };
    let [table, rule] = Layout::vertical([Constraint::Min(3), Constraint::Length(rule_height)]).areas(area);
    let (label, experts) = if is_wide { (29, 33) } else { (24, 29) };
    let header = Row::new(["", "verdict (label)", "p", "  ms", "experts, weights", "why"]).style(dim());
    let rows = model.recent.iter().take(table.height.into()).map(|measured| match &measured.decision {
        Ok(decision) => row(measured, decision, label, is_wide),
        Err(error) => Row::new([Cell::from("!"), Cell::from(error.clone())]).style(Style::new().fg(BAD)),
    });
    let widths = [
        Constraint::Length(MARK),
        Constraint::Length(label),
        Constraint::Length(PROBABILITY),
        Constraint::Length(TIME),
        Constraint::Length(experts),
        Constraint::Min(10),
    ];
    let block = Block::new()
        .borders(Borders::TOP)
        .title(" last decisions ")
        .title(Line::from(" ✓ right  ✗ wrong  ↑ answered by the cloud ").right_aligned());
    frame.render_widget(Table::new(rows, widths).header(header).block(block), table);

    let newest = model.recent.front().and_then(|measured| measured.decision.as_ref().ok());
    if let Some(decision) = newest.filter(|_| !is_wide) {
        let text = fitted(&format!(" why: {}", decision.why.rule), rule.width.into());
        frame.render_widget(Paragraph::new(text).style(dim()), rule);
    }
}

fn row(measured: &Measured, decision: &Decision, label: u16, is_wide: bool) -> Row<'static> {
    let verdict = &decision.verdict;
    let is_right = verdict.label == measured.truth;
    let (mark, color) = if is_right { ("✓", GOOD) } else { ("✗", BAD) };
    let shown = if is_right { verdict.label.clone() } else { mistaken(&verdict.label, &measured.truth) };
    let rule = &decision.why.rule;
    let rule = rule.split_once(RULE_END).map_or(rule.as_str(), |(rule, _)| rule);
    let why = if is_wide { rule.to_owned() } else { brief(&decision.why) };
    Row::new([
        Cell::from(mark).style(bold().fg(color)),
        Cell::from(fitted(&shown, label.into())).style(if is_right {
            Style::new()
        } else {
            Style::new().fg(BAD)
        }),
        Cell::from(verdict.probability.map_or_else(String::new, short)),
        Cell::from(time(measured.latency)),
        Cell::from(experts(decision)),
        Cell::from(why).style(if decision.degraded.is_some() { Style::new().fg(AMBER) } else { dim() }),
    ])
}

/// `deeppcb/open (spur)`: the label in brackets, without the product where it is the same.
fn mistaken(verdict: &str, truth: &str) -> String {
    let product = |label: &str| label.split_once('/').map(|(product, _)| product.to_owned());
    let same = product(verdict) == product(truth);
    let class = truth.split_once('/').filter(|_| same).map_or(truth, |(_, class)| class);
    format!("{verdict} ({class})")
}

/// `↑pcb-l .64 pcb-s .36`; before them, as `pcb-l offline`, those that were wanted and are missing. Those that the
/// combine dropped are left out.
fn experts(decision: &Decision) -> Line<'static> {
    let mut spans = Vec::new();
    for missing in decision.degraded.iter().flat_map(|degraded| &degraded.missing) {
        let text = format!("{} {} ", missing.name, missing.reason.as_str());
        spans.push(Span::styled(text, Style::new().fg(AMBER)));
    }
    spans.extend(decision.experts.iter().filter(|share| share.weight > 0.0).map(expert));
    Line::from(spans)
}

fn expert(share: &ExpertShare) -> Span<'static> {
    let weight = short(share.weight);
    if share.place == "edge" {
        Span::raw(format!("{} {weight} ", share.name))
    } else {
        Span::styled(format!("↑{} {weight} ", share.name), Style::new().fg(CLOUD))
    }
}

/// The rule in a dozen characters.
fn brief(why: &Why) -> String {
    match (why.local_risk, why.threshold) {
        (Some(risk), Some(threshold)) => {
            let sign = if risk <= threshold { '≤' } else { '>' };
            format!("risk {}{sign}{}", thousandths(risk), thousandths(threshold))
        }
        (Some(_), None) => "no certificate".to_owned(),
        (None, _) => why.rule.clone(),
    }
}

/// `.223`.
fn thousandths(value: f64) -> String {
    format!("{value:.3}").trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_the_label() {
        assert_eq!(mistaken("deeppcb/open", "deeppcb/spur"), "deeppcb/open (spur)");
        assert_eq!(mistaken("deeppcb/open", "xsdd/red iron"), "deeppcb/open (xsdd/red iron)");
    }
}
