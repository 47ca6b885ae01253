//! Bytes as a body over HTTP: two bytes say how long the JSON head is, or that all is JSON; tensors follow it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_cloud::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, body)) = bytes.split_first_chunk::<2>() else { return };
    let head = match u16::from_le_bytes(*length) {
        u16::MAX => None,
        length => Some(usize::from(length)),
    };
    // A list of JSON takes two bytes for an element that takes some dozens in memory.
    millgate_fuzz::in_proportion(bytes.len(), 1000, 1 << 16, || {
        let _refused = fuzzing::rest(head, body.to_vec().into()).is_err();
    });
});
