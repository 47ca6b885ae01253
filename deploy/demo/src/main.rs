//! `millgate-demo`: a pool and an agent in one go, on recorded factory images, no configuration.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use millgate_demo::replay::{self, Plan};
use millgate_demo::report::{self, Ended};
use millgate_demo::stage::{Stage, StageConfig};
use millgate_demo::{progress, samples, screen};
use millgate_shared::telemetry::{self, LogFormat};

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/factory");
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");
/// Slow enough to read along; without a screen, fast, yet with an outage of seconds.
const PACE_ON_SCREEN: u64 = 90;
const PACE: u64 = 45;
/// A sample was lost, or the run was broken off.
const FAILED: u8 = 1;
/// Bundle or samples are unusable; nothing was run.
const UNUSABLE: u8 = 3;

/// Starts a pool and an agent, replays recorded factory pictures through them, and cuts the cloud off in the middle
#[derive(Debug, Parser)]
#[command(version, after_help = "Examples:\n  millgate-demo\n  millgate-demo --risk 0.05 --output json")]
struct Flags {
    /// Bundle of both sides, a folder or a .tar.zst [default: the repository's models/factory]
    #[arg(long, value_name = "PATH", default_value = BUNDLE, hide_default_value = true)]
    bundle: PathBuf,
    /// Folder with labels.jsonl and the pictures that it names [default: the repository's deploy/demo/samples]
    #[arg(long, value_name = "DIR", default_value = SAMPLES, hide_default_value = true)]
    samples: PathBuf,
    /// Error rate to accept among decisions that stay local, 0.005 to 0.05 [default: the bundle's]
    #[arg(long)]
    risk: Option<f64>,
    /// Milliseconds that a decision may take, from the acceptance of its sample on
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    deadline_ms: u64,
    /// Milliseconds from one sample to the next [default: 90 with `--output screen`, else 45]
    #[arg(long, value_name = "MS")]
    pace: Option<u64>,
    /// Seed of the order in which samples come
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to show the run [default: screen on a terminal, else text]
    #[arg(long, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A live screen with keys to cut the cloud off
    Screen,
    /// Lines of progress and a table at the end
    Text,
    /// One JSON object at the end
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let output = flags.output.unwrap_or(match io::stdout().is_terminal() {
        true => Output::Screen,
        false => Output::Text,
    });
    // On the terminal, log lines would tear the screen.
    if output != Output::Screen || !io::stderr().is_terminal() {
        telemetry::init("warn", LogFormat::Text);
    }
    let code = match run(flags, output).await {
        Ok(ended) if ended.is_success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => {
            telemetry::tell(&format!("millgate-demo: {error}"));
            // An error of the output itself is none of what was given.
            ExitCode::from(if error.is::<io::Error>() { FAILED } else { UNUSABLE })
        }
    };
    telemetry::flush();
    code
}

async fn run(flags: Flags, output: Output) -> Result<Ended, Box<dyn std::error::Error>> {
    let deadline = Duration::from_millis(flags.deadline_ms);
    let stage = Stage::start(StageConfig { bundle: flags.bundle, risk: flags.risk, deadline }).await?;
    let mut samples = samples::load(&flags.samples, &stage.naming())?;
    samples::shuffle(&mut samples, flags.seed);
    let pace = flags.pace.unwrap_or(if output == Output::Screen { PACE_ON_SCREEN } else { PACE });
    let plan = Plan::new(samples.len(), Duration::from_millis(pace));
    let facts = stage.facts(samples.len());

    let (performance, audience) = replay::start(stage, samples, plan);
    let ended = match output {
        Output::Screen => screen::show(facts, audience).await,
        Output::Text => progress::tell(facts, audience, &mut io::stdout().lock()).await,
        Output::Json => progress::tell(facts, audience, &mut io::sink()).await,
    };
    performance.close().await;
    let ended = ended?;
    let mut out = io::stdout().lock();
    match output {
        Output::Screen | Output::Text => report::write_text(&mut out, &ended)?,
        Output::Json => report::write_json(&mut out, &ended)?,
    }
    Ok(ended)
}
