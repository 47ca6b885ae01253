//! inotify events, as notices for one folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::FolderConfig;
use super::core::Seen;

/// Events that may wait. When it is full they are dropped and the folder is listed.
const EVENTS: usize = 1024;

/// What an event means to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    File(PathBuf, Seen),
    /// Something may have been missed: list the folder.
    List,
}

/// The receiving side.
#[derive(Debug)]
pub(super) struct Watch {
    keeper: Arc<Mutex<Keeper>>,
    notices: mpsc::Receiver<Notice>,
    has_missed: Arc<AtomicBool>,
}

/// Keeps the folder watched. Its work may block where a share hangs.
#[derive(Debug)]
pub(super) struct Keeper {
    root: PathBuf,
    mode: RecursiveMode,
    /// Which folder is watched: a folder made anew under the same name must be watched anew.
    watched: Option<(u64, u64)>,
    watcher: Option<RecommendedWatcher>,
    sender: mpsc::Sender<Notice>,
    has_missed: Arc<AtomicBool>,
    /// That there are no events was said.
    is_warned: bool,
}

impl Watch {
    pub(super) fn new(config: &FolderConfig) -> Self {
        let (sender, notices) = mpsc::channel(EVENTS);
        let has_missed = Arc::<AtomicBool>::default();
        let keeper = Keeper {
            root: config.path.clone(),
            mode: if config.recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive },
            watched: None,
            watcher: None,
            sender,
            has_missed: Arc::clone(&has_missed),
            is_warned: false,
        };
        Self { keeper: Arc::new(Mutex::new(keeper)), notices, has_missed }
    }

    pub(super) fn keeper(&self) -> Arc<Mutex<Keeper>> {
        Arc::clone(&self.keeper)
    }

    /// The next notice. Cancel-safe.
    pub(super) async fn next(&mut self) -> Notice {
        if self.has_missed.swap(false, Ordering::Relaxed) {
            return Notice::List;
        }
        // The keeper holds a sender, and lives as long as this.
        self.notices.recv().await.unwrap_or(Notice::List)
    }
}

impl Keeper {
    /// Begins to watch if the folder is not watched yet, or is another one than it was.
    pub(super) fn ensure(&mut self) {
        let identity = identity(&self.root);
        if identity == self.watched && (identity.is_none() || self.watcher.is_some()) {
            return;
        }
        self.watched = identity;
        self.watcher = None;
        if identity.is_none() {
            return;
        }
        match self.watch() {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                if !std::mem::replace(&mut self.is_warned, true) {
                    let path = self.root.display();
                    tracing::warn!(%path, %error, "no file events here; the folder is only listed, every `rescan`");
                }
            }
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let sender = self.sender.clone();
        let has_missed = Arc::clone(&self.has_missed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let notices = event.map_or_else(|_| vec![Notice::List], |event| notices(&event));
            for notice in notices {
                if sender.try_send(notice).is_err() {
                    has_missed.store(true, Ordering::Relaxed);
                }
            }
        })?;
        watcher.watch(&self.root, self.mode)?;
        Ok(watcher)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

fn notices(event: &Event) -> Vec<Notice> {
    if event.need_rescan() {
        return vec![Notice::List];
    }
    let all = |seen| event.paths.iter().map(|path| Notice::File(path.clone(), seen)).collect();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => all(Seen::Closed),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => all(Seen::Closed),
        // On Linux it follows the other two of the same move.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) if cfg!(not(target_os = "linux")) => {
            event.paths.get(1).map(|path| Notice::File(path.clone(), Seen::Closed)).into_iter().collect()
        }
        EventKind::Create(CreateKind::Folder) => vec![Notice::List],
        // Whether a writer is at it is not known: a hard link is also made so.
        EventKind::Create(_) => all(Seen::Listed),
        // Only Linux also reports the closing that this waits for.
        EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => all(Seen::Written),
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Any) => {
            all(Seen::Listed)
        }
        _ => Vec::new(),
    }
}
