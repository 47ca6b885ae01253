//! The lines above and below: what runs, whether there is a cloud, how far it is, what can be pressed.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph};

use super::model::{Cloud, Model, Tone};
use super::style::{AMBER, BAD, GOOD, bar, bold, dim, fitted};
use crate::report::percent;

/// Before it, a line that comes back within a blink would flicker.
const BACK_SHOWN_AFTER: Duration = Duration::from_millis(100);

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Instant) {
    let (color, state) = match model.cloud {
        Cloud::Up => (GOOD, "CLOUD UP".to_owned()),
        Cloud::Lost { since } => {
            let lasted = clock(now.saturating_duration_since(since));
            (AMBER, format!("CLOUD LOST {lasted} – answering alone"))
        }
        Cloud::Back { since } if now.saturating_duration_since(since) < BACK_SHOWN_AFTER => {
            (GOOD, "CABLE BACK".to_owned())
        }
        Cloud::Back { .. } => (AMBER, "CABLE BACK – agent is dialling".to_owned()),
    };
    let risk = percent(Some(model.facts.risk));
    let about = format!(" millgate · {} · risk {risk}", model.facts.bundle);
    let state = format!("{state} ");
    let widths = [Constraint::Min(0), Constraint::Length(state.chars().count() as u16)];
    let [left, right] = Layout::horizontal(widths).areas(area);
    frame.render_widget(Paragraph::new(about).style(bar(color)), left);
    frame.render_widget(Paragraph::new(state).style(bar(color)), right);
}

pub(super) fn draw_progress(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Instant) {
    let (done, planned) = (model.tally.samples, model.facts.planned.max(1));
    let state = match (model.is_over(), model.is_paused) {
        (true, _) => " over",
        (false, true) => " paused",
        (false, false) => "",
    };
    let lost = model.tally.lost();
    let label = Line::from(vec![
        Span::raw(format!(" {done}/{planned}  {}{state}  ", clock(model.elapsed(now)))),
        Span::styled(format!("{lost} lost "), if lost == 0 { bold().fg(GOOD) } else { bold().fg(BAD) }),
    ]);
    let gauge = LineGauge::default()
        .ratio((done as f64 / planned as f64).min(1.0))
        .label(label)
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(Style::new().fg(Color::Blue))
        .unfilled_style(dim());
    frame.render_widget(gauge, area);
}

pub(super) fn draw_notice(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(notice) = &model.notice else { return };
    let color = match notice.tone {
        Tone::Good => AMBER,
        Tone::Bad => BAD,
    };
    let text = fitted(&format!(" {}", notice.text), area.width.into());
    frame.render_widget(Paragraph::new(text).style(Style::new().fg(color)), area);
}

pub(super) fn draw_keys(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let cloud = match model.cloud {
        Cloud::Lost { .. } => "restore the cloud",
        Cloud::Up | Cloud::Back { .. } => "cut the cloud",
    };
    let pause = if model.is_paused { "go on" } else { "pause" };
    let keys: &[(&str, &str)] = if model.is_over() {
        &[("q", "leave; the table follows")]
    } else {
        &[("o", cloud), ("p", "poison: send a broken file"), ("space", pause), ("q", "quit")]
    };
    let mut spans = Vec::new();
    for (key, meaning) in keys {
        spans.push(Span::styled(format!(" {key} "), bar(Color::Gray)));
        spans.push(Span::raw(format!(" {meaning}  ")));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// `00:07`.
fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
