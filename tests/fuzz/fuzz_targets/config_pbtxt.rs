//! A model's `config.pbtxt`: parsed, and held against a signature, or refused.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millgate_shared::engine::Signature;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(millgate_fuzz::signature);

fuzz_target!(|text: &str| {
    if let Err(message) = millgate_cloud::fuzzing::config(text, &SIGNATURE) {
        assert!(!message.is_empty());
    }
});
