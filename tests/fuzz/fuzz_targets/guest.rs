//! What a worker process says of a run, and the memory that it shares: read within its bounds, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_cloud::fuzzing::guest;
use millgate_fuzz::in_proportion;

/// Bytes that the smallest memory, and an answer's own structure, take.
const AT_LEAST: usize = 256 << 10;

fuzz_target!(|parts: (&[u8], &[u8])| {
    let (said, memory) = parts;
    let read = in_proportion(said.len() + memory.len(), 64, AT_LEAST, || guest(said, memory));
    if let Err(error) = read {
        assert!(!error.is_empty());
    }
});
