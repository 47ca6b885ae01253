//! What is printed: a table for people, a line of JSON for programs.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use crate::LoadError;
use crate::recovery::Recovery;
use crate::reload::Drift;
use crate::summary::Summary;
use millgate_shared::output::Output;

/// The load.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Asked {
    pub models: Vec<String>,
    pub connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<f64>,
    pub seconds: f64,
    pub poison: f64,
}

/// The load and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub asked: Asked,
    #[serde(flatten)]
    pub summary: Summary,
    /// Processor seconds of this client per second: near its number of threads, the client was what is slow.
    pub client_cpu: f64,
    /// Means of what the server sent along.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Recovery>,
}

pub(crate) fn line(out: &mut impl Write, what: &impl Serialize) -> Result<(), LoadError> {
    let text = serde_json::to_string(what).map_err(std::io::Error::from)?;
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Rows under one head.
#[derive(Debug)]
pub struct Table {
    output: Output,
    has_head: bool,
}

impl Table {
    pub fn new(output: Output) -> Self {
        Self { output, has_head: false }
    }

    pub fn add(&mut self, out: &mut impl Write, report: &Report) -> Result<(), LoadError> {
        if self.output == Output::Json {
            return line(out, report);
        }
        if !self.has_head {
            self.has_head = true;
            writeln!(
                out,
                "{:>12} {:>9} {:>9} {:>7} {:>9} {:>9}   {:>8} {:>8} {:>8} {:>8}   {:>6} {:>8}",
                "load",
                "requests",
                "ok",
                "failed",
                "ok/s",
                "good/s",
                "p50 ms",
                "p95 ms",
                "p99 ms",
                "max ms",
                "cpu",
                "lag ms"
            )?;
        }
        let (asked, all) = (&report.asked, &report.summary.all);
        let load = match (asked.concurrency, asked.rate) {
            (Some(concurrency), _) => format!("{concurrency} clients"),
            (None, rate) => format!("{:.0}/s", rate.unwrap_or_default()),
        };
        let latency = all.latency_ms;
        writeln!(
            out,
            "{load:>12} {:>9} {:>9} {:>7} {:>9.1} {:>9.1}   {:>8.2} {:>8.2} {:>8.2} {:>8.2}   {:>6.2} {:>8.2}",
            all.requests,
            all.ok,
            all.requests - all.ok,
            all.throughput,
            all.goodput,
            latency.p50,
            latency.p95,
            latency.p99,
            latency.max,
            report.client_cpu,
            report.summary.lag_ms_p99
        )?;
        more(out, report)?;
        Ok(out.flush()?)
    }
}

/// What is not in every run.
fn more(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let (all, poison) = (&report.summary.all, &report.summary.poison);
    let list = |of: &BTreeMap<&str, usize>| {
        of.iter().map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ")
    };
    if !all.errors.is_empty() {
        writeln!(out, "{:>13}failed: {}", "", list(&all.errors))?;
    }
    for (what, count) in
        [("answered otherwise than alone", all.wrong), ("not sent by this client", all.unsent)]
    {
        if count > 0 {
            writeln!(out, "{:>13}{what}: {count}", "")?;
        }
    }
    if poison.requests > 0 {
        writeln!(
            out,
            "{:>13}poison: {} sent, {} answered, {}",
            "",
            poison.requests,
            poison.ok,
            list(&poison.errors)
        )?;
    }
    if report.summary.by_model.len() > 1 {
        for (name, of_model) in &report.summary.by_model {
            let latency = of_model.latency_ms;
            writeln!(
                out,
                "{:>13}{name}: {:.1} ok/s, {:.1} good/s, p50 {:.2} ms, p99 {:.2} ms",
                "", of_model.throughput, of_model.goodput, latency.p50, latency.p99
            )?;
        }
    }
    if let Some(burst) = &report.burst {
        let recovery = burst.recovery_ms.map_or_else(|| "not seen".to_owned(), |ms| format!("{ms:.0} ms"));
        writeln!(
            out,
            "{:>13}{} bursts: {:.1}/s offered, {:.1} good/s, {:.1} % in time (before: {:.1} %), recovery {recovery}",
            "",
            burst.bursts,
            burst.offered,
            burst.goodput,
            burst.share * 100.0,
            burst.share_before * 100.0
        )?;
    }
    for (name, mean) in &report.phases {
        writeln!(out, "{:>13}{name}: {mean:.1}", "")?;
    }
    Ok(())
}

pub fn reload(out: &mut impl Write, drift: &Drift, output: Output) -> Result<(), LoadError> {
    if output == Output::Json {
        return line(out, drift);
    }
    for (rounds, mib) in &drift.memory_mib {
        writeln!(out, "after {rounds:>6} rounds {mib:>9.1} MiB")?;
    }
    Ok(writeln!(
        out,
        "{} rounds of `{}` in {:.1} s: {:.1} MiB after the first tenth, {:.1} at the end, {:+.1} %",
        drift.rounds,
        drift.model,
        drift.seconds,
        drift.settled_mib,
        drift.end_mib,
        drift.drift * 100.0
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_line_of_json_or_a_row_under_a_head() {
        let asked = Asked { models: vec!["m".to_owned()], concurrency: Some(8), ..Asked::default() };
        let summary = Summary::of(&[], &["m".to_owned()], 1.0, None);
        let report = Report { asked, summary, client_cpu: 0.5, phases: BTreeMap::new(), burst: None };
        let print = |output| {
            let mut out = Vec::new();
            let mut table = Table::new(output);
            table.add(&mut out, &report).unwrap();
            table.add(&mut out, &report).unwrap();
            String::from_utf8(out).unwrap()
        };
        let json = print(Output::Json);
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!((&first["asked"]["concurrency"], &first["ok"]), (&8.into(), &0.into()));
        assert!(first["by_model"]["m"]["latency_ms"]["p99"].is_number());
        let text = print(Output::Text);
        assert_eq!((text.lines().count(), text.matches("8 clients").count()), (3, 2));
    }
}
