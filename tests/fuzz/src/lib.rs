//! What the targets share: the law that reading bytes takes memory in proportion, and a model's signature.

use millgate_shared::array::Datatype;
use millgate_shared::engine::{Axis, Port, Signature};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Runs `read`, which may take `factor` bytes for each of `length` it is given, and `fixed` besides.
pub fn in_proportion<T>(length: usize, factor: usize, fixed: usize, read: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let read = read();
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    let most = factor.saturating_mul(length) + fixed;
    assert!(taken <= most, "{length} bytes took {taken} bytes to read, {most} at most");
    read
}

/// A model that takes one input of each kind.
pub fn signature() -> Signature {
    let port =
        |name: &str, datatype, shape: Option<Vec<Axis>>| Port { name: name.to_owned(), datatype, shape };
    let rows = || Axis::Named("N".to_owned());
    Signature {
        inputs: vec![
            port("x", Datatype::Fp32, Some(vec![rows(), Axis::Fixed(3)])),
            port("ids", Datatype::Int64, Some(vec![rows(), Axis::Any])),
            port("text", Datatype::Bytes, Some(vec![rows()])),
            port("any", Datatype::Uint8, None),
        ],
        outputs: vec![port("y", Datatype::Fp32, Some(vec![rows()]))],
        ..Signature::default()
    }
}
