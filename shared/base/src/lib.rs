//! What every crate of Millgate may stand on: it needs no runtime, and knows nothing of samples and decisions.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`bounded`]: files, read within bounds. [`digest`]: SHA-256 as text. [`files`]: files that are replaced whole.
//!   [`memory`]: what may still be taken of it. [`panics`]: panics of code that is not ours. [`tarball`]: archives, within
//!   bounds. [`trouble`]: whose an I/O error is.
//! * [`text_file`]: text, read with errors that say what is wrong.
//! * [`toml_file`]: settings, read with errors that name the key.
//!
//! ```
//! use millgate_base::{files, text_file};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("state/name");
//! files::replace(&path, b"press-3", files::PRIVATE)?;
//! files::replace(&path, b"press-4", files::PRIVATE)?;
//! assert_eq!(text_file::read(&path)?, "press-4");
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod bounded;
pub mod digest;
pub mod files;
pub mod memory;
pub mod panics;
pub mod tarball;
pub mod text_file;
pub mod toml_file;
pub mod trouble;
