//! An expert added to a bundle, or taken from it, while every old decision stays as it was.
