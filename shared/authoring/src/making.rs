//! A new bundle from a folder of pictures.
