//! Does what was asked.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::LoadError;
use crate::cli::{ClosedArgs, Command, EngineArgs, LoadArgs, OpenArgs};
use crate::drive::{self, Load, Seen};
use crate::random::Random;
use crate::recovery;
use crate::report::{self, Asked, Report};
use crate::requests::Requests;
use crate::schedule::{Burst, Plan};
use crate::summary::Summary;
use crate::{cases, engine, reload, target};
use millgate_shared::output::Output;

pub fn run(command: Command, out: &mut impl Write) -> Result<(), LoadError> {
    match command {
        Command::Closed(args) => runtime(args.load.threads)?.block_on(closed(args, out)),
        Command::Open(args) => runtime(args.load.threads)?.block_on(open(args, out)),
        Command::Ready(args) => {
            let patience = Duration::from_secs_f64(args.patience.clamp(0.0, 1e6));
            runtime(1)?.block_on(target::wait_until_ready(&args.server.url, &args.model, patience))?;
            Ok(writeln!(out, "ready")?)
        }
        Command::Reload(args) => {
            let most = Duration::from_secs_f64(args.most_seconds.clamp(0.0, 1e6));
            let work = reload::run(&args.server.url, &args.model, args.rounds, most, args.pid);
            let drift = runtime(1)?.block_on(work)?;
            report::reload(out, &drift, args.server.output)
        }
        Command::Engine(args) => bare(&args, out),
        Command::Cases(args) => cases::run(&args.dir, args.fixed_shapes, out),
    }
}

/// One thread needs no other to wake it, which is the least a client can cost.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, LoadError> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(threads.max(1)).enable_all().build()?)
}

async fn prepare(args: &LoadArgs) -> Result<Arc<Load>, LoadError> {
    let (models, shaping) = (args.models()?, args.inputs.shaping()?);
    let mut clients = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        clients.push(target::connect(&args.server.url).await?);
    }
    let mut random = Random::new(args.seed);
    let mut requests = Vec::with_capacity(models.len());
    for (name, _) in &models {
        let metadata = target::metadata(&mut clients[0], name).await?;
        requests.push(Requests::new(&metadata, &shaping, &mut random)?);
    }
    let mut load = Load {
        clients,
        models: requests,
        weights: models.iter().map(|(_, weight)| *weight).collect(),
        poison: args.poison,
        deadline: deadline(args),
        phases: args.phases,
        seed: args.seed,
    };
    if args.verify {
        load.learn().await?;
    }
    Ok(Arc::new(load))
}

fn deadline(args: &LoadArgs) -> Option<Duration> {
    args.deadline_ms.map(|ms| Duration::from_secs_f64(ms / 1e3))
}

/// The processor time that this process has used.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Processor time used while measuring, per second.
async fn cpu_between(start: Instant, from: Duration, length: Duration) -> f64 {
    tokio::time::sleep_until((start + from).into()).await;
    let (before, began) = (cpu(), Instant::now());
    tokio::time::sleep_until((start + from + length).into()).await;
    cpu().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64().max(1e-9)
}

async fn closed(args: ClosedArgs, out: &mut impl Write) -> Result<(), LoadError> {
    let load = prepare(&args.load).await?;
    let (warm_up, length) = windows(&args.load);
    let mut table = report::Table::new(args.load.server.output);
    for concurrency in args.concurrency {
        let start = Instant::now();
        let work = drive::closed(&load, concurrency, start, warm_up + length);
        let (seen, client_cpu) = tokio::join!(work, cpu_between(start, warm_up, length));
        let mut seen = seen?;
        // What ended while measuring: in a closed loop that is as many as began.
        let measured = warm_up..warm_up + length;
        seen.samples.retain(|sample| measured.contains(&sample.done));
        let asked = Asked { concurrency: Some(concurrency), ..asked(&args.load) };
        table.add(out, &make(asked, &load, &seen, length, client_cpu))?;
    }
    Ok(())
}

async fn open(args: OpenArgs, out: &mut impl Write) -> Result<(), LoadError> {
    let load = prepare(&args.load).await?;
    let (warm_up, length) = windows(&args.load);
    let ms = |ms: f64| Duration::from_secs_f64(ms.clamp(0.0, 1e9) / 1e3);
    let (burst_length, every) = (ms(args.burst_ms), ms(args.burst_every_ms));
    if args.burst_rate.is_some() && (burst_length.is_zero() || every <= burst_length) {
        let message = "must be longer than --burst-ms, and that more than 0".to_owned();
        return Err(LoadError::Flag { flag: "--burst-every-ms", message });
    }
    let usable = |rate: f64| rate > 0.0 && rate < 1e7;
    if !args.rate.iter().copied().chain(args.burst_rate).all(usable) {
        let message = "must be more than 0, as --burst-rate must".to_owned();
        return Err(LoadError::Flag { flag: "--rate", message });
    }
    let mut table = report::Table::new(args.load.server.output);
    for rate in args.rate {
        let calm = every.saturating_sub(burst_length) / 2;
        let burst =
            args.burst_rate.map(|rate| Burst { rate, first: warm_up + calm, length: burst_length, every });
        let plan = Plan { rate, length: warm_up + length, burst };
        let times = plan.times(&mut Random::new(args.load.seed));
        let start = Instant::now();
        let (seen, client_cpu) =
            tokio::join!(drive::open(&load, times, start), cpu_between(start, warm_up, length));
        let mut seen = seen?;
        seen.samples.retain(|sample| sample.due >= warm_up);
        let asked = Asked { rate: Some(rate), burst_rate: args.burst_rate, ..asked(&args.load) };
        let mut report = make(asked, &load, &seen, length, client_cpu);
        report.burst =
            burst.and_then(|burst| recovery::of(&seen.samples, burst, &plan.bursts(), load.deadline));
        table.add(out, &report)?;
    }
    Ok(())
}

fn windows(args: &LoadArgs) -> (Duration, Duration) {
    (Duration::from_secs_f64(args.warm_up), Duration::from_secs_f64(args.seconds))
}

fn asked(args: &LoadArgs) -> Asked {
    Asked {
        models: args.model.clone(),
        connections: args.connections,
        deadline_ms: args.deadline_ms,
        seconds: args.seconds,
        poison: args.poison,
        ..Asked::default()
    }
}

fn make(asked: Asked, load: &Load, seen: &Seen, length: Duration, client_cpu: f64) -> Report {
    let models: Vec<String> = load.models.iter().map(|model| model.name.clone()).collect();
    let summary = Summary::of(&seen.samples, &models, length.as_secs_f64(), load.deadline);
    let mean = |(name, (sum, count)): (&String, &(f64, u64))| (name.clone(), sum / *count as f64);
    Report { asked, summary, client_cpu, phases: seen.phases.iter().map(mean).collect(), burst: None }
}

fn bare(args: &EngineArgs, out: &mut impl Write) -> Result<(), LoadError> {
    let (model, shaping) = (engine::load(&args.file)?, args.inputs.shaping()?);
    let length = Duration::from_secs_f64(args.seconds.clamp(0.0, 1e6));
    for threads in &args.threads {
        for rows in &args.batch {
            let rate = engine::measure(&model, (*threads).max(1), *rows, &shaping, length)?;
            match args.output {
                Output::Json => report::line(out, &rate)?,
                Output::Text => writeln!(
                    out,
                    "{} threads {:<3} batch {:<4} {:>10.1} items/s {:>10.1} us a call",
                    rate.engine, rate.threads, rate.batch, rate.items_per_second, rate.call_us_p50
                )?,
            }
        }
    }
    Ok(())
}
