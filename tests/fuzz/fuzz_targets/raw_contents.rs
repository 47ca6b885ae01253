//! Raw contents of every datatype, BYTES above all: read in proportion, joined, split, and written as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millgate_shared::array::{Array, Datatype};

fuzz_target!(|given: (u8, Vec<usize>, Vec<u8>)| {
    let (datatype, mut shape, raw) = given;
    let datatype = Datatype::ALL[usize::from(datatype) % Datatype::ALL.len()];
    shape.truncate(6);
    let read = millgate_fuzz::in_proportion(raw.len(), 16, 1 << 12, || {
        Array::from_raw(datatype, shape.clone(), &raw)
    });
    let Ok(array) = read else { return };
    let written = array.values().to_raw();
    if datatype != Datatype::Bool {
        assert_eq!(written, raw);
    }
    // Rows of nothing are bounded where requests are checked, not here.
    let rows = array.rows();
    if array.shape().is_empty() || rows > 1000 {
        return;
    }
    let parts = array.clone().split(&vec![1; rows]).expect("rows of 1 add up");
    if !parts.is_empty() {
        let joined = Array::join(&parts.iter().collect::<Vec<_>>()).expect("its own rows");
        assert_eq!(joined.shape(), array.shape());
        assert_eq!(joined.values().to_raw(), written);
    }
});
