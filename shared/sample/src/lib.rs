//! What comes in: pictures and the sample they make.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`index`]: the indices of experts, modalities, tasks and encoders, and lists by them.
//! * [`image`]: pictures, decoded with errors that name what is wrong, resized, and coded for the line.
//! * [`part`]: one modality's value, and its bytes.
//! * [`modality`]: the kinds of parts, each behind one trait.
//! * [`sample`]: one thing to decide on, and what is known of it.
//!
//! ```no_run
//! use millgate_sample::index::By;
//! use millgate_sample::modality::{MODALITIES, Spec};
//! use millgate_sample::part::{Limits, Part};
//! use millgate_sample::sample::read;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut front: Spec = toml::from_str("name = 'front'\nkind = 'image'\nunit = 'grey level'")?;
//! front.resolve(MODALITIES).map_err(|refused| refused.message)?;
//! let part = Part::file("front", std::fs::read("part.png")?);
//! let read = read(&By::from([front]), &[part], &Limits::default())?;
//! println!("{} notes on {}", read.notes.len(), read.sha256);
//! # Ok(())
//! # }
//! ```

pub mod image;
pub mod index;
pub mod modality;
pub mod part;
pub mod sample;
