//! How far a long command is: a bar on standard error where that is a terminal, and nothing elsewhere.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millgate_authoring::progress::Progress;

/// Bars, one stage after the other.
#[derive(Debug)]
pub(super) struct Bars {
    bar: Mutex<ProgressBar>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self { bar: Mutex::new(ProgressBar::hidden()) }
    }

    fn current(&self) -> ProgressBar {
        // A bar that another thread left in the middle of a change is still a bar.
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bars {
    fn stage(&self, name: &str, steps: usize) {
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:44} {bar:24} {pos}/{len} {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        self.current().finish_and_clear();
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = bar;
    }

    fn advance(&self, steps: usize) {
        self.current().inc(steps as u64);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.current().finish_and_clear();
    }
}
