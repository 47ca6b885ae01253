//! Bytes as a whole stream of gRPC over QUIC, cut anywhere: the same pieces however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_shared::transport::quic::blocks::{BlockError, Blocks, Piece, Side};

// A byte for the side, two for where to cut, then the stream.
fuzz_target!(|bytes: &[u8]| {
    let Some(([side, cut @ ..], stream)) = bytes.split_first_chunk::<3>() else { return };
    let side = if side % 2 == 0 { Side::Request } else { Side::Response };
    let whole = read(side, &[stream]);
    let (first, rest) = stream.split_at(usize::from(u16::from_be_bytes(*cut)) % (stream.len() + 1));
    assert_eq!(read(side, &[first, rest]), whole);
    if let Ok((heads, body, _)) = whole {
        assert!(heads.len() == 1 && body.len() < stream.len());
    }
});

type Read = (Vec<Vec<u8>>, Vec<u8>, Option<Vec<u8>>);

fn read(side: Side, parts: &[&[u8]]) -> Result<Read, BlockError> {
    let mut blocks = Blocks::new(side);
    let (mut heads, mut body, mut trailers) = (Vec::new(), Vec::new(), None);
    for part in parts {
        let mut input = bytes::Bytes::copy_from_slice(part);
        while let Some(piece) = blocks.next(&mut input)? {
            match piece {
                Piece::Head(head) => heads.push(head.to_vec()),
                Piece::Body(bytes) => body.extend(bytes),
                Piece::Trailers(bytes) => trailers = Some(bytes.to_vec()),
            }
        }
    }
    blocks.finish()?;
    Ok((heads, body, trailers))
}
