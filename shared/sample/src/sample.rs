//! One thing to decide on: a value of each modality that is there, whatever its kind.
//!
//! [`read`] is the only way from what came (a folder's files, a request's parts, a row of a task model, a golden sample) to
//! a [`Sample`].

use millgate_base::digest::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::index::{By, ModalityIx};
use crate::modality::{File, Reading, Spec};
use crate::part::{Limits, Part, Unreadable, Value};

#[cfg(test)]
mod tests;

/// A sample as models see it. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// `None` where absent.
    pub values: By<ModalityIx, Option<Value>>,
}

impl Sample {
    /// One of which nothing is there.
    pub fn empty(modalities: &By<ModalityIx, Spec>) -> Self {
        Self { values: modalities.map(|_| None) }
    }

    /// Whether each modality is there.
    pub fn presence(&self) -> By<ModalityIx, bool> {
        self.values.map(Option::is_some)
    }

    pub fn value(&self, modality: ModalityIx) -> Option<&Value> {
        self.values.get(modality).and_then(Option::as_ref)
    }

    /// The values without the files that they were read from: for whoever will not send them on.
    pub fn without_originals(self) -> Self {
        let strip = |value: Option<Value>| value.map(|value| value.with_original(None));
        Self { values: self.values.into_iter().map(strip).collect() }
    }
}

/// What came, read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub sample: Sample,
    /// What was assumed of its parts, by modality.
    pub notes: Vec<Note>,
    /// SHA-256 of the bytes of the bundle's first modality that is there, as they came, in lower-case hexadecimal digits;
    /// empty if none is.
    pub sha256: String,
}

/// Why a sample cannot be had of its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source}")]
pub struct Unread {
    /// The part that is wrong, by its place.
    pub at: usize,
    /// Name of the modality in the part.
    pub modality: String,
    pub source: Unreadable,
}

/// Reads a sample of its parts, each modality at most once. A part that is coded against another must come after it.
pub fn read(modalities: &By<ModalityIx, Spec>, parts: &[Part], limits: &Limits) -> Result<Read, Unread> {
    let refuse = |at: usize, source: Unreadable| Unread { at, modality: parts[at].modality.clone(), source };
    let indices = indices(modalities, parts)?;
    let mut readings = files(modalities, parts, &indices, limits).map_err(|(at, why)| refuse(at, why))?;
    let mut read = Read { sample: Sample::empty(modalities), ..Read::default() };
    let mut remarks = Vec::new();
    for (at, (part, index)) in parts.iter().zip(&indices).enumerate() {
        let spec = &modalities[*index];
        let value = match readings[at].take() {
            Some(reading) => {
                remarks.push((*index, reading.remarks));
                reading.value
            }
            None => {
                let reference = spec.reference.as_ref();
                let reference = reference.and_then(|name| modalities.find_ix(|spec| spec.name == *name));
                let reference = reference.and_then(|index| read.sample.value(index));
                let decoded = spec.modality().decode(spec, part, reference, limits);
                decoded.map_err(|why| refuse(at, why))?
            }
        };
        read.sample.values[*index] = Some(value);
    }
    remarks.sort_by_key(|(index, _)| *index);
    for (index, remarks) in remarks {
        let modality = &modalities[index].name;
        read.notes.extend(remarks.into_iter().map(|(code, message)| Note {
            modality: modality.clone(),
            code: code.to_owned(),
            message,
        }));
    }
    let first = indices.iter().zip(parts).min_by_key(|(index, _)| **index);
    read.sha256 = first.map_or_else(String::new, |(_, part)| sha256_hex(&part.bytes));
    Ok(read)
}

/// The modality of each part.
fn indices(modalities: &By<ModalityIx, Spec>, parts: &[Part]) -> Result<Vec<ModalityIx>, Unread> {
    let mut indices = Vec::with_capacity(parts.len().min(modalities.len()));
    for (at, part) in parts.iter().enumerate() {
        let name = &part.modality;
        let refuse = |code: &'static str, message: String| Unread {
            at,
            modality: name.clone(),
            source: Unreadable::new("modality", code, message),
        };
        let index = modalities.find_ix(|spec| spec.name == *name).ok_or_else(|| {
            refuse("unknown_modality", format!("`{name}` is not a modality of this bundle"))
        })?;
        if indices.contains(&index) {
            return Err(refuse("double_modality", format!("`{name}` stands twice")));
        }
        let known = modalities[index].modality().attributes();
        if let Some(other) = part.attributes.keys().find(|name| !known.contains(&name.as_str())) {
            let message = format!("`{other}` is not an attribute of `{name}`");
            let source = Unreadable::new("attributes", "unknown_attribute", message);
            return Err(Unread { at, modality: name.clone(), source });
        }
        indices.push(index);
    }
    Ok(indices)
}

/// Reads those parts that are files, all of one kind together; by the part's place.
fn files(
    modalities: &By<ModalityIx, Spec>,
    parts: &[Part],
    indices: &[ModalityIx],
    limits: &Limits,
) -> Result<Vec<Option<Reading>>, (usize, Unreadable)> {
    let mut readings: Vec<Option<Reading>> = parts.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..parts.len()).filter(|at| parts[*at].is_file()).collect();
    left.sort_by_key(|at| indices[*at]);
    while let Some(first) = left.first() {
        let kind = &modalities[indices[*first]].kind;
        let (same, others): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|at| modalities[indices[**at]].kind == *kind);
        let files: Vec<File<'_>> =
            same.iter().map(|at| File { spec: &modalities[indices[*at]], part: &parts[*at] }).collect();
        let modality = files[0].spec.modality();
        let read = modality.read(&files, limits).map_err(|(at, why)| (same[at.min(same.len() - 1)], why))?;
        for (at, reading) in same.into_iter().zip(read) {
            readings[at] = Some(reading);
        }
        left = others;
    }
    Ok(readings)
}

/// Something that the reader of a decision should know of a part: how it was read where its file leaves that open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub modality: String,
    /// For machines; see [`Reading::remarks`].
    pub code: String,
    /// For people.
    pub message: String,
}

/// What is known of a sample besides its values. It goes into the record, never into a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Path as it was given.
    pub path: String,
    pub source: Option<String>,
    pub part_id: Option<String>,
    /// RFC 3339.
    pub captured_at: Option<String>,
    /// SHA-256 as [`Read::sha256`] has it.
    pub sha256: String,
    /// What was assumed of its parts, by modality.
    pub notes: Vec<Note>,
    /// The region of the picture that is decided on, `[left, top, width, height]` in pixels; `None`: all of it.
    pub region: Option<[u32; 4]>,
    /// Number of regions that were looked at to find this one.
    pub regions: Option<u32>,
    /// The golden sample that it is compared with.
    pub template: Option<Template>,
}

/// A golden sample of a store, by the part number that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub part: String,
    pub version: u32,
    pub sha256: String,
}
