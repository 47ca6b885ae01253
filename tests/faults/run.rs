//! Carries out a plan at a site, waits until everything is whole and settled, and lets the judge look.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher};
use rustix::process::{Signal, kill_process};

use super::check::{Record, Rules, Verdict, check, differences};
use super::feed::Feed;
use super::plan::{Disk, Fault, Manners, Plan};
use super::process::Counts;
use super::site::{Choice, Site};
use crate::line::Weather;
use crate::{PATIENCE, recorded};

/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(20);
/// At the end: so long without a new record means that none will come.
const SETTLE: Duration = Duration::from_secs(90);
const SETTLE_LOOK: Duration = Duration::from_millis(500);
/// Off the end of a torn file, bytes.
const MOST_TORN: u64 = 300;
/// What the machine may have been late by, as an excuse.
const MOST_STALL: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    pub length: Duration,
    /// Between two samples.
    pub pause: Duration,
    pub rules: Rules,
    /// TLS, with QUIC and TCP raced.
    pub is_secure: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    schedule: Schedule,
    ground: String,
    steps: usize,
    damages: usize,
    agent: Counts,
    pool: Counts,
    posted_again: usize,
    rules: Rules,
    file: Verdict,
    webhook: Verdict,
    /// What is wrong besides.
    wrong: Vec<String>,
    took: Duration,
    logs: String,
}

impl Schedule {
    /// Blocks for its length and some more. An error is one of the test itself.
    pub fn run(self) -> io::Result<Outcome> {
        say(&format!(
            "fault schedule: MILLGATE_FAULTS_SEED={} MILLGATE_FAULTS={}s",
            self.seed,
            self.length.as_secs()
        ))?;
        let plan = Plan::new(self.seed, self.length);
        let samples = self.length.as_millis() / self.pause.as_millis().max(1);
        let disk = (48 << 20) + 8 * 1024 * u64::try_from(samples).unwrap_or(0);
        let choice =
            Choice { seed: self.seed, deadline: self.rules.deadline, disk, is_secure: self.is_secure };
        let mut site = Site::build(&choice)?;
        let mut director = Director {
            chance: fastrand::Rng::with_seed(self.seed),
            damaged: Vec::new(),
            trap: None,
            stall: Duration::ZERO,
        };
        site.pool.start()?;
        if self.is_secure {
            site.enrol()?;
        }
        site.agent.start()?;
        await_ready(&mut site)?;
        let begun = Instant::now();
        let stalls = Stalls::watch();
        let feed = Feed::start(&site.path("in"), recorded(), self.pause);
        for step in &plan.steps {
            while begun.elapsed() < step.at {
                look(&mut site)?;
                std::thread::sleep(LOOK.min(step.at.saturating_sub(begun.elapsed())));
            }
            director.take(&mut site, step.what, &feed.written())?;
        }
        let samples = feed.stop()?;
        director.make_whole(&mut site)?;
        director.stall = stalls.worst().min(MOST_STALL);
        let rules = Rules { damaged: director.damaged.clone(), ..self.rules.clone() };
        settle(&mut site, &samples, &rules)?;
        Ok(self.judge(&mut site, &plan, &director, &samples, begun.elapsed()))
    }

    fn judge(
        self,
        site: &mut Site,
        plan: &Plan,
        director: &Director,
        samples: &[String],
        took: Duration,
    ) -> Outcome {
        let rules = Rules { damaged: director.damaged.clone(), stall: director.stall, ..self.rules.clone() };
        let (in_file, mut wrong) = site.in_file();
        let (received, bad) = site.received();
        wrong.extend(bad);
        if rules.exactly_once {
            wrong.extend(differences(&in_file, &received));
        }
        for code in site.agent.counts.ended.iter().chain(&site.pool.counts.ended) {
            // 1: it will be started again. Anything else is a crash, or a configuration that it refuses.
            if *code != Some(1) {
                wrong.push(format!("a process ended by itself with {code:?}"));
            }
        }
        if site.agent.counts.overran + site.pool.counts.overran > 0 {
            wrong.push("a process did not stop in time".to_owned());
        }
        let mut outcome = Outcome {
            schedule: self,
            ground: site.describe(),
            steps: plan.steps.len(),
            damages: director.damaged.len(),
            agent: site.agent.counts.clone(),
            pool: site.pool.counts.clone(),
            posted_again: site.receiver.kept().again,
            file: check(samples, &in_file, &rules),
            webhook: check(samples, &received, &rules),
            rules,
            wrong,
            took,
            logs: String::new(),
        };
        let is_kept = std::env::var_os("MILLGATE_FAULTS_KEEP").is_some();
        if !outcome.is_good() || is_kept {
            outcome.logs = evidence(site, is_kept);
        }
        outcome
    }
}

/// Looks after both processes.
fn look(site: &mut Site) -> io::Result<()> {
    site.agent.look()?;
    site.pool.look()
}

fn await_ready(site: &mut Site) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !site.agent_is_ready() {
        look(site)?;
        if Instant::now() > until {
            return Err(io::Error::other(format!("the agent does not start:\n{}", site.agent.log_tail(20))));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Carries out single faults.
struct Director {
    chance: fastrand::Rng,
    /// For each damage, the samples that may have been in the spool then.
    damaged: Vec<BTreeSet<String>>,
    /// Waits for a write, to kill then.
    trap: Option<notify::RecommendedWatcher>,
    /// The machine's worst.
    stall: Duration,
}

/// How late the machine wakes a thread that wants nothing: no process on it can be more punctual than that.
struct Stalls {
    worst: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Stalls {
    fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let (worst, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&worst), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let begun = Instant::now();
                std::thread::sleep(NAP);
                let late = begun.elapsed().saturating_sub(NAP).as_micros();
                seen.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
        });
        Self { worst, is_over }
    }

    fn worst(self) -> Duration {
        self.is_over.store(true, Ordering::SeqCst);
        Duration::from_micros(self.worst.load(Ordering::SeqCst))
    }
}

impl Director {
    /// `given` are the samples so far.
    fn take(&mut self, site: &mut Site, fault: Fault, given: &[String]) -> io::Result<()> {
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
            Fault::Flip => self.damage(site, true, given)?,
            Fault::Tear => self.damage(site, false, given)?,
            Fault::Fill(disk) => site.fill(disk)?,
            Fault::Empty(disk) => site.empty(disk)?,
            Fault::Receiver(manners) => site.receiver.behave(manners),
        }
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
    fn make_whole(&mut self, site: &mut Site) -> io::Result<()> {
        site.ground.cut(false);
        site.ground.block_udp(false);
        site.ground.set(Weather { delay: Duration::from_millis(10), ..Weather::default() });
        site.ground.take_address().map_err(io::Error::other)?;
        site.receiver.behave(Manners::Kind);
        site.empty(Disk::State)?;
        site.empty(Disk::Sink)?;
        site.pool.start()?;
        self.take(site, Fault::AgentStart, &[])
    }
}

/// Waits until every sample is decided and amended in both sinks, or nothing more comes.
fn settle(site: &mut Site, samples: &[String], rules: &Rules) -> io::Result<()> {
    let all = Rules { damaged: Vec::new(), ..rules.clone() };
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        look(site)?;
        let (file, received) = (site.in_file().0, site.received().0);
        if is_settled(samples, &file, &all) && is_settled(samples, &received, &all) {
            return Ok(());
        }
        let now = file.len() + received.len();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        // What was damaged will not come; all else has.
        let may_be_all = is_settled(samples, &file, rules) && is_settled(samples, &received, rules);
        if since.elapsed() > if may_be_all { SETTLE / 6 } else { SETTLE } {
            return Ok(());
        }
        std::thread::sleep(SETTLE_LOOK);
    }
}

fn is_settled(samples: &[String], records: &[Record], rules: &Rules) -> bool {
    let verdict = check(samples, records, rules);
    verdict.lost.is_empty() && (!rules.amended || verdict.unamended.len() <= rules.damaged.len())
}

/// The ends of the logs, and where everything lies.
fn evidence(site: &mut Site, is_kept: bool) -> String {
    let mut text = String::new();
    for (name, tail) in [("agent", site.agent.log_tail(60)), ("pool", site.pool.log_tail(20))] {
        let _never = writeln!(text, "--- the {name}'s log ends with\n{tail}").is_err();
    }
    let interesting =
        |line: &&str| line.contains("spool") || line.contains("sink") || line.contains("errors");
    let metrics = site.metrics();
    let metrics: Vec<&str> =
        metrics.lines().filter(|line| !line.starts_with('#')).filter(interesting).collect();
    let _never = writeln!(text, "--- metrics\n{}", metrics.join("\n")).is_err();
    if is_kept {
        // The small disks are unmounted with the site; what was on them is copied out.
        let kept = keep(site);
        let _never = writeln!(text, "--- kept in {}", kept.display()).is_err();
    }
    text
}

fn keep(site: &mut Site) -> PathBuf {
    let _lives_on = site.agent.kill().is_err();
    let dir = site.keep();
    for disk in ["state", "sink"] {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([dir.join(disk), dir.join(format!("{disk}-at-the-end"))])
            .status();
        let _failed = copied.is_err();
    }
    dir
}

impl Outcome {
    /// A run in which nothing happened proves nothing.
    pub fn is_telling(&self) -> bool {
        let Schedule { length, pause, .. } = self.schedule;
        let given = length.as_millis() / pause.as_millis().max(1);
        let enough = self.file.accepted as u128 * 10 >= given * 8;
        enough && self.file.provisional > 0 && self.file.from_pool > 0 && self.agent.killed > 0
    }

    pub fn is_good(&self) -> bool {
        self.is_telling()
            && self.wrong.is_empty()
            && self.file.is_good(&self.rules)
            && self.webhook.is_good(&self.rules)
    }

    /// To standard output, whatever the test does with it.
    pub fn print(&self) -> io::Result<()> {
        say(&self.to_string())
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { seed, length, .. } = self.schedule;
        writeln!(f, "fault schedule, seed {seed}, {length:?} of faults, {:?} in all", self.took)?;
        writeln!(f, "  line: {}", self.ground)?;
        let (agent, pool) = (&self.agent, &self.pool);
        writeln!(f, "  {} steps, {} damages to the spool", self.steps, self.damages)?;
        writeln!(f, "  the machine itself was late by up to {:?}", self.rules.stall)?;
        for (name, counts) in [("agent", agent), ("pool", pool)] {
            let Counts { started, killed, stopped, ended, .. } = counts;
            writeln!(
                f,
                "  {name}: {started} starts, {killed} kills, {stopped} stops, ended by itself {}",
                ended.len()
            )?;
        }
        write!(f, "  jsonl file\n{}", self.file)?;
        write!(f, "  webhook ({} posted again with the same key)\n{}", self.posted_again, self.webhook)?;
        if !self.is_telling() {
            writeln!(f, "  too little happened for the run to prove anything")?;
        }
        for what in self.wrong.iter().take(10) {
            writeln!(f, "  wrong: {what}")?;
        }
        write!(f, "{}", self.logs)
    }
}
