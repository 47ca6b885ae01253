//! Bytes as JSON: their text, or where they are no UTF-8 their digits behind a NUL. Text that begins with a NUL is written by
//! its digits too, so that the two cannot be mixed up.

use millgate_shared::digest::hex;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

const BYTES: char = '\0';

pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(BYTES) => serializer.serialize_str(text),
        _ => serializer.serialize_str(&format!("{BYTES}{}", hex(bytes))),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let Some(hex) = text.strip_prefix(BYTES) else { return Ok(text.into_bytes()) };
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).map_err(D::Error::custom)?;
        u8::from_str_radix(pair, 16).map_err(D::Error::custom)
    };
    hex.as_bytes().chunks(2).map(byte).collect()
}
