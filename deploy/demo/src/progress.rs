//! A run without a terminal: a line now and then, and what it came to.

use std::io::{self, Write};
use std::time::Instant;

use millgate_shared::shutdown;

use crate::replay::{Audience, Event};
use crate::report::{End, Ended, millis, percent, ratio};
use crate::stage::Facts;
use crate::tally::Tally;

/// Lines in a run, not counting those of cuts.
const LINES: usize = 12;

/// Follows a run to its end, or to SIGTERM or SIGINT.
pub async fn tell(facts: Facts, mut audience: Audience, out: &mut impl Write) -> io::Result<Ended> {
    writeln!(
        out,
        "{}, risk {}, deadline {} ms; pool and agent ready in {:.1} s",
        facts.bundle,
        percent(Some(facts.risk)),
        facts.deadline_ms,
        facts.started_in.as_secs_f64(),
    )?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut end = End::BrokenOff;
    let mut signal = std::pin::pin!(shutdown::signal_or_hang_up());
    loop {
        let event = tokio::select! {
            signal = &mut signal => {
                signal?;
                break;
            }
            event = audience.events.recv() => event,
        };
        let Some(event) = event else { break };
        tally.take(&event);
        write_event(out, &facts, &tally, &event)?;
        out.flush()?;
        if matches!(event, Event::Finished { .. }) {
            end = End::Complete;
            break;
        }
    }
    writeln!(out)?;
    let now = Instant::now();
    Ok(Ended { facts, end, lasted: now - started, outage_lasted: tally.outage_lasted(now), tally })
}

fn write_event(out: &mut impl Write, facts: &Facts, tally: &Tally, event: &Event) -> io::Result<()> {
    match event {
        Event::Measured(measured) => {
            if let Err(error) = &measured.decision {
                writeln!(out, "{}: not decided: {error}", measured.path)?;
            }
            let every = facts.planned.div_ceil(LINES).max(1);
            if tally.samples.is_multiple_of(every) { write_state(out, facts, tally) } else { Ok(()) }
        }
        Event::Cut { .. } => writeln!(out, "          the cloud is cut off: deciding alone"),
        Event::Restored { .. } => writeln!(out, "          the cable is back"),
        Event::Recovered { after } => {
            writeln!(out, "          the pool answers again, {} ms later", millis(Some(*after)))
        }
        Event::Poisoned { .. } | Event::Paused(_) | Event::Finished { .. } => Ok(()),
    }
}

fn write_state(out: &mut impl Write, facts: &Facts, tally: &Tally) -> io::Result<()> {
    writeln!(
        out,
        "{:>4}/{}  cloud {:>6}  p50 {:>5} ms  p99 {:>5} ms  accuracy: edge only {}, mixture {}, cloud only {}",
        tally.samples,
        facts.planned,
        percent(tally.cloud_share()),
        millis(tally.quantile(0.5)),
        millis(tally.quantile(0.99)),
        ratio(tally.edge_only.accuracy()),
        ratio(tally.mixture.accuracy()),
        ratio(tally.cloud_only.accuracy()),
    )
}
