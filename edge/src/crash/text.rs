//! A path as JSON: its text, or where it is no UTF-8 its bytes. No path has a NUL, so that the two cannot be mixed up.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

const BYTES: &str = "\0";

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => {
            let hex = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}"));
            serializer.serialize_str(&std::iter::once(BYTES.to_owned()).chain(hex).collect::<String>())
        }
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    let Some(hex) = text.strip_prefix(BYTES) else { return Ok(PathBuf::from(text)) };
    let digits: Vec<u8> = hex.bytes().collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).map_err(D::Error::custom)?;
        u8::from_str_radix(pair, 16).map_err(D::Error::custom)
    };
    let bytes: Result<Vec<u8>, _> = digits.chunks(2).map(byte).collect();
    Ok(PathBuf::from(OsString::from_vec(bytes?)))
}
