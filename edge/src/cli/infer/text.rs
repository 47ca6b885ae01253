//! A decision for a person to read.

use std::io::{self, Write};

use millgate_shared::decision::{Decision, FailedCheck, State, UNKNOWN, Verdict};
use millgate_shared::novelty::Novelty;

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
    let disposition =
        decision.disposition.map_or_else(String::new, |disposition| format!("  {}", disposition.as_str()));
    writeln!(out, "  verdict  {label}{probability}{disposition}{state}  ({ms:.1} ms)")?;
    if *label == UNKNOWN {
        write_unknown(out, decision)?;
    }
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
    if let Some([left, top, width, height]) = decision.sample.region {
        let of = decision.sample.regions.unwrap_or(1);
        writeln!(out, "  region   {width} x {height} at {left},{top}, the most suspicious of {of}")?;
    }
    for note in &decision.sample.notes {
        writeln!(out, "  note     {}: {} ({})", note.modality, note.message, note.code)?;
    }
    if decision.uplink_bytes > 0 {
        writeln!(out, "  uplink   {} bytes", decision.uplink_bytes)?;
    }
    writeln!(out, "  record   {}  bundle {}@{}", decision.id, decision.bundle.name, decision.bundle.version)
}

/// What the sample is unlike, and what fails of its pictures.
fn write_unknown(out: &mut impl Write, decision: &Decision) -> io::Result<()> {
    for FailedCheck { modality, check, value, bounds: [least, most] } in &decision.checks {
        writeln!(out, "  check    {modality}: {check} {value:.4} is not within {least:.4} to {most:.4}")?;
    }
    let Some(Novelty { p, bound, product, detector, nearest, likeliest }) = &decision.novelty else {
        return Ok(());
    };
    writeln!(out, "  novelty  p {p:.4}, bound {bound}, among known samples of {product} ({detector})")?;
    for known in nearest {
        writeln!(out, "  nearest  {} ({}, distance {:.2})", known.sample, known.label, known.distance)?;
    }
    likeliest.iter().try_for_each(|label| writeln!(out, "  likeliest {label}"))
}
