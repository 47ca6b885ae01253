//! Flags that name a pool and this device's certificate, for commands without a configuration.

use std::path::PathBuf;

use clap::Args;

use crate::identity::{Identity, IdentityConfig};
use crate::uplink::Pools;

#[derive(Debug, Clone, Default, Args)]
pub struct PoolArgs {
    /// URL of the pool to ask when the local answer is not sure enough: https://HOST:PORT, or http:// on loopback
    #[arg(long, env = "MILLGATE_CLOUD", value_name = "URL")]
    pub cloud: Option<String>,
    /// Folder in which `millgate-edge enroll` keeps this device's certificate, needed for https:// [default: `identity.dir`
    /// of the configuration, else /var/lib/millgate/identity]
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
    /// Allow http:// to another machine, although anyone on the way may read and alter what is said
    #[arg(long)]
    pub plaintext_beyond_loopback: bool,
}

impl PoolArgs {
    /// Reads the device's files; without them only a pool with plain text can be reached, and the log says so.
    pub(crate) fn pools(&self) -> Option<Pools> {
        let url = self.cloud.clone()?;
        let mut config = IdentityConfig::default();
        self.identity.iter().for_each(|dir| config.dir.clone_from(dir));
        let identity = url.starts_with("https://").then(|| Identity::open_or_bare(&config));
        let plaintext_beyond_loopback = self.plaintext_beyond_loopback;
        Some(Pools { identity, plaintext_beyond_loopback, ..Pools::from(url) })
    }
}
