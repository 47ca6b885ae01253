//! A fault schedule against real processes, and the judge of what they did.
//!
//! ```text
//! feed ──> folder ──> millgate-edge (namespace) ══ bad line ══ millgate-cloud
//!                        │                            ▲             ▲
//!                        ├──> decisions.jsonl         └── plan ─────┘ what breaks when: pure, by seed
//!                        └──> receiver (HTTP)
//! check: samples in, records out. Pure.
//! ```

pub mod books;
pub mod check;
mod director;
pub mod feed;
pub mod folders;
pub mod machine;
mod nobody;
pub mod plan;
pub mod process;
pub mod receiver;
pub mod run;
pub mod site;
pub mod tenant;
pub mod volume;
