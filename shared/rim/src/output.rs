//! How a command answers.

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For reading
    Text,
    /// JSON: one object, or one a line
    Json,
}
