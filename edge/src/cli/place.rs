//! Which agent a command is about: by its configuration, or by the folder of its state. It need not run.

use std::path::PathBuf;

use clap::Args;
use millgate_shared::output::Output;

use super::{UNUSABLE, complain};
use crate::config::EdgeConfig;

/// Neither was given.
const MISSING: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct Place {
    /// Path of edge.toml
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Folder of the agent's state; overrides `state_dir` of the configuration
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Write the result as text for people or as JSON
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    pub(super) output: Output,
}

impl Place {
    /// The folder of the agent's state, and its configuration where that was named. Says what is wrong, and gives the exit
    /// code for it.
    pub(super) fn find(&self) -> Result<(PathBuf, Option<EdgeConfig>), u8> {
        let config = self.config.as_deref().map(EdgeConfig::load).transpose();
        let config = config.map_err(|error| {
            complain(&error);
            UNUSABLE
        })?;
        match self.state_dir.clone().or_else(|| config.as_ref().map(|config| config.state_dir.clone())) {
            Some(dir) => Ok((dir, config)),
            None => {
                complain(&"either --config or --state-dir is needed");
                Err(MISSING)
            }
        }
    }
}
