//! What the settings of every room are made with: a refusal that names its key, and tables of which there are several kinds.

use std::net::SocketAddr;
use std::time::Duration;

/// What is wrong with one key of `edge.toml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct Refused {
    /// Dotted, from the top of the file: `sources[0].settle`.
    pub key: String,
    pub message: String,
}

impl Refused {
    /// Names the key from further up: `settle` becomes `sources[0].settle`.
    pub(crate) fn below(self, table: &str) -> Self {
        Self { key: format!("{table}.{}", self.key), message: self.message }
    }
}

/// Refuses a key.
pub(crate) fn refuse(key: impl Into<String>, message: impl Into<String>) -> Result<(), Refused> {
    Err(Refused { key: key.into(), message: message.into() })
}

/// Refuses a duration that is zero.
pub(crate) fn not_zero(key: &str, duration: Duration) -> Result<(), Refused> {
    if duration.is_zero() { refuse(key, "must be longer than 0") } else { Ok(()) }
}

/// Refuses to listen beyond loopback where that is not said to be meant; `section` is the table that `listen` stands in.
pub(crate) fn check_listen(section: &str, listen: SocketAddr, is_allowed: bool) -> Result<(), Refused> {
    if listen.ip().is_loopback() || is_allowed {
        return Ok(());
    }
    let message = format!(
        "{listen} is not loopback, and what is said there is neither encrypted nor authenticated; \
         set `{section}.plaintext_beyond_loopback = true` if that is meant"
    );
    refuse(format!("{section}.listen"), message)
}

/// Declares the kinds of a table whose key `type` tells them apart, each by the name of its variant in lower case. Whatever
/// is done with one goes through the trait, which its settings implement: nothing else enumerates the kinds.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident, $trait:ident: $($(#[$of:meta])* $kind:ident($settings:ty)),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[serde(tag = "type", rename_all = "lowercase")]
        pub enum $name {
            $($(#[$of])* $kind($settings)),+
        }

        impl $name {
            /// What can be done with it, whichever kind it is.
            pub(crate) fn settings(&self) -> &dyn $trait {
                match self {
                    $($(#[$of])* Self::$kind(settings) => settings),+
                }
            }
        }
    };
}

pub(crate) use kinds;

/// The tables of a kind that `deploy/edge/edge.toml` shows as examples, for the tests that keep those and the settings equal.
#[cfg(test)]
pub(crate) fn shown<T: serde::de::DeserializeOwned>(list: &str, kind: &str) -> Vec<T> {
    let text = shipped();
    let file: serde_json::Value = millgate_shared::toml_file::parse("edge.toml", &text).unwrap();
    let tables = file[list].as_array().unwrap().iter();
    let of_kind = tables.filter(|table| table["type"] == kind).map(|table| {
        let mut table = table.clone();
        table.as_object_mut().unwrap().remove("type");
        serde_json::from_value(table).unwrap()
    });
    of_kind.collect()
}

/// The shipped edge.toml, with the lines that show an example or an optional key (`#key = …`) taken in as well.
#[cfg(test)]
pub(crate) fn shipped() -> String {
    let lines = include_str!("../../deploy/edge/edge.toml").lines();
    let shown =
        |line: &'static str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
    lines.map(shown).collect::<Vec<_>>().join("\n")
}
