//! A capture file of what was put on the line, in the classic pcap format, for tcpdump, Wireshark and tests.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// Bare IP packets.
const LINKTYPE_RAW: u32 = 101;
const MAGIC: u32 = 0xa1b2_c3d4;

#[derive(Debug)]
pub(super) struct Capture {
    out: BufWriter<File>,
}

impl Capture {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        out.write_all(&MAGIC.to_ne_bytes())?;
        // Version 2.4, UTC, no accuracy, packets of up to 64 KiB.
        out.write_all(&2_u16.to_ne_bytes())?;
        out.write_all(&4_u16.to_ne_bytes())?;
        for word in [0, 0, 65_535, LINKTYPE_RAW] {
            out.write_all(&word.to_ne_bytes())?;
        }
        Ok(Self { out })
    }

    /// `at` is the time since 1970.
    pub(super) fn write(&mut self, at: Duration, packet: &[u8]) -> io::Result<()> {
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        for word in [seconds, at.subsec_micros(), len, len] {
            self.out.write_all(&word.to_ne_bytes())?;
        }
        self.out.write_all(packet)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The packets of a file that `Capture` wrote.
pub fn read(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path)?;
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut packets = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(16) {
        let len = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((packet, after)) = after.split_at_checked(len) else { break };
        packets.push(packet.to_vec());
        rest = after;
    }
    Ok(packets)
}
