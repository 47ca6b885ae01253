//! The engines that a pool can have: each is a file or a crate of its own, and one line of the table here.

use millgate_shared::engine::{Engine, Tract};
use serde::{Deserialize, Deserializer, de};

use super::Engines;
use super::config::Wanted;
use super::home::Home;
use super::onnxruntime::OnnxRuntime;

/// Every engine, the usual one first. After the first two, each is tried where a model asks for none, and taken where it
/// gives the same answers clearly faster.
static ENGINES: &[Entry] = &[
    Entry { name: Tract::NAME, is_here: |_| true, open: Engines::open_tract },
    Entry { name: OnnxRuntime::NAME, is_here: Engines::has_onnxruntime, open: Engines::open_onnxruntime },
    #[cfg(test)]
    super::tests::RENAMED,
];

/// Opens an engine as a model wants it, where it is to live, or says why this pool does not have it.
type Open = fn(&Engines, &Wanted, &Home) -> Result<Box<dyn Engine>, String>;

/// One engine of the table.
pub(super) struct Entry {
    /// Name of the engine in decisions, metrics, configuration and bundles.
    pub(super) name: &'static str,
    /// Whether this pool has it.
    pub(super) is_here: fn(&Engines) -> bool,
    pub(super) open: Open,
}

/// An engine, by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind(usize);

impl Kind {
    pub const TRACT: Self = Self(0);
    pub const ONNX_RUNTIME: Self = Self(1);

    /// `None` if no engine is called that.
    pub(crate) fn named(name: &str) -> Option<Self> {
        ENGINES.iter().position(|entry| entry.name == name).map(Self)
    }

    /// Every engine's name.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        ENGINES.iter().map(|entry| entry.name)
    }

    /// The engines beside tract and ONNX Runtime.
    pub(super) fn others() -> impl Iterator<Item = Self> {
        (2..ENGINES.len()).map(Self)
    }

    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    pub(super) fn entry(self) -> &'static Entry {
        &ENGINES[self.0]
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which engine is to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The fastest one that is believed, measured when the model is loaded.
    #[default]
    Auto,
    Only(Kind),
}

impl Preference {
    /// What `auto` and the engines' names mean; an error says what is known.
    pub(super) fn from_name(name: &str) -> Result<Self, String> {
        match (name, Kind::named(name)) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(kind)) => Ok(Self::Only(kind)),
            (_, None) => {
                let known: Vec<&str> = std::iter::once("auto").chain(Kind::names()).collect();
                Err(format!("`{name}` is none of {}", known.join(", ")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Preference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_name(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
