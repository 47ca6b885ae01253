//! Carries out single faults at a site, and notes what may be excused by them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher};
use rustix::process::{Signal, kill_process};

use super::books;
use super::feed::{BELOW, Feed};
use super::folders::Away;
use super::machine::{Silent, Starved};
use super::plan::{Absence, Disk, Fault, Manners, Whom};
use super::site::Site;
use super::tenant::Flood;
use crate::line::Weather;

/// After what could not be read can be read again, the agent has found it: two rescans of the configuration, a second each,
/// and what it waits before it tries a file anew.
const LOOKS_AGAIN: Duration = Duration::from_secs(5);
/// Off the end of a torn file, bytes.
const MOST_TORN: u64 = 300;

/// Carries out single faults.
pub(super) struct Director {
    chance: fastrand::Rng,
    /// For each damage, the samples that may have been in the spool then.
    pub(super) damaged: Vec<BTreeSet<String>>,
    /// Waits for a write, to kill then.
    trap: Option<notify::RecommendedWatcher>,
    /// The machine's worst.
    pub(super) stall: Duration,
    starved: Vec<(Whom, Starved)>,
    silent: Option<Silent>,
    flood: Option<Flood>,
    away: Option<Away>,
    /// What keeps samples from being read now: since when, and the samples that were decided before.
    windows: BTreeMap<&'static str, Window>,
    /// How long each sample could not be read.
    pub(super) delayed: BTreeMap<String, Duration>,
    pub(super) journals: usize,
    pub(super) silences: usize,
    pub(super) flooded: usize,
}

/// A time in which samples could not be read.
struct Window {
    since: Instant,
    decided: BTreeSet<String>,
}

impl Director {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            damaged: Vec::new(),
            trap: None,
            stall: Duration::ZERO,
            starved: Vec::new(),
            silent: None,
            flood: None,
            away: None,
            windows: BTreeMap::new(),
            delayed: BTreeMap::new(),
            journals: 0,
            silences: 0,
            flooded: 0,
        }
    }

    pub(super) fn take(&mut self, site: &mut Site, fault: Fault, feed: &Feed) -> io::Result<()> {
        match fault {
            Fault::Weather(weather) => site.ground.set(weather),
            Fault::Cut => site.ground.cut(true),
            Fault::Whole => site.ground.cut(false),
            Fault::BlockUdp(is_blocked) => site.ground.block_udp(is_blocked),
            Fault::DropAddress => site.ground.drop_address().map_err(io::Error::other)?,
            Fault::TakeAddress => site.ground.take_address().map_err(io::Error::other)?,
            Fault::Rebind(what) => site.ground.rebind(what),
            Fault::PoolKill => site.pool.kill()?,
            Fault::PoolDrain => site.pool.stop()?,
            Fault::PoolStart => site.pool.start()?,
            Fault::AgentKill => site.agent.kill()?,
            Fault::AgentStop => site.agent.stop()?,
            Fault::AgentStart => {
                if self.trap.take().is_some() {
                    site.agent.kill()?;
                }
                site.agent.start()?;
            }
            Fault::AgentKillAtWrite(writes) => self.set_trap(site, writes)?,
            Fault::Flip => self.damage(site, true, &feed.written())?,
            Fault::Tear => self.damage(site, false, &feed.written())?,
            Fault::Fill(disk) => site.fill(disk)?,
            Fault::Empty(disk) => site.empty(disk)?,
            Fault::Receiver(manners) => site.receiver.behave(manners),
            Fault::HideFiles(true) if site.can_hide => {
                self.begin(site, "files");
                feed.hold().hides = true;
            }
            Fault::HideFiles(_) => {
                feed.hold().show()?;
                self.end("files", feed);
            }
            Fault::HideFolder(is_hidden) if site.can_hide => self.hide_folder(site, is_hidden, feed)?,
            Fault::HideFolder(_) => {}
            Fault::Away(how, true) => self.take_away(site, how, feed)?,
            Fault::Away(_, false) => self.bring_back(site, feed)?,
            Fault::Starve(whom, true) => {
                let process = if whom == Whom::Agent { &site.agent } else { &site.pool };
                let starved = process.pid().map(Starved::of).transpose()?.flatten();
                if whom == Whom::Agent {
                    self.begin(site, "descriptors");
                }
                self.starved.extend(starved.map(|starved| (whom, starved)));
            }
            Fault::Starve(whom, false) => {
                self.starved.retain(|(other, _)| *other != whom);
                if whom == Whom::Agent {
                    self.end("descriptors", feed);
                }
            }
            Fault::Journal(book, how) => {
                let path = site.path("state").join(books::name(book));
                self.journals += usize::from(books::damage(&path, how, &mut self.chance)?);
            }
            Fault::Unlink(book) => {
                let gone = std::fs::remove_file(site.path("state").join(books::name(book)));
                self.journals += usize::from(gone.is_ok());
            }
            Fault::BundleAway(is_away) => {
                let (place, kept) = (site.path("bundle"), site.path("bundle.elsewhere"));
                let (from, to) = if is_away { (place, kept) } else { (kept, place) };
                if from.exists() {
                    std::fs::rename(from, to)?;
                }
            }
            Fault::Silent(true) => self.silent = Some(Silent::at(site.pool_addr)),
            Fault::Silent(false) => {
                self.silences += self.silent.take().map_or(0, Silent::end);
            }
            Fault::Flood(true) => self.flood = site.other_tenant()?.map(Flood::of),
            Fault::Flood(false) => {
                self.flooded += self.flood.take().map_or(0, Flood::end);
            }
        }
        Ok(())
    }

    /// From now on samples may not be read.
    fn begin(&mut self, site: &Site, what: &'static str) {
        let decided = site.in_file().0.into_iter().map(|record| record.sample).collect();
        self.windows.insert(what, Window { since: Instant::now(), decided });
    }

    /// From now on they may. The agent looks again within a time that counts as well.
    fn end(&mut self, what: &'static str, feed: &Feed) {
        let Some(Window { since, decided }) = self.windows.remove(what) else { return };
        let delay = since.elapsed() + LOOKS_AGAIN;
        for sample in feed.written().into_iter().filter(|sample| !decided.contains(sample)) {
            *self.delayed.entry(sample).or_default() += delay;
        }
    }

    fn hide_folder(&mut self, site: &Site, is_hidden: bool, feed: &Feed) -> io::Result<()> {
        if is_hidden {
            self.begin(site, "folder");
        }
        let mode = if is_hidden { 0 } else { 0o755 };
        std::fs::set_permissions(site.path("in"), PermissionsExt::from_mode(mode))?;
        if !is_hidden {
            self.end("folder", feed);
        }
        Ok(())
    }

    fn take_away(&mut self, site: &Site, how: Absence, feed: &Feed) -> io::Result<()> {
        self.begin(site, "away");
        let mut places = feed.hold();
        places.is_away = true;
        self.away = Away::take(&site.path("in").join(BELOW), how, site.agent.pid())?;
        Ok(())
    }

    fn bring_back(&mut self, site: &Site, feed: &Feed) -> io::Result<()> {
        {
            let mut places = feed.hold();
            if let Some(away) = self.away.take() {
                away.bring_back(site.agent.pid())?;
            }
            places.is_away = false;
        }
        self.end("away", feed);
        Ok(())
    }

    /// The agent dies between two writes to its state: the kernel tells of each as it happens.
    fn set_trap(&mut self, site: &mut Site, writes: u32) -> io::Result<()> {
        let Some(pid) = site.agent.pid() else { return Ok(()) };
        let left = Arc::new(AtomicU32::new(writes));
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_write =
                event.is_ok_and(|event| matches!(event.kind, EventKind::Modify(_) | EventKind::Create(_)));
            if is_write && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let _gone = kill_process(pid, Signal::KILL).is_ok();
            }
        })
        .map_err(io::Error::other)?;
        watcher.watch(&site.path("state"), RecursiveMode::Recursive).map_err(io::Error::other)?;
        site.agent.let_go();
        self.trap = Some(watcher);
        Ok(())
    }

    /// One byte of one file of the spool, or the end of the last.
    fn damage(&mut self, site: &Site, flips: bool, given: &[String]) -> io::Result<()> {
        let files = site.spool_files();
        if files.is_empty() {
            return Ok(());
        }
        let path = if flips { &files[self.chance.usize(..files.len())] } else { &files[files.len() - 1] };
        let mut bytes = std::fs::read(path)?;
        if flips {
            let at = self.chance.usize(..bytes.len());
            bytes[at] ^= 1 << self.chance.u8(..8);
            // In place: to write the file anew could find the disk full.
            let file = std::fs::File::options().write(true).open(path)?;
            rustix::io::pwrite(&file, &bytes[at..=at], at as u64)?;
        } else {
            let len = bytes.len() as u64;
            let torn = self.chance.u64(1..=MOST_TORN.min(len));
            std::fs::File::options().write(true).open(path)?.set_len(len - torn)?;
        }
        // Those that are final or amended already have nothing to lose.
        let settled: BTreeSet<String> = site
            .in_file()
            .0
            .into_iter()
            .filter(|record| record.state != "provisional")
            .map(|record| record.sample)
            .collect();
        self.damaged.push(given.iter().filter(|sample| !settled.contains(*sample)).cloned().collect());
        Ok(())
    }

    /// The end of all faults.
    pub(super) fn make_whole(&mut self, site: &mut Site, feed: &Feed) -> io::Result<()> {
        site.ground.cut(false);
        site.ground.block_udp(false);
        site.ground.set(Weather { delay: Duration::from_millis(10), ..Weather::default() });
        site.ground.take_address().map_err(io::Error::other)?;
        site.receiver.behave(Manners::Kind);
        site.empty(Disk::State)?;
        site.empty(Disk::Sink)?;
        site.pool.start()?;
        let ends = [
            Fault::HideFiles(false),
            Fault::HideFolder(false),
            Fault::Away(Absence::Renamed, false),
            Fault::Starve(Whom::Agent, false),
            Fault::Starve(Whom::Pool, false),
            Fault::BundleAway(false),
            Fault::Silent(false),
            Fault::Flood(false),
            Fault::AgentStart,
        ];
        ends.into_iter().try_for_each(|end| self.take(site, end, feed))
    }
}
