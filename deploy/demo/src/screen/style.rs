//! Colours and short forms that several parts share. Colour never stands alone: a mark or a word says the same.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};

use crate::report::millis;

/// What is well, what needs an eye, what is wrong, what the cloud did.
pub(super) const GOOD: Color = Color::Green;
pub(super) const AMBER: Color = Color::Yellow;
pub(super) const BAD: Color = Color::Red;
pub(super) const CLOUD: Color = Color::Cyan;

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// Black on a colour, for bars.
pub(super) fn bar(color: Color) -> Style {
    Style::new().fg(Color::Black).bg(color).add_modifier(Modifier::BOLD)
}

/// `.64`, and `1.0` for a whole.
pub(super) fn short(value: f64) -> String {
    if value >= 0.995 { "1.0".to_owned() } else { format!("{value:.2}").trim_start_matches('0').to_owned() }
}

/// Four characters of milliseconds.
pub(super) fn time(latency: Duration) -> String {
    match latency.as_millis() {
        0..99 => format!("{:>4}", millis(Some(latency))),
        whole => format!("{whole:>4}"),
    }
}

/// The first `width` characters, the last of them `…` if there were more.
pub(super) fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        assert_eq!(
            (short(0.64), short(0.996), short(0.0)),
            (".64".to_owned(), "1.0".to_owned(), ".00".to_owned())
        );
        let micros = |micros| time(Duration::from_micros(micros));
        assert_eq!(
            (micros(1_230).as_str(), micros(99_960).as_str(), micros(251_000).as_str()),
            (" 1.2", "  99", " 251")
        );
        assert_eq!(fitted("xsdd/red iron", 13), "xsdd/red iron");
        assert_eq!(fitted("xsdd/red iron", 10), "xsdd/red…");
        assert_eq!(fitted("xsdd/red iron", 9), "xsdd/red…");
    }
}
