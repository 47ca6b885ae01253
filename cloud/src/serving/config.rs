//! `[cache]`: whether answers are kept.

use serde::Deserialize;

/// `[cache]`: answers of served models, kept to be given again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Memory for kept answers, in bytes, about; 0: none are kept. Default 0.
    pub bytes: usize,
    /// Answers of the bundle's models are kept too. Models of a repository say so themselves: `response_cache` in
    /// their config.pbtxt. Default false.
    pub bundle: bool,
}
