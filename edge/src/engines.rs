//! The engines that an agent can run models with: each is a room or a crate of its own, and one line here.

use millgate_shared::engine::{Engine, Tract};

/// The first is the one that an agent has whose configuration names none.
static ENGINES: [&dyn Engine; 1] = [&Tract];

/// The engine of an agent whose configuration names none.
pub fn usual() -> &'static dyn Engine {
    ENGINES[0]
}

/// The engine of this name; `None` if there is none.
pub fn named(name: &str) -> Option<&'static dyn Engine> {
    ENGINES.into_iter().find(|engine| engine.name() == name)
}

/// The names that [`named`] knows.
pub fn names() -> Vec<&'static str> {
    ENGINES.into_iter().map(Engine::name).collect()
}
