//! Tar archives from elsewhere: read within their bounds, or refused.
#![no_main]

use std::io::Read;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use millgate_fuzz::in_proportion;
use millgate_shared::tarball::{Bounds, each};

/// Bytes that the longest name and the longest extended header take while they are read.
const NAMES: usize = 512 << 10;

fuzz_target!(|bytes: &[u8]| {
    let bounds = Bounds { members: 100, bytes: 1 << 20 };
    let mut read = 0;
    let visited = in_proportion(bytes.len(), 8, NAMES, || {
        each(bytes, bounds, |member, content| {
            let copied = std::io::copy(&mut content.take(member.size), &mut std::io::sink())?;
            assert!(copied <= member.size);
            read += copied;
            Ok(ControlFlow::Continue(()))
        })
    });
    assert!(read <= bounds.bytes);
    if let Err(error) = visited {
        assert!(!error.to_string().is_empty());
    }
});
