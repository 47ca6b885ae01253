//! One thing to decide on.

use crate::image::GreyImage;

/// A sample as models see it: one picture per modality of the bundle that is present.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// By modality index of the manifest; `None` where absent.
    pub images: Vec<Option<GreyImage>>,
}

impl Sample {
    /// Presence by modality index.
    pub fn presence(&self) -> Vec<bool> {
        self.images.iter().map(Option::is_some).collect()
    }

    pub fn image(&self, modality: usize) -> Option<&GreyImage> {
        self.images.get(modality).and_then(Option::as_ref)
    }
}

/// What is known of a sample besides its pixels. It goes into the record, never into a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// As it was given.
    pub path: String,
    pub source: Option<String>,
    pub part_id: Option<String>,
    /// RFC 3339.
    pub captured_at: Option<String>,
    /// Of the file's bytes, lower-case hex.
    pub sha256: String,
}
