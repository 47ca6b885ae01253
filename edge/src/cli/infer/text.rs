//! A decision for a person to read.

use std::io::{self, Write};

use millgate_shared::decision::{Decision, State, Verdict};

pub(super) fn write_decision(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    let state = match decision.state {
        State::Final => "",
        State::Provisional => "  provisional",
        State::Amended => "  amended",
    };
    writeln!(out, "{}", decision.sample.path)?;
    let Verdict { label, probability } = &decision.verdict;
    let probability = probability.map_or_else(String::new, |probability| format!(" {probability:.3}"));
    let ms = decision.timings_us.total as f64 / 1000.0;
    writeln!(out, "  verdict  {label}{probability}{state}  ({ms:.1} ms)")?;
    let experts: Vec<String> = decision
        .experts
        .iter()
        .map(|expert| {
            let ms = expert.latency_us as f64 / 1000.0;
            format!("{} {:.2} ({}, {ms:.1} ms)", expert.name, expert.weight, expert.place)
        })
        .collect();
    writeln!(out, "  experts  {}", experts.join(" · "))?;
    writeln!(out, "  why      {}", decision.why.rule)?;
    if let Some(degraded) = &decision.degraded {
        let missing: Vec<&str> = degraded.missing.iter().map(|missing| missing.name.as_str()).collect();
        writeln!(
            out,
            "  degraded {}: without {} ({:.0} % of the gate's weight answered)",
            degraded.reason.as_str(),
            missing.join(", "),
            100.0 * degraded.weight_mass
        )?;
    }
    for note in &decision.sample.notes {
        writeln!(out, "  note     {}: {} ({})", note.modality, note.message, note.code)?;
    }
    if decision.uplink_bytes > 0 {
        writeln!(out, "  uplink   {} bytes", decision.uplink_bytes)?;
    }
    writeln!(out, "  record   {}  bundle {}@{}", decision.id, decision.bundle.name, decision.bundle.version)
}
