//! The run, live on a terminal, with keys to cut the cloud.
//!
//! `model` takes events and says what is the case; the other modules draw one part of it each.

use std::io;
use std::time::{Duration, Instant};

use millgate_shared::shutdown;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};

use crate::replay::{Audience, Command};
use crate::report::{End, Ended};
use crate::stage::Facts;
use model::Model;
use terminal::Screen;

mod header;
mod model;
mod panels;
mod recent;
mod style;
mod terminal;
#[cfg(test)]
mod tests;

/// Time between looks at the keyboard, each with a new picture.
const FRAME: Duration = Duration::from_millis(50);
/// Height of the panels in lines, borders included.
const PANELS_HEIGHT: u16 = 8;

/// Shows a run until the audience leaves, or to SIGTERM or SIGINT; the terminal is as it was before when it returns.
pub async fn show(facts: Facts, mut audience: Audience) -> io::Result<Ended> {
    let mut screen = Screen::enter()?;
    let mut model = Model::new(facts, Instant::now());
    let mut frames = tokio::time::interval(FRAME);
    let mut is_open = true;
    let mut signal = std::pin::pin!(shutdown::signal_or_hang_up());
    let end = loop {
        tokio::select! {
            signal = &mut signal => {
                signal?;
                break End::BrokenOff;
            }
            event = audience.events.recv(), if is_open => match event {
                Some(event) => model.take(event),
                None => {
                    is_open = false;
                    model.close(Instant::now());
                }
            },
            _ = frames.tick() => {
                if screen.has_panicked() {
                    break End::BrokenOff;
                }
                if is_quit_pressed(&audience)? {
                    break model.end();
                }
                let now = Instant::now();
                screen.draw(|frame| draw(frame, &model, now))?;
            }
        }
    };
    drop(screen);
    Ok(model.into_ended(end, Instant::now()))
}

fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant) {
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(PANELS_HEIGHT),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(1),
    ];
    let [head, progress, panels, recent, notice, keys] = Layout::vertical(rows).areas(frame.area());
    header::draw(frame, head, model, now);
    header::draw_progress(frame, progress, model, now);
    panels::draw(frame, panels, model, now);
    recent::draw(frame, recent, model);
    header::draw_notice(frame, notice, model);
    header::draw_keys(frame, keys, model);
}

/// Passes on what was pressed since the last look.
fn is_quit_pressed(audience: &Audience) -> io::Result<bool> {
    while event::poll(Duration::ZERO)? {
        let Input::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        match action(key) {
            Some(Action::Quit) => return Ok(true),
            // The run may be over, or busy with the keys pressed before: then this one is void.
            Some(Action::Tell(command)) => drop(audience.commands.try_send(command)),
            None => {}
        }
    }
    Ok(false)
}

enum Action {
    Quit,
    Tell(Command),
}

fn action(key: KeyEvent) -> Option<Action> {
    match key.code {
        // A raw terminal sends it as a key.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('o') => Some(Action::Tell(Command::ToggleCloud)),
        KeyCode::Char('p') => Some(Action::Tell(Command::Poison)),
        KeyCode::Char(' ') => Some(Action::Tell(Command::TogglePause)),
        _ => None,
    }
}
