//! One thing to decide on.

use serde::{Deserialize, Serialize};

use crate::image::{BitDepth, Channels, DecodeError, File, Limits, Picture, read_all};
use crate::index::{By, ModalityIx};

/// A sample as models see it: one picture per modality of the bundle that is present.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// `None` where absent.
    pub images: By<ModalityIx, Option<Picture>>,
}

impl Sample {
    /// Whether each modality is there.
    pub fn presence(&self) -> By<ModalityIx, bool> {
        self.images.map(Option::is_some)
    }

    pub fn image(&self, modality: ModalityIx) -> Option<&Picture> {
        self.images.get(modality).and_then(Option::as_ref)
    }
}

/// A sample whose pictures were just decoded.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub sample: Sample,
    pub notes: Vec<Note>,
    /// Whether a modality's file's own bytes give the picture to whoever knows nothing else.
    pub is_plain: By<ModalityIx, bool>,
}

/// Why a sample's pictures cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("picture of modality {modality}: {source}")]
pub struct Unread {
    pub modality: ModalityIx,
    pub source: DecodeError,
}

impl Read {
    /// Decodes one file for each modality at most. Each of the `files` comes with its samples' bits where
    /// they are known; `names` are the modalities'.
    pub fn of_files<'a>(
        names: impl IntoIterator<Item = &'a str>,
        files: &By<ModalityIx, Option<(&[u8], Option<BitDepth>)>>,
        limits: &Limits,
    ) -> Result<Self, Unread> {
        let present: Vec<ModalityIx> = files.indices().filter(|index| files[*index].is_some()).collect();
        let file = |(bytes, depth)| File { bytes, channels: Channels::GREY, depth };
        let given: Vec<_> = files.iter().flatten().copied().map(file).collect();
        let decoded =
            read_all(&given, limits).map_err(|(at, source)| Unread { modality: present[at], source })?;
        let names: By<ModalityIx, &str> = names.into_iter().collect();
        let mut read = Self { is_plain: By::filled(files.len(), false), ..Self::default() };
        read.sample.images = By::filled(files.len(), None);
        for (index, decoded) in present.into_iter().zip(decoded) {
            read.notes.extend(decoded.remarks.iter().map(|remark| Note {
                modality: names.get(index).map_or_else(String::new, |name| (*name).to_owned()),
                code: remark.code().to_owned(),
                message: remark.to_string(),
            }));
            read.is_plain[index] = decoded.is_plain;
            read.sample.images[index] = Some(decoded.image);
        }
        Ok(read)
    }
}

/// Something that the reader of a decision should know of a picture: how it was read where its file leaves that open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub modality: String,
    /// For machines; see [`Remark::code`](crate::image::Remark::code).
    pub code: String,
    /// For people.
    pub message: String,
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
    /// What was assumed of its pictures, by modality.
    pub notes: Vec<Note>,
}
