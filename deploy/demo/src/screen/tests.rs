use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::replay::Event;

fn model(now: Instant) -> Model {
    let facts = Facts {
        bundle: "factory 1.1.0".to_owned(),
        risk: 0.02,
        deadline_ms: 250,
        planned: 300,
        started_in: Duration::ZERO,
    };
    Model::new(facts, now)
}

fn picture(model: &Model, now: Instant, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, now)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn an_outage_shows_for_how_long() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut model = model(start);
    assert!(picture(&model, start, 80, 24).contains("CLOUD UP"));
    model.take(Event::Cut { at: at(1) });
    assert!(picture(&model, at(8), 80, 24).contains("CLOUD LOST 00:07 – answering alone"));
    model.take(Event::Restored { at: at(9) });
    assert!(picture(&model, at(10), 80, 24).contains("agent is dialling"));
    model.take(Event::Recovered { after: Duration::from_millis(420) });
    let picture = picture(&model, at(10), 80, 24);
    assert!(
        picture.contains("CLOUD UP") && picture.contains("420.0 ms after the cable was back"),
        "{picture}"
    );
}

#[test]
fn a_broken_file_is_answered_on_the_screen() {
    let now = Instant::now();
    let mut model = model(now);
    model.take(Event::Poisoned { path: "poison/empty.png", answer: Err("is empty".to_owned()) });
    assert!(picture(&model, now, 80, 24).contains("refused poison/empty.png: is empty"));
}

#[test]
fn no_terminal_is_too_small() {
    let now = Instant::now();
    for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 100)] {
        picture(&model(now), now, width, height);
    }
}

#[test]
fn a_run_that_ends_without_its_last_sample_was_broken_off() {
    let now = Instant::now();
    let mut model = model(now);
    assert_eq!(model.end(), End::Quit);
    model.close(now);
    assert_eq!(model.end(), End::BrokenOff);
    model.take(Event::Finished { wire_bytes: 0 });
    assert_eq!(model.end(), End::Complete);
}
