//! The closing table.

use std::io::{self, Write};
use std::time::Duration;

use super::{End, Ended};
use crate::tally::{Phase, Score, Tally};

pub(super) fn write(out: &mut impl Write, ended: &Ended) -> io::Result<()> {
    let (tally, facts) = (&ended.tally, &ended.facts);
    let end = match ended.end {
        End::Complete => "",
        End::Quit => " (left early)",
        End::BrokenOff => " (BROKEN OFF)",
    };
    writeln!(
        out,
        "{}, risk {}, deadline {} ms\n{} samples, {} decided, {} lost, {} doubled in {:.1} s{end}\n",
        facts.bundle,
        percent(Some(facts.risk)),
        facts.deadline_ms,
        tally.samples,
        tally.decided,
        tally.lost(),
        tally.duplicates,
        ended.lasted.as_secs_f64(),
    )?;
    writeln!(out, "                    decided  provisional   cloud   p50 ms   p99 ms  accuracy")?;
    phase(out, "cloud up", &tally.up)?;
    phase(out, &format!("cloud cut {:.1} s", ended.outage_lasted.as_secs_f64()), &tally.outage)?;
    row(
        out,
        "whole run",
        tally.decided,
        tally.provisional(),
        tally.cloud_share(),
        whole(tally),
        &tally.mixture,
    )?;
    writeln!(
        out,
        "\naccuracy   edge only {}   mixture {}   cloud only {}",
        ratio(tally.edge_only.accuracy()),
        ratio(tally.mixture.accuracy()),
        ratio(tally.cloud_only.accuracy()),
    )?;
    if tally.unknown > 0 {
        writeln!(out, "unknown    {} samples got no label; they are in no accuracy", tally.unknown)?;
    }
    writeln!(
        out,
        "uplink     {} sent, {} to send everything ({})",
        bytes(tally.uplink_bytes),
        bytes(tally.all_cloud_bytes),
        percent(
            (tally.all_cloud_bytes > 0).then(|| tally.uplink_bytes as f64 / tally.all_cloud_bytes as f64)
        ),
    )?;
    let late = tally.outage.ran_into_deadline;
    writeln!(out, "outage     {late} of {} decisions waited out their deadline", tally.outage.decided())?;
    if tally.recovered_after.is_some() {
        let after = millis(tally.recovered_after);
        writeln!(out, "recovery   {after} ms from the restored cable to the pool's first answer")?;
    }
    if tally.poisoned > 0 {
        let refused = tally.poisoned - tally.swallowed;
        writeln!(out, "poison     {refused} of {} broken files refused with a reason", tally.poisoned)?;
    }
    Ok(())
}

fn phase(out: &mut impl Write, name: &str, phase: &Phase) -> io::Result<()> {
    let times = [phase.quantile(0.5), phase.quantile(0.99)];
    row(out, name, phase.decided(), phase.provisional, phase.cloud_share(), times, &phase.mixture)
}

fn whole(tally: &Tally) -> [Option<Duration>; 2] {
    [tally.quantile(0.5), tally.quantile(0.99)]
}

fn row(
    out: &mut impl Write,
    name: &str,
    decided: usize,
    provisional: usize,
    cloud: Option<f64>,
    [p50, p99]: [Option<Duration>; 2],
    mixture: &Score,
) -> io::Result<()> {
    let (cloud, accuracy) = (percent(cloud), ratio(mixture.accuracy()));
    let (p50, p99) = (millis(p50), millis(p99));
    writeln!(out, "{name:<18} {decided:>8}  {provisional:>11}  {cloud:>6}  {p50:>7}  {p99:>7}  {accuracy:>8}")
}

/// `18.0 %`.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

/// `0.961`.
pub fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// Without the unit: `4.2`.
pub fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
}

/// In decimal units: `3.1 kB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
