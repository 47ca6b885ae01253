//! What had to be assumed of a picture.

/// Something that the reader of a decision should know of how its picture was read. The words are for people;
/// [`Remark::code`] is for machines.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Remark {
    #[error(
        "16-bit samples of at most {largest} were read as {bits} bits, and the file does not say so; `bit_depth` of the source would"
    )]
    GuessedDepth { bits: u8, largest: u16 },
    #[error("{over} samples are over what {bits} bits hold, up to {largest}, and were read as white")]
    OverDepth { bits: u8, largest: u16, over: u64 },
    #[error("turned upright, as orientation {orientation} in the file says")]
    Turned { orientation: u8 },
    #[error("has transparent pixels, which were read as if they were opaque")]
    Transparent,
    #[error("has a gamma of {gamma:.3} where 0.455 is usual, which was not applied")]
    Gamma { gamma: f64 },
    #[error("has a colour profile that is not sRGB, which was not applied")]
    Profile,
    #[error("the end of the file is missing; every pixel is there")]
    NoEnd,
    #[error("{bytes} zeros stand behind the picture; every pixel is there")]
    Padding { bytes: usize },
    #[error("has no Huffman tables, as frames of Motion JPEG; the standard ones fit")]
    StandardTables,
}

impl Remark {
    /// A word for machines, stable across versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::GuessedDepth { .. } => "bit_depth_guessed",
            Self::OverDepth { .. } => "bit_depth_exceeded",
            Self::Turned { .. } => "orientation",
            Self::Transparent => "transparency",
            Self::Gamma { .. } => "gamma",
            Self::Profile => "colour_profile",
            Self::NoEnd => "no_end",
            Self::Padding { .. } => "padding",
            Self::StandardTables => "standard_tables",
        }
    }
}
