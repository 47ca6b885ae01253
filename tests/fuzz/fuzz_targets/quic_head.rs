//! Bytes as the head or the trailers of a call over QUIC: refused, or the same after they are written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_shared::transport::quic::blocks::PREFIX;
use millgate_shared::transport::quic::head::{RequestHead, ResponseHead, decode_trailers, encode_trailers};

fuzz_target!(|bytes: &[u8]| {
    // A header of four bytes takes some dozens in memory, and a map of them as many again.
    millgate_fuzz::in_proportion(bytes.len(), 128, 1 << 16, || {
        // What can be read can be written: libFuzzer's longest input is no longer than a head may be.
        if let Ok(head) = RequestHead::decode(bytes) {
            let again = RequestHead::encode(head.path.as_str(), &head.headers).expect("a request's head");
            assert_eq!(RequestHead::decode(&again[PREFIX..]), Ok(head));
        }
        if let Ok(head) = ResponseHead::decode(bytes) {
            let again = ResponseHead::encode(head.status, &head.headers).expect("an answer's head");
            assert_eq!(ResponseHead::decode(&again[PREFIX..]), Ok(head));
        }
        if let Ok(trailers) = decode_trailers(bytes) {
            let again = encode_trailers(&trailers).expect("trailers");
            assert_eq!(decode_trailers(&again[PREFIX..]), Ok(trailers));
        }
    });
});
