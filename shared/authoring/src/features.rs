//! What a bundle's models make of labelled samples.
