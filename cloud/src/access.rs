//! Who may call what. Each connection has a `Peer`; the layer here makes a `Caller` of it and of the request's
//! headers, and turns away at once whoever is nobody. Each service asks the caller about what it is to do, for each
//! message of a stream again: who is revoked meanwhile gets no further answer.
//!
//! * [`rights`]: what a caller may ask for. `book`: who has which. Both are pure. [`tokens`]: the API tokens on disk.
//! * `clones`: devices that are at two places at once. Pure.
//! * `layer`: before the services. Here: the book as it is now, and counting.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::files::{Followed, Look};
use millgate_shared::identity::DeviceName;
use millgate_shared::identity::secret::{API_PREFIX, Secret};
use millgate_shared::quiet::Quiet;
use tokio::sync::watch;

use crate::door::peer::{Line, Peer};
use crate::failure::Failure;
use crate::identity::clones::{self as clone_table, Noticed};
use crate::identity::{StateDir, StateError, devices};
use crate::principal::{Principal, Standing};
use book::{Book, Denial, Who};
use clones::{Clones, Heard};
use config::{AccessConfig, ClonePolicy, Loopback, TenantConfig};
use counts::Counts;
use rights::{Kind, Refusal, Rights};

mod book;
mod clones;
pub(crate) mod config;
pub(crate) mod counts;
pub(crate) mod layer;
pub mod rights;
pub mod tokens;

/// Refusals for one reason are logged at most once in this time, with the number of those in between.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// The book, and whoever asks it.
#[derive(Debug)]
pub(crate) struct Access {
    state: StateDir,
    config: (AccessConfig, Vec<TenantConfig>),
    /// Who was heard where.
    clones: Mutex<Clones<DeviceName>>,
    /// Clones that are not in the table yet.
    noticed: Mutex<Vec<Noticed>>,
    book: RwLock<Arc<Book>>,
    /// Told of each new book.
    changes: watch::Sender<()>,
    tables: Followed,
    /// When the last look for a token that was made a moment ago began that came to its end.
    looked: tokio::sync::Mutex<Instant>,
    counts: Counts,
    logged: Mutex<Quiet>,
}

impl Access {
    /// Blocks.
    pub(crate) fn open(
        state_dir: &Path,
        config: AccessConfig,
        tenants: Vec<TenantConfig>,
    ) -> Result<Self, StateError> {
        let state = StateDir::new(state_dir);
        let tables = Followed::new([devices::TABLE, tokens::TABLE].map(|table| state.file(table)));
        let access = Self {
            state,
            config: (config, tenants),
            clones: Mutex::default(),
            noticed: Mutex::default(),
            book: RwLock::default(),
            changes: watch::channel(()).0,
            tables,
            looked: tokio::sync::Mutex::new(Instant::now()),
            counts: Counts::default(),
            logged: Mutex::new(Quiet::new(LOG_PAUSE)),
        };
        access.load()?;
        Ok(access)
    }

    /// Reads the tables again if they have changed, or if that `is_asked` for. Blocks.
    pub(crate) fn reload(&self, is_asked: bool) {
        match self.tables.look(is_asked, || self.load()) {
            Look::Same | Look::FailedAgain => {}
            Look::Read => tracing::debug!("devices and tokens were read again"),
            Look::Failed(error) => {
                tracing::error!(%error, "devices or tokens cannot be read; what was known stays");
            }
        }
    }

    /// Reads devices and tokens again, off the async threads, for a caller whose token is not known. However many such
    /// callers there are, one look at a time is taken, and it serves all who came before it began.
    pub(crate) async fn look_for_new_tokens(self: &Arc<Self>) {
        let came = Instant::now();
        let mut looked = self.looked.lock().await;
        if *looked >= came {
            return;
        }
        let began = Instant::now();
        let access = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || access.reload(false)).await {
            tracing::error!(%error, "a look at the tokens has failed");
        }
        // Only now: a caller that goes meanwhile leaves its look undone for the others.
        *looked = began;
    }

    /// A device speaks over a connection.
    fn hear(&self, device: &DeviceName, connection: SocketAddr, now: Instant) -> Heard {
        let mut clones = self.clones.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = clones.hear(device, connection, now);
        if let Heard::Cloned { other, is_news: true, .. } = heard {
            self.counts.cloned(clones.cloned(now));
            drop(clones);
            let addresses = [connection.ip(), other];
            tracing::warn!(
                %device, here = %addresses[0], there = %addresses[1],
                "a device calls from two networks by turns: somebody else has its key, unless its own address changes all the time"
            );
            let noticed = Noticed::new(device, Timestamp::now(), addresses);
            self.noticed.lock().unwrap_or_else(PoisonError::into_inner).push(noticed);
        }
        heard
    }

    /// Writes down which clones were noticed, and forgets whoever has long been silent. Blocks.
    pub(crate) fn tend(&self) {
        {
            let mut clones = self.clones.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            clones.forget(now);
            self.counts.cloned(clones.cloned(now));
        }
        let noticed = std::mem::take(&mut *self.noticed.lock().unwrap_or_else(PoisonError::into_inner));
        if !noticed.is_empty()
            && let Err(error) = clone_table::note(&self.state, noticed)
        {
            tracing::error!(%error, "cloned devices cannot be written down");
        }
    }

    fn load(&self) -> Result<(), StateError> {
        let (AccessConfig { loopback, .. }, tenants) = self.config.clone();
        let tokens = self.state.rows(tokens::TABLE)?;
        let book = Book::new(loopback, tenants, devices::list(&self.state)?, tokens);
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        self.changes.send_replace(());
        Ok(())
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Without a peer nobody calls.
    pub(crate) fn caller(self: &Arc<Self>, peer: Option<&Peer>, headers: &HeaderMap) -> Caller {
        let who = who(self.config.0.loopback, peer, headers);
        Caller { access: Arc::clone(self), who, peer: peer.cloned() }
    }

    /// What anyone can make happen has happened; if it is to be logged, how often it has happened unsaid.
    pub(crate) fn noted(&self, reason: &'static str) -> Option<u64> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).note(reason, Instant::now())
    }

    fn denied(&self, denial: Denial, addr: Option<SocketAddr>) -> Failure {
        let reason = denial.reason();
        self.counts.refused(reason);
        if let Some(others) = self.noted(reason) {
            let addr = addr.map(tracing::field::display);
            tracing::warn!(addr, reason, others, "a call was refused: {denial}");
        }
        failure(&denial)
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

fn failure(denial: &Denial) -> Failure {
    match denial.is_unauthenticated() {
        true => Failure::Unauthenticated(denial.to_string()),
        false => Failure::Denied(denial.to_string()),
    }
}

fn who(loopback: Loopback, peer: Option<&Peer>, headers: &HeaderMap) -> Who {
    let is_trusted = peer.is_some_and(|peer| peer.line == Line::Plain) && loopback == Loopback::Full;
    let is_here = peer.is_some_and(|peer| peer.addr.ip().to_canonical().is_loopback());
    match bearer(headers) {
        Some(Ok(secret)) => Who::Token(secret.hash()),
        // What another service's proxy may leave there.
        Some(Err(is_ours)) if is_ours || !is_trusted => Who::Malformed,
        _ if is_trusted && is_here => Who::Local,
        _ if is_trusted => Who::Plain,
        _ => match peer.and_then(|peer| peer.certificate.clone()) {
            Some(certificate) => Who::Device(certificate),
            None => Who::Nobody,
        },
    }
}

/// The API token in `authorization`; an error where something else stands there, which may look like one of ours.
fn bearer(headers: &HeaderMap) -> Option<Result<Secret, bool>> {
    let value = headers.get(http::header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.unwrap_or_default();
    Some(Secret::from_api_token(token).ok_or_else(|| token.starts_with(API_PREFIX)))
}

/// Whoever makes a call; in the extensions of each request, next to the [`Principal`] that it is for.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    access: Arc<Access>,
    who: Who,
    peer: Option<Peer>,
}

impl Caller {
    /// What it may ask for, as things are now.
    pub(crate) fn rights(&self) -> Result<Arc<Rights>, Failure> {
        let rights = self.granted().map_err(|denial| self.denied(denial))?;
        match self.is_where_it_was(Instant::now()) {
            true => Ok(rights),
            false => Err(self.denied(Denial::Cloned(self.device().cloned().ok_or(Failure::Stopped)?))),
        }
    }

    fn device(&self) -> Option<&DeviceName> {
        match &self.who {
            Who::Device(certificate) => certificate.device.as_ref(),
            _ => None,
        }
    }

    /// `false` for a device that is somewhere else too, and that was there first, where that is refused.
    fn is_where_it_was(&self, now: Instant) -> bool {
        let (Some(device), Some(peer)) = (self.device(), &self.peer) else { return true };
        match self.access.hear(device, peer.addr, now) {
            Heard::Alone => true,
            Heard::Cloned { is_newer, .. } => !is_newer || self.access.config.0.clones == ClonePolicy::Warn,
        }
    }

    /// What share of the compute its calls have, as things are now, and whose calls they are.
    pub(crate) fn standing(&self) -> Result<Arc<Standing>, Failure> {
        Ok(self.standing_by(self.rights()?.as_ref()))
    }

    fn standing_by(&self, rights: &Rights) -> Arc<Standing> {
        let standing = rights.standing().cloned();
        standing.unwrap_or_else(|| Arc::new(Standing::usual(self.stranger())))
    }

    /// Whom its call is for, with these rights; without any it is known by its address.
    fn principal(&self, rights: Option<&Rights>) -> Principal {
        let standing = rights.and_then(Rights::standing);
        standing.map_or_else(|| self.stranger(), |standing| standing.principal.clone())
    }

    fn stranger(&self) -> Principal {
        let address = self.peer.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.addr.ip());
        Principal::at(address)
    }

    /// Who is at the other end of its connection.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// What this caller can make happen has happened; if it is to be logged, how often it has happened unsaid.
    pub(crate) fn noted(&self, reason: &'static str) -> Option<u64> {
        self.access.noted(reason)
    }

    fn denied(&self, denial: Denial) -> Failure {
        self.access.denied(denial, self.peer.as_ref().map(|peer| peer.addr))
    }

    /// A call of its is let in.
    fn is_served(&self) {
        if let Some(peer) = &self.peer {
            peer.is_served();
        }
    }

    /// Returns once a device may ask for nothing any more: it has been revoked. For its stream, on which it may be silent for
    /// long; others learn it from the next call.
    pub(crate) async fn shut_out(self) -> Failure {
        if !matches!(self.who, Who::Device(_)) {
            return std::future::pending().await;
        }
        let mut changes = self.access.changes.subscribe();
        loop {
            if let Err(denial) = self.granted() {
                return self.denied(denial);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// What it may ask for, if anything at all; counts nothing.
    fn granted(&self) -> Result<Arc<Rights>, Denial> {
        self.access.book().rights(&self.who, Timestamp::now())
    }

    fn check(&self, check: impl FnOnce(&Rights) -> Result<(), Refusal>) -> Result<(), Failure> {
        let granted = check(self.rights()?.as_ref());
        granted.map_err(|refusal| self.denied(Denial::Refused(refusal)))
    }

    pub(crate) fn may_ask(&self, task: &str) -> Result<(), Failure> {
        self.check(|rights| rights.may_ask(task))
    }

    /// A model of any kind, by the name under which it is served.
    pub(crate) fn may_run(&self, manifest: Option<&Manifest>, model: &str) -> Result<(), Failure> {
        self.check(|rights| may_run(rights, manifest, model))
    }

    pub(crate) fn may_change_the_pool(&self) -> Result<(), Failure> {
        self.check(Rights::may_change_the_pool)
    }
}

/// Checks [`Rights::may_run`] for a model by name; `manifest` is that of the bundle which the pool hosts.
pub(crate) fn may_run(rights: &Rights, manifest: Option<&Manifest>, model: &str) -> Result<(), Refusal> {
    let expert = manifest.and_then(|manifest| Some(&manifest.experts[manifest.expert_index(model)?].tasks));
    let kind = match expert {
        Some(tasks) => Kind::Expert(tasks),
        None if manifest.is_some_and(|manifest| manifest.task(model).is_some()) => Kind::Task,
        None => Kind::Other,
    };
    rights.may_run(model, kind)
}

/// The caller of a request; a request that did not come through the layer has none, and gets nothing.
pub(crate) fn caller(extensions: &http::Extensions) -> Result<Caller, Failure> {
    extensions.get::<Caller>().cloned().ok_or_else(|| failure(&Denial::Nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_trusted_as_far_as_it_comes_from_here() {
        let who = |loopback, addr: &str, bearer: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(bearer) = bearer {
                headers.insert(http::header::AUTHORIZATION, bearer.parse().unwrap());
            }
            who(loopback, Some(&Peer::plain(addr.parse().unwrap())), &headers)
        };
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(who(Loopback::Full, here, None), Who::Local), "{here}");
            assert!(matches!(who(Loopback::Full, here, Some("Basic eA==")), Who::Local), "{here}");
            assert!(matches!(who(Loopback::Token, here, None), Who::Nobody), "{here}");
        }
        for there in ["10.0.0.7:1", "[fd00::1]:1", "[::ffff:10.0.0.7]:1", "0.0.0.0:1"] {
            assert!(matches!(who(Loopback::Full, there, None), Who::Plain), "{there}");
            assert!(matches!(who(Loopback::Token, there, None), Who::Nobody), "{there}");
        }
        assert!(matches!(who(Loopback::Full, "10.0.0.7:1", Some("Bearer mgt_no")), Who::Malformed));
        assert!(matches!(super::who(Loopback::Full, None, &HeaderMap::new()), Who::Nobody));
    }
}
