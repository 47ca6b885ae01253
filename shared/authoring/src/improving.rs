//! A bundle taught by what people corrected.
