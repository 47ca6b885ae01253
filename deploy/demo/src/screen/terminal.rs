//! The terminal, borrowed: given back when this is dropped, and by any panic before it prints.

use std::io;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::{DefaultTerminal, Frame};

pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// A panic of any thread gives the terminal back: then nothing may be drawn any more.
    panicked: Arc<AtomicBool>,
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        // Hooks a panic too: the terminal first, then what was hooked before.
        let terminal = ratatui::try_init()?;
        let panicked = Arc::new(AtomicBool::new(false));
        let (flag, restore) = (Arc::clone(&panicked), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            flag.store(true, Ordering::Relaxed);
            restore(info);
        }));
        Ok(Self { terminal, panicked })
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell: the terminal is gone.
        let _gone = ratatui::try_restore().is_err();
    }
}
