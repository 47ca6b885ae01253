//! What an ONNX file says of itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_shared::engine::signature;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = signature::read(bytes) {
        let _may = read.may_batch();
        for port in read.inputs.iter().chain(&read.outputs) {
            assert!(port.wire_shape().iter().all(|axis| *axis >= -1));
        }
    }
});
