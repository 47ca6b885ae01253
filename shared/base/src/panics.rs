//! Panics of code that is not ours, caught where it is called: an error for whoever asked, a line for the log.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and gives its result. A panic becomes an error with the panic's message; what `work` has changed by
/// then must not be used again.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(before);
    done.map_err(|payload| message(payload.as_ref()).to_owned())
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it says no more")
}

/// Installs a panic hook for the process. From then on a panic inside [`caught`] is a line at level debug without
/// backtrace, since a client can cause as many as it likes; all other panics are reported as before.
pub fn report_briefly() {
    report_others(take_hook());
}

/// Installs a panic hook as [`report_briefly`] does, but hands the text of all other panics to `tell`: standard error
/// may be a pipe that nobody reads.
pub fn report_by(tell: impl Fn(&str) + Send + Sync + 'static) {
    report_others(move |panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("<unnamed>");
        // Taken only if the environment asks for one.
        let trace = Backtrace::capture();
        let trace = match trace.status() {
            BacktraceStatus::Captured => format!("\n{trace}"),
            _ => String::new(),
        };
        let message = message(panic.payload());
        tell(&format!("thread '{thread}' panicked at {place}:\n{message}{trace}"));
    });
}

fn report_others(report: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    set_hook(Box::new(move |panic| {
        if IS_CAUGHT.get() {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::debug!(place, message = message(panic.payload()), "a panic was caught");
        } else {
            report(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_what_it_said() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("index {} of {}", 9, 3)), Err::<(), _>("index 9 of 3".to_owned()));
        assert_eq!(caught(|| std::panic::panic_any(1_u8)), Err::<(), _>("it says no more".to_owned()));
        assert!(!IS_CAUGHT.get());
    }
}
