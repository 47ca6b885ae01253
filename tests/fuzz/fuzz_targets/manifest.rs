//! `bundle.toml`: parsed and checked, or refused with the key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_shared::bundle::manifest::Manifest;

fuzz_target!(|text: &str| {
    if let Err(error) = Manifest::parse(text) {
        assert!(!error.to_string().is_empty());
    }
});
