//! Bundles that change while agent and pool run.

mod agent;
mod pool;
