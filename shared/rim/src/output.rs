//! How a command answers.

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Text for people
    Text,
    /// One JSON object, or one in each line
    Json,
}
