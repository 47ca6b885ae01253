//! What comes in: pictures and the sample they make.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`index`]: the indices of experts, modalities, tasks and encoders, and lists by them.
//! * [`image`]: pictures, decoded with errors that name what is wrong, resized, and coded for the line.
//! * [`part`]: one modality's value, and its bytes.
//! * [`modality`]: the kinds of parts, each behind one trait.
//! * [`sample`]: one thing to decide on, and what is known of it.

pub mod image;
pub mod index;
pub mod modality;
pub mod part;
pub mod sample;
