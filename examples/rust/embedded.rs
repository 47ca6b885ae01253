//! An agent inside another program: `cargo run --release -p millgate-examples --example embedded -- BUNDLE PICTURE…`.
//!
//! The agent loads the small experts of the bundle, decides in this process, and asks a pool only where it is told of one.
//! Files, sinks and the spool belong to the service (`millgate-edge run`); this is the decision alone.

#![expect(clippy::print_stdout, reason = "an answer is what this program is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use millgate_edge::agent::{Agent, AgentConfig, Ask, BytesConfig};
use millgate_edge::input::Input;
use millgate_shared::deciding::Mode;
use millgate_shared::shutdown::Tasks;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundle = arguments.next().ok_or("usage: embedded BUNDLE PICTURE...")?;
    let config = AgentConfig {
        bundle: bundle.into(),
        // `Some("http://pool:8001".to_owned().into())` lets the agent ask for what it is not sure of.
        cloud: None,
        task: "inspect".to_owned(),
        mode: Mode::Confidence,
        risk: Some(0.02),
        deadline: Duration::from_millis(250),
        grace: Duration::from_millis(10),
        threads: 1,
        queue: 16,
        bytes: BytesConfig::default(),
        bit_depths: BTreeMap::new(),
        wishes: Default::default(),
        engine: millgate_edge::engines::usual(),
    };
    // Whatever the agent spawns runs here, and ends when this is drained.
    let tasks = Tasks::new();
    // Loads models and runs the bundle's golden samples: not a thing for an asynchronous thread.
    let agent = {
        let tasks = tasks.clone();
        tokio::task::spawn_blocking(move || Agent::start(config, &tasks)).await??
    };
    for picture in arguments {
        let input = Input::from_file(Path::new(&picture), &agent.naming(), &[], None)?;
        let decision = agent.decide(input, Ask::default()).await?;
        let (label, probability) = (&decision.verdict.label, decision.verdict.probability.unwrap_or(0.0));
        println!("{picture}: {label} {probability:.3}, {}", decision.why.rule);
    }
    tasks.drain(Duration::from_secs(1)).await;
    Ok(())
}
