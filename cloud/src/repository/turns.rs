//! One load or unload of a model at a time, and not many in all: loading computes, and holds a thread.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::Failure;

/// Calls that load, unload or wait to.
const MOST: usize = 32;
/// What one that comes too much is told to wait.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    waiting: usize,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    lines: Mutex<HashMap<String, Line>>,
    freed: Condvar,
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    name: String,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until nobody else loads this model.
    pub(super) fn take(&self, name: &str) -> Result<Turn<'_>, Failure> {
        let mut lines = self.lock();
        let all: usize = lines.values().map(|line| line.waiting + usize::from(line.is_taken)).sum();
        if all >= MOST {
            return Err(Failure::Refused { what: "too many models are being loaded", retry_after: RETRY });
        }
        lines.entry(name.to_owned()).or_default().waiting += 1;
        loop {
            match lines.get_mut(name) {
                Some(line) if line.is_taken => {}
                Some(line) => {
                    line.waiting -= 1;
                    line.is_taken = true;
                    break;
                }
                // A line stands as long as someone waits in it.
                None => break,
            }
            lines = self.freed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Turn { turns: self, name: name.to_owned() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lock();
        if let Some(line) = lines.get_mut(&self.name) {
            line.is_taken = false;
            if line.waiting == 0 {
                lines.remove(&self.name);
            }
        }
        drop(lines);
        self.turns.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_model_is_loaded_by_one_at_a_time() {
        let (turns, inside) = (Turns::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _turn = turns.take("a").unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn one_too_many_is_refused_and_others_do_not_wait() {
        let turns = Turns::default();
        let mut held: Vec<Turn<'_>> =
            (0..MOST).map(|model| turns.take(&model.to_string()).unwrap()).collect();
        assert!(matches!(turns.take("more"), Err(Failure::Refused { .. })));
        held.pop();
        turns.take("more").unwrap();
    }
}
