//! A bundle certified anew on labelled samples.
