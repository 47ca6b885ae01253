//! Bytes as a `ModelInferRequest`: bounded, decoded, converted, held against a signature; and back.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millgate_cloud::fuzzing;
use millgate_shared::engine::Signature;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(millgate_fuzz::signature);

fuzz_target!(|bytes: &[u8]| {
    LazyLock::force(&SIGNATURE);
    // Two bytes may be an empty input of some 300 in a list that doubles; no more than 16,384 of them.
    let decoded = millgate_fuzz::in_proportion(bytes.len(), 1000, 1 << 16, || fuzzing::decode(bytes));
    let Ok(request) = decoded else { return };
    millgate_fuzz::in_proportion(bytes.len(), 1000, 1 << 16, || {
        let _refused = fuzzing::open_inference(request, &SIGNATURE).is_err();
    });
});
