//! The judge: which samples went in, which records came out, and what is wrong with that. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

#[cfg(test)]
mod tests;

/// One record as a sink got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    pub version: u64,
    pub state: String,
    /// The file's name, without its folder.
    pub sample: String,
    /// The whole of it, without a line feed.
    pub text: String,
    /// From the start of the sample to its decision.
    pub total: Duration,
}

impl Record {
    /// A decision; an error for what is none, such as a line that says that a file could not be decided.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("no JSON ({error}): {text}"))?;
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let path = word(&value["sample"]["path"]).ok_or_else(|| format!("no decision: {text}"))?;
        let total = value["timings_us"]["total"].as_u64().ok_or_else(|| format!("no total time: {text}"))?;
        Ok(Self {
            id: word(&value["id"]).ok_or_else(|| format!("no id: {text}"))?,
            version: value["version"].as_u64().ok_or_else(|| format!("no version: {text}"))?,
            state: word(&value["state"]).ok_or_else(|| format!("no state: {text}"))?,
            sample: path.rsplit('/').next().unwrap_or(&path).to_owned(),
            text: text.to_owned(),
            total: Duration::from_micros(total),
        })
    }
}

/// What is promised.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Deadline of every first decision.
    pub deadline: Duration,
    /// What the machine itself was late by, as seen from outside of the agent.
    pub stall: Duration,
    /// A provisional decision is amended, once.
    pub amended: bool,
    /// A record reaches a sink once. Otherwise one that is delivered again, even decided again, is only counted.
    pub exactly_once: bool,
    /// For each time that the spool was damaged, the samples that may have been in it. One of them may stay provisional
    /// for each damage.
    pub damaged: Vec<BTreeSet<String>>,
    /// How long a sample could not be read after it was there: its deadline counts from when it could.
    pub delayed: BTreeMap<String, Duration>,
}

/// What one sink got, judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub accepted: usize,
    pub decided: usize,
    pub provisional: usize,
    pub amended: usize,
    /// Delivered again, byte for byte.
    pub repeated: usize,
    pub slowest: Duration,
    /// Never decided.
    pub lost: Vec<String>,
    /// Decided under two ids, or delivered twice.
    pub doubled: Vec<String>,
    /// Over the deadline, and over what the machine was late by.
    pub late: Vec<String>,
    /// Over the deadline alone.
    pub over: usize,
    /// Could not be read for a while.
    pub delayed: usize,
    /// A first decision with an answer of the pool.
    pub from_pool: usize,
    /// Provisional for ever.
    pub unamended: Vec<String>,
    /// Records that contradict each other or the rules of versions and states.
    pub wrong: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self, rules: &Rules) -> bool {
        let has_doubled = rules.exactly_once && !self.doubled.is_empty();
        let is_open = rules.amended && !is_excused(&self.unamended, &rules.damaged);
        self.lost.is_empty() && self.late.is_empty() && self.wrong.is_empty() && !has_doubled && !is_open
    }
}

/// One for each damage, and none that was not in the spool when it was damaged.
fn is_excused(unamended: &[String], damaged: &[BTreeSet<String>]) -> bool {
    let was_there = |sample: &String| damaged.iter().any(|damage| damage.contains(sample));
    unamended.len() <= damaged.len() && unamended.iter().all(was_there)
}

/// Judges one sink's records, in the order in which they came.
pub fn check(samples: &[String], records: &[Record], rules: &Rules) -> Verdict {
    let mut verdict = Verdict { accepted: samples.len(), ..Verdict::default() };
    let known: BTreeSet<&str> = samples.iter().map(String::as_str).collect();
    let mut by_sample: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        if known.contains(&*record.sample) {
            by_sample.entry(&record.sample).or_default().push(record);
        } else {
            verdict.wrong.push(format!("{}: decided, but never given", record.sample));
        }
    }
    for sample in &known {
        match by_sample.get(sample) {
            Some(records) => of_sample(sample, records, rules, &mut verdict),
            None => verdict.lost.push((*sample).to_owned()),
        }
    }
    verdict
}

fn of_sample(sample: &str, records: &[&Record], rules: &Rules, verdict: &mut Verdict) {
    let mut wrong = |what: String| verdict.wrong.push(format!("{sample}: {what}"));
    let ids: BTreeSet<&str> = records.iter().map(|record| &*record.id).collect();
    if ids.len() > 1 {
        verdict.doubled.push(format!("{sample}: decided as {ids:?}"));
    }
    // By version, in the order of arrival.
    let mut seen: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        match seen.get(&record.version) {
            Some(first) if first.text == record.text => {
                verdict.repeated += 1;
                verdict.doubled.push(format!("{sample}: version {} came again", record.version));
            }
            Some(first) if rules.exactly_once => {
                wrong(format!(
                    "version {} says two things: {} | {}",
                    record.version, first.text, record.text
                ));
            }
            // Decided again: without the promise of exactly once that is no error.
            Some(_) => verdict.repeated += 1,
            None => {
                if record.version > 1 && !seen.contains_key(&(record.version - 1)) {
                    wrong(format!("version {} without or before {}", record.version, record.version - 1));
                }
                seen.insert(record.version, record);
            }
        }
    }
    let Some(first) = seen.get(&1) else {
        verdict.lost.push(format!("{sample}: its first version"));
        return;
    };
    verdict.decided += 1;
    verdict.slowest = verdict.slowest.max(first.total);
    verdict.over += usize::from(first.total > rules.deadline);
    verdict.delayed += usize::from(rules.delayed.contains_key(sample));
    verdict.from_pool += usize::from(first.text.contains("\"where\":\"cloud:"));
    let delay = rules.delayed.get(sample).copied().unwrap_or_default();
    if first.total > rules.deadline + rules.stall + delay {
        verdict.late.push(format!("{sample}: {:?}", first.total));
    }
    let amendments = seen.range(2..).count();
    match &*first.state {
        "final" if amendments > 0 => wrong("was final, and is amended".to_owned()),
        "final" => {}
        "provisional" => {
            verdict.provisional += 1;
            match amendments {
                0 => verdict.unamended.push(sample.to_owned()),
                1 => verdict.amended += 1,
                more => wrong(format!("amended {more} times")),
            }
        }
        state => wrong(format!("begins as {state}")),
    }
    for (version, record) in seen.range(2..) {
        if record.state != "amended" {
            wrong(format!("version {version} is {}", record.state));
        }
    }
}

/// Two sinks must have got the same.
pub fn differences(ours: &[Record], theirs: &[Record]) -> Vec<String> {
    let by_key = |records: &[Record]| -> BTreeMap<(String, u64), String> {
        records.iter().map(|record| ((record.id.clone(), record.version), record.text.clone())).collect()
    };
    let (ours, theirs) = (by_key(ours), by_key(theirs));
    let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    keys.into_iter()
        .filter(|key| ours.get(*key) != theirs.get(*key))
        .map(|(id, version)| format!("{id} version {version} is not the same in both sinks"))
        .collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_deadline = self.decided - self.over.min(self.decided);
        writeln!(f, "    accepted          {:>6}", self.accepted)?;
        writeln!(f, "    lost              {:>6}", self.lost.len())?;
        writeln!(f, "    doubled           {:>6}", self.doubled.len())?;
        writeln!(
            f,
            "    by the deadline   {by_deadline:>6} of {} (slowest {:?}; {} more than the machine was late by)",
            self.decided,
            self.slowest,
            self.late.len()
        )?;
        writeln!(f, "    not to be read    {:>6} for a while", self.delayed)?;
        writeln!(f, "    amended           {:>6} of {} provisional", self.amended, self.provisional)?;
        writeln!(f, "    asked of the pool {:>6} in time", self.from_pool)?;
        writeln!(f, "    wrong             {:>6}", self.wrong.len())?;
        for (name, list) in [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("late", &self.late),
            ("never amended", &self.unamended),
            ("wrong", &self.wrong),
        ] {
            // The first tell enough.
            for what in list.iter().take(5) {
                writeln!(f, "      {name}: {what}")?;
            }
        }
        Ok(())
    }
}
