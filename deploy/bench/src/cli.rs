//! What can be asked.

use millgate_shared::output::Output;
use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::LoadError;
use crate::requests::Shaping;

const EXAMPLES: &str = "Examples:
  millgate-load closed --model dense --concurrency 1,8,64
  millgate-load open --model series:2 --model text:1 --rate 800 --deadline-ms 50
  millgate-load open --model dense --rate 500 --deadline-ms 50 --burst-rate 4000 --seconds 20
  millgate-load engine --file models/dense/1/model.onnx --threads 1,2 --batch 1,8,32

The tool works with any server that speaks the Open Inference Protocol over gRPC: Millgate, Triton, MLServer, OpenVINO.
It makes inputs from the model's metadata. Requests that are broken on purpose (--poison) are counted apart from the others.";

/// Measures latency, throughput and goodput of servers of the Open Inference Protocol over gRPC.
#[derive(Debug, Parser)]
#[command(name = "millgate-load", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a server with clients that each send a request when the one before was answered
    #[command(
        after_help = "Example:\n  millgate-load closed --model dense --concurrency 1,8,64 --seconds 10"
    )]
    Closed(ClosedArgs),
    /// Load a server at a rate, at random times, whether or not answers come; latency counts from when each request was due
    #[command(
        after_help = "Example:\n  millgate-load open --model dense:3 --model text:1 --rate 900 --deadline-ms 50"
    )]
    Open(OpenArgs),
    /// Wait until a server answers and models are ready
    #[command(after_help = "Example:\n  millgate-load ready --model dense --patience 60")]
    Ready(ReadyArgs),
    /// Unload and load a model again and again, and watch the server's memory
    #[command(after_help = "Example:\n  millgate-load reload --model dense --rounds 1000 --pid 4242")]
    Reload(ReloadArgs),
    /// Measure the built-in engine in this process, without a server
    #[command(after_help = "Example:\n  millgate-load engine --file model.onnx --threads 1,2 --batch 1,8,32")]
    Engine(EngineArgs),
    /// Run the built-in engine in this process on models and inputs that a script has laid out
    #[command(after_help = "Example:\n  millgate-load cases --dir target/node-cases")]
    Cases(CasesArgs),
}

/// The server to load, and how its results are written.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// URL of the server's gRPC port
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    pub url: String,
    /// How to write the results
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How inputs are made where the model leaves it open.
#[derive(Debug, Clone, clap::Args)]
pub struct InputArgs {
    /// Rows of each request's inputs, where the model leaves their first axis open
    #[arg(long, default_value_t = 1)]
    pub rows: u32,
    /// Whole shape of an input, as INPUT:1,3,224,224; may be given several times. Other open axes are 1
    #[arg(long, value_name = "INPUT:AXES")]
    pub shape: Vec<String>,
    /// Bound of the integers that inputs are filled with: 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub integers_below: usize,
    /// How many different requests to make for each model
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub distinct: usize,
}

/// Flags of both kinds of load.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Model to ask, with the weight of its share of the requests after a colon; may be given several times
    #[arg(long, value_name = "NAME[:WEIGHT]", required = true)]
    pub model: Vec<String>,
    /// How many connections to open; requests take them in turn
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Deadline of each request in milliseconds; goodput counts what is answered within it [default: none]
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<f64>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds of load before the measurement begins
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub warm_up: f64,
    /// Share of requests that are broken on purpose, 0 to 1: not a number, a byte too few, an axis too long
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub poison: f64,
    /// Send each request alone first, and count answers that differ from that later on
    #[arg(long)]
    pub verify: bool,
    /// Report the means of the numbers that the server sends along with its answers
    #[arg(long)]
    pub phases: bool,
    /// Seed of inputs, order and times
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of this client's runtime
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ClosedArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Requests in flight; several numbers are run one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    pub concurrency: Vec<usize>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct OpenArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Requests per second; several numbers are run one after the other
    #[arg(long, value_name = "R,…", value_delimiter = ',', required = true)]
    pub rate: Vec<f64>,
    /// Requests per second within bursts [default: no bursts]
    #[arg(long, value_name = "R")]
    pub burst_rate: Option<f64>,
    /// Length of a burst in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200.0)]
    pub burst_ms: f64,
    /// Milliseconds from the start of one burst to the start of the next
    #[arg(long, value_name = "MS", default_value_t = 2000.0)]
    pub burst_every_ms: f64,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ReadyArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Model that must be ready; may be given several times [default: the server alone]
    #[arg(long, value_name = "NAME")]
    pub model: Vec<String>,
    /// Seconds to wait before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub patience: f64,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Model to unload and load
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// How many times to unload and load it
    #[arg(long, default_value_t = 1000)]
    pub rounds: usize,
    /// Seconds after which no further round begins
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    pub most_seconds: f64,
    /// Process id of the server, whose memory is watched together with that of its child processes
    #[arg(long)]
    pub pid: u32,
}

#[derive(Debug, Clone, clap::Args)]
pub struct EngineArgs {
    /// ONNX file to run
    #[arg(long)]
    pub file: PathBuf,
    /// Threads with a session each; several numbers are run one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    pub threads: Vec<usize>,
    /// Rows of each run; several numbers are run one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    pub batch: Vec<usize>,
    /// Seconds that each combination is measured
    #[arg(long, default_value_t = 0.5)]
    pub seconds: f64,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// How to write the results
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Clone, clap::Args)]
pub struct CasesArgs {
    /// Folder that holds a folder for each case
    #[arg(long)]
    pub dir: PathBuf,
    /// Load each model for the shapes of its inputs alone, as a bundle's models are
    #[arg(long)]
    pub fixed_shapes: bool,
}

impl InputArgs {
    pub fn shaping(&self) -> Result<Shaping, LoadError> {
        let mut shapes = BTreeMap::new();
        for text in &self.shape {
            let refuse = || LoadError::Flag {
                flag: "--shape",
                message: format!("`{text}` is not like INPUT:1,3,224,224"),
            };
            let (name, axes) = text.rsplit_once(':').ok_or_else(refuse)?;
            let axes: Result<Vec<i64>, _> = axes.split(',').map(str::parse).collect();
            shapes.insert(name.to_owned(), axes.map_err(|_| refuse())?);
        }
        Ok(Shaping {
            rows: self.rows.into(),
            shapes,
            integers_below: self.integers_below,
            distinct: self.distinct,
        })
    }
}

impl LoadArgs {
    /// Names and weights; and refuses what cannot be run.
    pub fn models(&self) -> Result<Vec<(String, f64)>, LoadError> {
        let refuse = |flag, message: &str| LoadError::Flag { flag, message: message.to_owned() };
        for (flag, value) in [("--seconds", self.seconds), ("--deadline-ms", self.deadline_ms.unwrap_or(1.0))]
        {
            if !(value > 0.0 && value < 1e6) {
                return Err(refuse(flag, "must be more than 0"));
            }
        }
        if !(0.0..1e6).contains(&self.warm_up) {
            return Err(refuse("--warm-up", "must be 0 or more"));
        }
        if !(0.0..=1.0).contains(&self.poison) {
            return Err(refuse("--poison", "must be from 0 to 1"));
        }
        if self.connections == 0 || self.threads == 0 {
            return Err(refuse("--connections", "as --threads, must be 1 or more"));
        }
        let split = |text: &String| match text.rsplit_once(':') {
            None => Ok((text.clone(), 1.0)),
            Some((name, weight)) => {
                let weight = weight.parse().ok().filter(|weight: &f64| *weight > 0.0 && weight.is_finite());
                let weight = weight.ok_or_else(|| refuse("--model", "the weight must be a number over 0"))?;
                Ok((name.to_owned(), weight))
            }
        };
        self.model.iter().map(split).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(flags: &[&str]) -> LoadArgs {
        let all = ["millgate-load", "closed"].iter().chain(flags);
        match Cli::parse_from(all).command {
            Command::Closed(args) => args.load,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn models_have_weights_and_inputs_shapes() {
        let load = closed(&["--model", "a", "--model", "b:2.5", "--shape", "x:1,3"]);
        assert_eq!(load.models().unwrap(), [("a".to_owned(), 1.0), ("b".to_owned(), 2.5)]);
        assert_eq!(load.inputs.shaping().unwrap().shapes["x"], [1, 3]);
    }

    #[test]
    fn what_cannot_be_run_names_the_flag() {
        for (flags, flag) in [
            (["--model", "a:0"].as_slice(), "--model"),
            (&["--model", "a", "--poison", "2"], "--poison"),
            (&["--model", "a", "--seconds", "0"], "--seconds"),
            (&["--model", "a", "--warm-up=-1"], "--warm-up"),
            (&["--model", "a", "--connections", "0"], "--connections"),
        ] {
            assert!(closed(flags).models().unwrap_err().to_string().contains(flag), "{flag}");
        }
        assert!(closed(&["--model", "a", "--shape", "x"]).inputs.shaping().is_err());
    }
}
