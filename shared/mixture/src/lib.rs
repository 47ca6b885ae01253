//! Runs a bundle's models, and with them a sample's way to a decision.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`embedding`]: what encoders make of a sample. [`driver`]: one sample's way to its verdict, over experts that run
//!   wherever they run.
//! * [`inputs`]: what models are given. [`novelty`]: a sample beside the known ones of its product.
//!   [`looks`]: whether its pictures look as they should.
//! * [`runner`]: a bundle's models with one thread's state; turns samples into scores and answers.
//! * [`workers`]: the threads that run models, behind one bounded queue. [`local`]: a sample's visit to such a thread.
//! * [`proof`]: golden samples and variants, run before a bundle is used.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use millgate_bundle::Bundle;
//! use millgate_engine::Tract;
//! use millgate_mixture::proof::golden;
//! use millgate_mixture::runner::{Holding, Models};
//! use millgate_mixture::workers::Workers;
//!
//! let bundle = Bundle::open(Path::new("models/factory"))?;
//! let models = Arc::new(Models::load(&bundle, Holding::Edge, &Tract)?);
//! println!("{:?}", golden::check(&bundle, &models)?);
//! let workers = Workers::start(&models, 2, 64)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod driver;
pub mod embedding;
pub mod inputs;
pub mod local;
pub mod looks;
pub mod novelty;
pub mod proof;
pub mod runner;
pub mod workers;
