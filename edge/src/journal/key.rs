//! What a sample of a source is known by, and what is remembered of it. Both are the source's own bytes: nothing else reads
//! them.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use millgate_shared::digest::hex;
use serde::{Deserialize, Serialize};

use super::text;

/// What a source knows a sample by, over restarts too: a file's path below its folder, a message's topic and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(#[serde(with = "text")] Vec<u8>);

impl Key {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Path> for Key {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

/// Writes the key's text, or its bytes as digits where it has control characters or is no UTF-8.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(char::is_control) => f.write_str(text),
            _ => write!(f, "0x{}", hex(&self.0)),
        }
    }
}

/// What a source remembers of a sample, to tell it from another of the same key: a file's size and times, a message's
/// digest. May be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark(#[serde(with = "text")] Vec<u8>);

impl Mark {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A sample that was decided in an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub key: Key,
    pub mark: Mark,
}

/// The sample that a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    pub source: Arc<str>,
    pub key: Key,
    pub mark: Mark,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_text_where_they_are_and_kept_whatever_they_are() {
        for (bytes, shown) in [
            (&b"in/a.png"[..], "in/a.png"),
            (&b"\xff\x00"[..], "0xff00"),
            (&b"\0a"[..], "0x0061"),
            (&b"line\nfeed"[..], "0x6c696e650a66656564"),
            (&b""[..], ""),
        ] {
            let key = Key::new(bytes);
            assert_eq!(key.to_string(), shown);
            let text = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key, "{text}");
        }
        assert!(serde_json::from_str::<Key>("\"\\u0000zz\"").is_err());
    }
}
