//! Files that are broken on purpose, to be thrown at the agent while it works.

use millgate_edge::input::Input;
use millgate_shared::part::Part;

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
        let spoil = |part: &Part| {
            let bytes = match self {
                Self::Truncated => part.bytes[..part.bytes.len() / 2].to_vec(),
                Self::Empty => Vec::new(),
                Self::Text => b"this is no picture\n".to_vec(),
            };
            Part::file(&part.modality, bytes)
        };
        let parts = good.parts.first().map(spoil).into_iter().collect();
        Input { path: self.file_name().to_owned(), parts, ..Input::default() }
    }
}
