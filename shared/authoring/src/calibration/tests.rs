//! What the tests of these rooms share.

/// Numbers from 0 to 1 that any language makes alike: a linear congruential generator of 64 bits, its high 53.
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = f64> {
    let step = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(seed), step).skip(1).map(|state| (state >> 11) as f64 / (1_u64 << 53) as f64)
}
