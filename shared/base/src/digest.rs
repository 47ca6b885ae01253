//! SHA-256 as text: how files, samples and bundles are named.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Writes bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of some bytes, in lower-case hex: how samples are named in records.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
