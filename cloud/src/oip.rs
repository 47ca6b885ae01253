//! The Open Inference Protocol, version 2: its messages as our requests and answers. The calls are in `api`.

pub(crate) mod contents;
pub(crate) mod convert;
pub(crate) mod describe;
pub(crate) mod json;
pub(crate) mod settings;
