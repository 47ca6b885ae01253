//! What every process of Millgate shares at its rim: how it ends, what it logs, what it counts.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`output`]: how a command answers. [`quiet`]: a log that cannot be flooded. [`shutdown`]: tasks that drain, and the signals that ask for it. [`telemetry`]: the
//!   log.
//! * [`metrics`]: the page that `/metrics` answers.
//!
//! ```
//! use std::time::Duration;
//!
//! use millgate_rim::shutdown::Tasks;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let tasks = Tasks::new();
//! let token = tasks.token().clone();
//! tasks.spawn(async move { token.cancelled().await });
//! assert_eq!(tasks.drain(Duration::from_secs(1)).await, 0, "every task has ended");
//! # }
//! ```

pub mod metrics;
pub mod output;
pub mod quiet;
pub mod shutdown;
pub mod telemetry;
