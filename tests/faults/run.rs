//! Carries out a plan at a site, waits until everything is whole and settled, and lets the judge look.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::check::{Record, Rules, Verdict, check, differences};
use super::director::Director;
use super::feed::Feed;
use super::plan::{Kinds, Plan};
use super::process::Counts;
use super::site::{Choice, Site};
use crate::{PATIENCE, recorded};

/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(20);
/// At the end: so long without a new record means that none will come.
const SETTLE: Duration = Duration::from_secs(90);
const SETTLE_LOOK: Duration = Duration::from_millis(500);
/// What the machine may have been late by, as an excuse.
const MOST_STALL: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub seed: u64,
    pub length: Duration,
    /// Between two samples.
    pub pause: Duration,
    /// Kinds of faults.
    pub kinds: Kinds,
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
    /// Damages to the journal.
    journals: usize,
    /// Connections that said nothing.
    silences: usize,
    /// Requests of another tenant that were answered.
    flooded: usize,
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
        let plan = Plan::new(self.seed, self.length, &self.kinds);
        let samples = self.length.as_millis() / self.pause.as_millis().max(1);
        let disk = (48 << 20) + 8 * 1024 * u64::try_from(samples).unwrap_or(0);
        let choice =
            Choice { seed: self.seed, deadline: self.rules.deadline, disk, is_secure: self.is_secure };
        let mut site = Site::build(&choice)?;
        let mut director = Director::new(self.seed);
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
            director.take(&mut site, step.what, &feed)?;
        }
        director.make_whole(&mut site, &feed)?;
        let samples = feed.stop()?;
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
        let rules = Rules {
            damaged: director.damaged.clone(),
            delayed: director.delayed.clone(),
            stall: director.stall,
            ..self.rules.clone()
        };
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
            journals: director.journals,
            silences: director.silences,
            flooded: director.flooded,
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
        if !self.schedule.kinds.are_all() {
            return enough;
        }
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
        writeln!(
            f,
            "  {} steps, {} damages to the spool, {} to the journal, {} silent connections, {} answers to another tenant",
            self.steps, self.damages, self.journals, self.silences, self.flooded
        )?;
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
