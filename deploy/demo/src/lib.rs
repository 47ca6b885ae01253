//! The demo: a pool and an agent in one process, on recorded factory images, with a cable between them that is pulled.
//!
//! ```text
//! samples ─> replay ─┬─> stage: agent ══ link (the cable) ══ pool     the decision, timed
//!                    ├─> reference: the agent alone                   what the edge would have said
//!                    └─> reference: the pool alone, past the link     what the cloud would have said
//!                    │
//!                 events ─> tally ─> report (text, JSON)
//!                              └──> screen
//! ```
//!
//! * [`samples`]: recorded images with their labels. [`poison`]: files that are broken on purpose.
//! * [`link`]: a TCP relay that can be cut; the system tests use it too.
//! * [`stage`]: pool, link and agent, started and drained. [`reference`](mod@reference): both sides asked alone.
//! * [`replay`]: the run: what is sent when, what is measured. [`tally`]: what it comes to; pure.
//! * [`report`], [`progress`]: without a terminal. [`screen`]: with one.

pub mod link;
pub mod poison;
pub mod progress;
pub mod reference;
pub mod replay;
pub mod report;
pub mod samples;
pub mod screen;
pub mod stage;
pub mod tally;
