//! Runs ONNX models, behind one small trait: an [`Engine`] loads a [`Model`], each thread that computes holds a
//! [`Session`] of it. No other crate names tract.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`ending`]: how the process of a model ended.
//! * `error`: why a model cannot be loaded or run. [`graph`]: what a file's operations show without running them. `port`:
//!   inputs and outputs.
//! * [`external`]: weights that lie in files beside the model's. `sizes`: how large values become. `unfolded`: what a file
//!   takes once it is read.
//! * `onnx`: a file's bytes as ONNX's own messages. [`zipmap`]: outputs that are no tensors, made such.
//! * [`signature`]: what a file says of itself, whatever will run it.
//! * `running`: the trait.
//! * [`fixed`]: a model that takes one sample of known shapes, as a bundle's do. `tract`: the engine that is always there.
//!   Other crates may bring others.
//!
//! ```no_run
//! use millgate_array::{Array, Values};
//! use millgate_engine::{Engine, Model, OnnxFile, Shapes, Tract};
//!
//! let file = OnnxFile::read(std::fs::read("model.onnx")?.into(), None)?;
//! let model = Tract.load(&file, Shapes::Any)?;
//! let mut session = model.session()?;
//! let outputs = session.run(vec![Array::new(vec![1, 4], Values::Fp32(vec![0.0; 4]))?])?;
//! println!("{:?}", outputs[0].shape());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use ending::{Cause, Doing, Ending};
pub use error::{EngineError, OPSETS, REMEDY};
pub use port::{Axis, Port};
pub use running::{Ender, Engine, Model, OnnxFile, Session, Shapes, Took};
pub use signature::Signature;
pub use tract::Tract;
/// The messages of the ONNX file format.
pub use tract_onnx::pb;

pub mod ending;
mod error;
pub mod external;
pub mod fixed;
pub mod graph;
mod onnx;
mod port;
mod running;
pub mod signature;
mod sizes;
mod tract;
mod unfolded;
pub mod zipmap;
