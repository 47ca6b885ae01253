//! Files that are broken on purpose, to be thrown at the agent while it works.

use millgate_edge::input::{Input, InputImage};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    Truncated,
    Empty,
    /// A text file named `.png`.
    Text,
}

impl Poison {
    pub const ALL: [Self; 3] = [Self::Truncated, Self::Empty, Self::Text];

    pub fn file_name(self) -> &'static str {
        match self {
            Self::Truncated => "poison/truncated.png",
            Self::Empty => "poison/empty.png",
            Self::Text => "poison/text.png",
        }
    }

    /// A broken relative of a good input.
    pub fn spoil(self, good: &Input) -> Input {
        let bytes = match self {
            Self::Truncated => good.images.first().map(|image| image.bytes[..image.bytes.len() / 2].to_vec()),
            Self::Empty => Some(Vec::new()),
            Self::Text => Some(b"this is no picture\n".to_vec()),
        };
        Input {
            path: self.file_name().to_owned(),
            images: vec![InputImage::new("image", bytes.unwrap_or_default())],
            ..Input::default()
        }
    }
}
