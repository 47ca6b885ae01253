//! Where commands speak to a running pool: a socket in the state directory's folder of bundles, which only the pool's user
//! may enter. One line of JSON is asked, one is answered.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::bundle::store::DIR_NAME;
use millgate_shared::files;
use millgate_shared::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::report::{Report, State};
use super::{SwitchError, Switcher};

const FILE_NAME: &str = "control.sock";
/// Bytes of a question, and of an answer.
const LONGEST: u64 = 64 << 10;
/// What a question gets to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands at a time.
const AT_ONCE: usize = 8;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// The path is an absolute one.
    Switch(PathBuf),
    Rollback,
    Status,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done(Report),
    Status(State),
    Refused { message: String, is_bad_input: bool },
}

impl Answer {
    pub(crate) fn of(done: Result<Report, SwitchError>) -> Self {
        match done {
            Ok(report) => Self::Done(report),
            Err(error) => Self::Refused { message: error.to_string(), is_bad_input: error.is_bad_input() },
        }
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(DIR_NAME).join(FILE_NAME)
}

/// Listens for commands until `tasks` are told to stop. Only for whoever has the store: the socket of a pool that was
/// killed is taken over.
pub(crate) fn listen(state_dir: &Path, switcher: Arc<Switcher>, tasks: &Tasks) -> io::Result<()> {
    let path = path(state_dir);
    if let Some(folder) = path.parent() {
        files::make_private_folder(folder)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let (places, stop) = (Arc::new(Semaphore::new(AT_ONCE)), tasks.token().clone());
    let talks = tasks.clone();
    tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // One too many finds its connection closed.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let switcher = Arc::clone(&switcher);
            talks.spawn(async move {
                if let Err(error) = answer(stream, switcher).await {
                    tracing::debug!(%error, "a command got no answer");
                }
                drop(place);
            });
        }
        std::fs::remove_file(&path).ok();
    });
    Ok(())
}

async fn answer(mut stream: UnixStream, switcher: Arc<Switcher>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LONGEST));
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await.map_err(io::Error::other)??;
    let ask: Ask = serde_json::from_str(&line).map_err(io::Error::other)?;
    let work = move || match ask {
        Ask::Switch(path) => Answer::of(switcher.switch(&path)),
        Ask::Rollback => Answer::of(switcher.roll_back()),
        Ask::Status => Answer::Status(switcher.state()),
    };
    // It goes on even if whoever asked is gone.
    let answer = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
    let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

/// Asks the pool that runs with a state directory. Blocks until it has answered.
pub(crate) fn ask(state_dir: &Path, ask: &Ask) -> io::Result<Answer> {
    let mut stream = Blocking::connect(path(state_dir))?;
    let mut text = serde_json::to_vec(ask).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).map_err(io::Error::other)
}
