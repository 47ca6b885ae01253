//! `millgate-edge infer`: decides on files, and prints one record each, in the order given.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use futures_util::stream;
use millgate_shared::deciding::{Mode, are_false_alarms};
use millgate_shared::decision::{Decision, Missing};
use millgate_shared::image::BitDepth;
use millgate_shared::image::region::{self, Region};
use millgate_shared::part::Attributes;
use millgate_shared::shutdown::Tasks;
use millgate_shared::telemetry;
use millgate_shared::wire::Numbers;

use crate::agent::{Agent, AgentConfig, Ask, BytesConfig, StartError};
use crate::engines;
use crate::input::{self, Input, Naming};
use crate::record;
use crate::uplink::upload::{SendConfig, SendForm};
use crate::wishes::{RecipeConfig, Wishes};

use super::complain;
use super::pool::PoolArgs;
use cloud::Cloud;
use summary::{Summary, lacks_cloud};

mod cloud;
mod summary;
mod text;

/// All inputs were decided.
pub const OK: u8 = 0;
/// At least one input could not be decided; the others were.
pub const UNDECIDED: u8 = 2;
/// Bundle or arguments are unusable, so that nothing was decided; or the pool was required and is missing somewhere.
pub const UNUSABLE: u8 = 3;

#[derive(Debug, Clone, Args)]
pub struct InferArgs {
    /// Pictures (PNG, JPEG, BMP, TIFF or GIF), or folders of them
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Bundle that decides: a folder or a .tar.zst
    #[arg(long, env = "MILLGATE_BUNDLE", default_value = "models/factory")]
    pub bundle: PathBuf,
    #[command(flatten)]
    pub pool: PoolArgs,
    /// File of another modality of the one sample FILE, as template=golden.png; may be given several times. Without it
    /// FILE's neighbour `<name>.<modality>.<ending>` is taken, where it is there
    #[arg(long = "part", value_name = "MODALITY=FILE", value_parser = part)]
    pub parts: Vec<(String, PathBuf)>,
    /// Task of the bundle to decide on
    #[arg(long, default_value = "inspect")]
    pub task: String,
    /// When to ask the pool
    #[arg(long, value_enum, default_value_t = ModeArg::Confidence)]
    pub mode: ModeArg,
    /// Names of the experts that answer in mode `pinned`, separated by commas
    #[arg(long, value_name = "EXPERT,…", value_delimiter = ',')]
    pub pinned: Vec<String>,
    /// Error rate to accept among decisions that stay local, 0.005 to 0.05 [default: the bundle's]
    #[arg(long)]
    pub risk: Option<f64>,
    /// Products, or labels as `deeppcb/open`, that may be the answer, separated by commas [default: all of the task's]
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Share of known samples that may be called unknown, 0 to below 1; 0 calls none so [default: the bundle's]
    #[arg(long, value_name = "SHARE")]
    pub false_alarms: Option<f64>,
    /// Form in which a picture goes to the pool
    #[arg(long, value_enum, default_value_t = SendArg::Auto, value_name = "FORM")]
    pub send: SendArg,
    /// Number format of what goes to the pool as a tensor or as features
    #[arg(long, value_enum, default_value_t = DatatypeArg::Fp32)]
    pub datatype: DatatypeArg,
    /// How long to wait for a pool that cannot be reached, as 30s or 2m, each time it is needed; 0s does not wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub wait_cloud: Duration,
    /// Exit with code 3 if a decision wanted the pool and lacks its answer, or if no pool is given
    #[arg(long)]
    pub require_cloud: bool,
    /// How many bits of 16-bit samples count, 8 to 16 [default: what the file says, else what its largest sample needs]
    #[arg(long, value_name = "BITS")]
    pub bit_depth: Option<BitDepth>,
    /// What to look at in a picture, in pixels; may be given several times, and the region that looks least like a part to
    /// accept is decided on [default: all of it]
    #[arg(long = "region", value_name = "LEFT,TOP,WIDTH,HEIGHT", value_parser = region)]
    pub regions: Vec<Region>,
    /// Look at the picture, or at its regions, in tiles of this side in pixels
    #[arg(long, value_name = "PIXELS")]
    pub tile: Option<u32>,
    /// Milliseconds that a decision may take, from the reading of its picture on
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub deadline_ms: u64,
    /// Threads that run models, which is also how many pictures are decided at a time [default: one for each core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// How to write the decisions
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people
    Text,
    /// One JSON object in each line
    Jsonl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// Ask if the local answer's risk is over the certified threshold
    Confidence,
    /// Ask whenever the gate chose an expert that only the pool has
    Gate,
    /// Ask for every sample
    Always,
    /// Ask for no sample
    Never,
    /// Let the experts of --pinned answer, wherever they are, and no others
    Pinned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SendArg {
    /// The smallest form that leaves the pool's answer what it is
    Auto,
    /// The file's bytes, or a smaller lossless form of its pixels
    Raw,
    /// The picture resized and normalised as the expert takes it
    Tensor,
    /// The picture's embedding alone
    Features,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatatypeArg {
    /// 32-bit floating-point numbers, exact
    Fp32,
    /// 16-bit floating-point numbers, half the bytes
    Fp16,
    /// 8-bit integers, a quarter of the bytes
    Int8,
}

impl InferArgs {
    fn send_config(&self) -> SendConfig {
        let default = match self.send {
            SendArg::Auto => SendForm::Auto,
            SendArg::Raw => SendForm::Raw,
            SendArg::Tensor => SendForm::Tensor,
            SendArg::Features => SendForm::Features,
        };
        let datatype = match self.datatype {
            DatatypeArg::Fp32 => Numbers::Fp32,
            DatatypeArg::Fp16 => Numbers::Fp16,
            DatatypeArg::Int8 => Numbers::Int8,
        };
        SendConfig { default, datatype, ..SendConfig::default() }
    }

    fn agent_config(&self, threads: usize) -> AgentConfig {
        AgentConfig {
            bundle: self.bundle.clone(),
            cloud: self.pool.pools(),
            task: self.task.clone(),
            mode: match self.mode {
                ModeArg::Confidence => Mode::Confidence,
                ModeArg::Gate => Mode::Gate,
                ModeArg::Always => Mode::Always,
                ModeArg::Never => Mode::Never,
                ModeArg::Pinned => Mode::Pinned(self.pinned.clone()),
            },
            risk: self.risk,
            deadline: Duration::from_millis(self.deadline_ms),
            grace: Duration::from_millis(10),
            threads,
            queue: 2 * threads,
            bytes: BytesConfig { send: self.send_config(), ..BytesConfig::default() },
            bit_depths: BTreeMap::new(),
            wishes: Wishes {
                recipe: RecipeConfig { false_alarms: self.false_alarms, ..RecipeConfig::default() },
                labels: self.labels.clone(),
                ..Wishes::default()
            },
            engine: engines::usual(),
        }
    }

    /// Why nothing can be decided, with the flag to set.
    fn unusable(error: &StartError) -> String {
        match error.lacks_bundle() {
            true => format!("{error}; name a bundle with --bundle PATH, or MILLGATE_BUNDLE"),
            false => error.to_string(),
        }
    }

    /// What is wrong with the arguments together.
    fn check(&self) -> Result<(), String> {
        if !self.parts.is_empty() && (self.paths.len() != 1 || self.paths[0].is_dir()) {
            return Err("--part goes with exactly one FILE".to_owned());
        }
        if self.require_cloud && self.pool.cloud.is_none() {
            return Err("--require-cloud wants a pool: name it with --cloud".to_owned());
        }
        if self.false_alarms.is_some_and(|share| !are_false_alarms(share)) {
            return Err("--false-alarms must be at least 0 and below 1".to_owned());
        }
        if (self.mode == ModeArg::Pinned) == self.pinned.is_empty() {
            return Err("--pinned names the experts of --mode pinned; the two go together".to_owned());
        }
        Ok(())
    }
}

/// Reads `MODALITY=FILE`.
fn part(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((modality, file)) if !modality.is_empty() && !file.is_empty() => {
            Ok((modality.to_owned(), file.into()))
        }
        _ => Err("is not MODALITY=FILE".to_owned()),
    }
}

/// Reads one region.
fn region(text: &str) -> Result<Region, String> {
    match region::parse(text)?[..] {
        [region] => Ok(region),
        _ => Err("is not LEFT,TOP,WIDTH,HEIGHT".to_owned()),
    }
}

/// Decides on everything; gives the exit code. Errors are of `out` alone.
pub async fn infer(args: InferArgs, out: &mut impl Write) -> io::Result<u8> {
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let tasks = Tasks::new();
    let started = args.check().and_then(|()| {
        Agent::start(args.agent_config(threads), &tasks).map_err(|error| InferArgs::unusable(&error))
    });
    let agent = match started {
        Ok(agent) => agent,
        Err(message) => {
            complain(&message);
            return Ok(UNUSABLE);
        }
    };
    let cloud = Cloud::new(&agent, args.wait_cloud);
    if args.require_cloud {
        let lacks = match &cloud {
            None => Some("decisions in this mode never ask one".to_owned()),
            Some(cloud) if cloud.ready().await => None,
            Some(cloud) => Some(cloud.why()),
        };
        if let Some(why) = lacks {
            complain(&format!("--require-cloud: there is no pool, and nothing was decided: {why}"));
            return Ok(UNUSABLE);
        }
    }
    let inputs = stream::iter(expand(&args.paths, &agent.naming()));
    let looks = Input::default().of_depth(args.bit_depth).looked_at(&args.regions, args.tile).attributes;
    let mut results = inputs
        .map(|path| {
            let (agent, cloud) = (agent.clone(), cloud.as_ref());
            let parts = args.parts.clone();
            let looks = &looks;
            async move { decide_with(cloud, &agent, path?, &parts, looks).await }
        })
        .buffered(threads);

    let epoch = agent.epoch();
    let (mode, manifest) = (&epoch.policy().mode, epoch.manifest());
    let mut summary = Summary::default();
    while let Some(result) = results.next().await {
        summary.take(&result, mode, manifest);
        match (args.output, &result) {
            (Output::Jsonl, Ok(decision)) => record::write_decision(out, decision)?,
            (Output::Jsonl, Err(error)) => record::write_error(out, error, None)?,
            (Output::Text, Ok(decision)) => text::write_decision(out, decision)?,
            (Output::Text, Err(error)) => {
                writeln!(out, "{}\n  not decided: {} ({})", error.path, error.message, error.code)?
            }
        }
        out.flush()?;
    }
    drop(results);
    if summary.inputs() > 1 || !summary.is_whole() {
        match args.output {
            Output::Text => writeln!(out, "{}", summary.text())?,
            // Standard output has nothing but records.
            Output::Jsonl => telemetry::tell(&summary.text()),
        }
    }
    out.flush()?;
    if args.require_cloud && summary.without_cloud() > 0 {
        complain(&format!("--require-cloud: {} decisions are without the pool", summary.without_cloud()));
    }
    let cut = tasks.drain(Duration::from_secs(1)).await;
    if cut > 0 {
        tracing::warn!(cut, "tasks had to be cut off");
    }
    Ok(match (summary.without_cloud(), summary.undecided()) {
        (1.., _) if args.require_cloud => UNUSABLE,
        (_, 1..) => UNDECIDED,
        _ => OK,
    })
}

/// Files and the pictures of directories; what cannot be listed stays, as an error.
fn expand(paths: &[PathBuf], naming: &Naming) -> Vec<Result<PathBuf, record::Undecided>> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(Ok(path.clone()));
            continue;
        }
        match input::walk(path, naming) {
            Ok(files) => all.extend(files.into_iter().map(Ok)),
            Err(error) => all.push(Err(record::Undecided::of_input(path, &error))),
        }
    }
    all
}

/// A decision that lacks the pool because there was no line is made once more when there is one.
async fn decide_with(
    cloud: Option<&Cloud>,
    agent: &Agent,
    path: PathBuf,
    parts: &[(String, PathBuf)],
    looks: &Attributes,
) -> Result<Decision, record::Undecided> {
    let Some(cloud) = cloud else { return decide(agent, &path, parts, looks).await };
    let epoch = agent.epoch();
    let mode = &epoch.policy().mode;
    // In that mode most samples need no pool, and do not wait for one.
    if *mode != Mode::Confidence {
        cloud.ready().await;
    }
    let decision = decide(agent, &path, parts, looks).await?;
    let lacks = lacks_cloud(&decision, mode, epoch.manifest());
    let was_offline = decision.degraded.as_ref().is_some_and(|it| it.reason == Missing::Offline);
    if lacks && (was_offline || !cloud.is_up()) && cloud.ready().await {
        return decide(agent, &path, parts, looks).await;
    }
    Ok(decision)
}

async fn decide(
    agent: &Agent,
    path: &Path,
    parts: &[(String, PathBuf)],
    looks: &Attributes,
) -> Result<Decision, record::Undecided> {
    let mut input = Input::from_file(path, &agent.naming(), parts, None)
        .map_err(|error| record::Undecided::of_input(path, &error))?;
    input.attributes.clone_from(looks);
    agent.decide(input, Ask::default()).await.map_err(|error| record::Undecided {
        path: path.display().to_string(),
        code: error.code(),
        message: error.to_string(),
    })
}
