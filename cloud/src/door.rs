//! The pool's doors: what an operator may set of them, and how many connections each of them takes. What they are made of is
//! [`millgate_shared::door`], which the agent has too.

pub(crate) mod bounds;
pub(crate) mod config;

pub(crate) use millgate_shared::door::peer;
