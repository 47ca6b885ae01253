//! `[holding]`: what callers may hold of the pool.

use serde::Deserialize;

/// `[holding]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldingConfig {
    /// Memory in MiB that all messages together may take, from their first byte until they are answered and the answer is sent;
    /// 0: a quarter of what the machine, the control group and `ulimit` leave at the start. Default 0.
    pub memory_mib: u64,
    /// Calls that one caller (a device, an API token, an address) may have open at a time, on all of its connections.
    /// Default 4096.
    pub calls_per_caller: u32,
}

impl Default for HoldingConfig {
    fn default() -> Self {
        Self { memory_mib: 0, calls_per_caller: 4096 }
    }
}

impl HoldingConfig {
    /// Least memory in MiB that can be set: with less no message of a usual size gets in.
    pub const LEAST_MIB: u64 = 16;
    /// Most memory in MiB that can be set: 1 EiB, which no machine has.
    pub const MOST_MIB: u64 = 1 << 40;

    /// What cannot be used: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.memory_mib != 0 && !(Self::LEAST_MIB..=Self::MOST_MIB).contains(&self.memory_mib) {
            let message = format!("must be 0 or {} to {} (MiB)", Self::LEAST_MIB, Self::MOST_MIB);
            return Err(("holding.memory_mib", message));
        }
        match self.calls_per_caller {
            0 => Err(("holding.calls_per_caller", "must be at least 1".to_owned())),
            _ => Ok(()),
        }
    }
}
