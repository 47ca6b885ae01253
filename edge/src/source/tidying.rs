//! Samples that every sink has are tidied by their sources; what the machine does not let be tidied is tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use millgate_shared::trouble::Trouble;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{SourceConfig, Tidied, Tidies};
use crate::backoff::Backoff;
use crate::input::Naming;
use crate::journal::Remembered;

/// Samples that wait to be tidied, at most; more stay where they are.
const MOST_WAITING: usize = 4096;
/// Pauses between tries at one sample.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How long nothing more is said of trouble.
const PERIOD: Duration = Duration::from_secs(600);

/// What each source does with samples that every sink has, by its name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tidy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sources: HashMap<String, Arc<dyn Tidies>>,
    waiting: Arc<Semaphore>,
    again: Backoff,
    /// When trouble was last said.
    said: Mutex<Option<Instant>>,
    tasks: Tasks,
}

impl Default for Inner {
    fn default() -> Self {
        let (sources, waiting) = (HashMap::new(), Arc::new(Semaphore::new(MOST_WAITING)));
        Self { sources, waiting, again: AGAIN, said: Mutex::default(), tasks: Tasks::new() }
    }
}

impl Tidy {
    /// What is tried again is so until `tasks` stop.
    pub(crate) fn new(sources: &[SourceConfig], naming: &Naming, tasks: &Tasks) -> Self {
        let tidies = |source: &SourceConfig| {
            let settings = source.settings();
            Some((settings.name().to_owned(), Arc::from(settings.tidies(naming)?)))
        };
        let sources = sources.iter().filter_map(tidies).collect();
        Self(Arc::new(Inner { sources, tasks: tasks.clone(), ..Inner::default() }))
    }

    /// Tidies on a thread that may block; `id` is the decision's. What cannot be tidied now is kept, and tried again.
    pub(crate) async fn tidy(&self, of: &Remembered, id: &str) -> Tidied {
        match self.once(of, id).await {
            Tidied::Later(trouble) => {
                self.say(trouble, of);
                self.try_again(of.clone(), id.to_owned());
                Tidied::Kept
            }
            tidied => tidied,
        }
    }

    async fn once(&self, of: &Remembered, id: &str) -> Tidied {
        let Some(tidies) = self.0.sources.get(&*of.source).cloned() else { return Tidied::Kept };
        let (of, id) = (of.clone(), id.to_owned());
        let work = tokio::task::spawn_blocking(move || tidies.tidy(&of.key, &of.mark, &id));
        // One that panicked may have left it.
        work.await.unwrap_or(Tidied::Kept)
    }

    fn try_again(&self, of: Remembered, id: String) {
        let Ok(permit) = Arc::clone(&self.0.waiting).try_acquire_owned() else { return };
        let (this, token) = (self.clone(), self.0.tasks.token().clone());
        self.0.tasks.spawn(async move {
            let trying = async {
                let mut pause = Duration::ZERO;
                loop {
                    pause = this.0.again.after(pause);
                    tokio::time::sleep(pause).await;
                    match this.once(&of, &id).await {
                        Tidied::Later(trouble) => this.say(trouble, &of),
                        Tidied::Kept | Tidied::Removed | Tidied::Changed => return,
                    }
                }
            };
            let _stopped = token.run_until_cancelled(trying).await;
            drop(permit);
        });
    }

    fn say(&self, trouble: Trouble, of: &Remembered) {
        let now = Instant::now();
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.duration_since(said) >= PERIOD) {
            *said = Some(now);
            tracing::warn!(
                source = %of.source, key = %of.key, trouble = trouble.name(), advice = trouble.advice(),
                "decided, but cannot be moved or deleted; it stays, and is tried again and again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::journal::{Key, Mark};

    /// A source whose machine is in trouble for some tries.
    #[derive(Debug)]
    struct Troubled {
        tries: Arc<AtomicU32>,
        until: u32,
    }

    impl Tidies for Troubled {
        fn tidy(&self, _key: &Key, _mark: &Mark, _id: &str) -> Tidied {
            match self.tries.fetch_add(1, Ordering::Relaxed) {
                tried if tried < self.until => Tidied::Later(Trouble::Rights),
                _ => Tidied::Removed,
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_tidied_is_tried_again_until_it_can() {
        let (tries, tasks) = (Arc::<AtomicU32>::default(), Tasks::new());
        let troubled: Arc<dyn Tidies> = Arc::new(Troubled { tries: Arc::clone(&tries), until: 5 });
        let sources = HashMap::from([("cam".to_owned(), troubled)]);
        let again = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
        let tidy = Tidy(Arc::new(Inner { sources, again, tasks: tasks.clone(), ..Inner::default() }));
        let of = Remembered { source: "cam".into(), key: Key::new("a.png"), mark: Mark::default() };
        assert_eq!(tidy.tidy(&of, "id").await, Tidied::Kept);
        let whole = Arc::clone(&tidy.0.waiting).acquire_many_owned(MOST_WAITING as u32).await.unwrap();
        assert_eq!(tries.load(Ordering::Relaxed), 6);
        // There is no room for more: that one stays as it is.
        tries.store(0, Ordering::Relaxed);
        assert_eq!(tidy.tidy(&of, "id").await, Tidied::Kept);
        drop(whole);
        assert_eq!(tasks.drain(Duration::from_secs(1)).await, 0);
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }
}
