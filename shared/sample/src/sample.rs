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

/// A region of a sample, as a sample of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `[left, top, width, height]` in pixels.
    pub region: [u32; 4],
    pub sample: Sample,
}

/// Reads a sample of its parts, each modality at most once. A part that is coded against another must come after it. Where
/// parts name a region, the sample is that region; several are refused.
pub fn read(modalities: &By<ModalityIx, Spec>, parts: &[Part], limits: &Limits) -> Result<Read, Unread> {
    let read = read_whole(modalities, parts, limits)?;
    let Some((at, regions)) = regions(modalities, parts, &read.sample)? else { return Ok(read) };
    let [region] = regions[..] else {
        let message = format!("names {} regions, and here one is looked at", regions.len());
        let source = Unreadable::new("attributes.region", "several_regions", message);
        return Err(Unread { at, modality: parts[at].modality.clone(), source });
    };
    let sample = cut(modalities, parts, &read.sample, at, region)?;
    Ok(Read { sample, ..read })
}

/// Reads a sample like [`read`], and the regions that its parts name, each as a sample of its own; none: all of it.
pub fn read_views(
    modalities: &By<ModalityIx, Spec>,
    parts: &[Part],
    limits: &Limits,
) -> Result<(Read, Vec<View>), Unread> {
    let read = read_whole(modalities, parts, limits)?;
    let Some((at, regions)) = regions(modalities, parts, &read.sample)? else {
        return Ok((read, Vec::new()));
    };
    let view = |region| Ok(View { region, sample: cut(modalities, parts, &read.sample, at, region)? });
    let views = regions.into_iter().map(view).collect::<Result<_, Unread>>()?;
    Ok((read, views))
}

/// The regions that parts name, and the first part that does.
#[expect(clippy::type_complexity, reason = "a place and what is there")]
fn regions(
    modalities: &By<ModalityIx, Spec>,
    parts: &[Part],
    sample: &Sample,
) -> Result<Option<(usize, Vec<[u32; 4]>)>, Unread> {
    let mut found: Option<(usize, Vec<[u32; 4]>)> = None;
    for (at, part) in parts.iter().enumerate() {
        let index = modalities.find_ix(|spec| spec.name == part.modality);
        let Some((spec, value)) = index.and_then(|index| Some((&modalities[index], sample.value(index)?)))
        else {
            continue;
        };
        let refuse = |source| Unread { at, modality: part.modality.clone(), source };
        // Of another size than the first one that names regions: that is said when they are cut.
        let known = found.as_ref().map(|(first, _)| &parts[*first].attributes);
        if known.is_some_and(|known| *known == part.attributes) {
            continue;
        }
        let regions = spec.modality().regions(value, &part.attributes).map_err(refuse)?;
        match &found {
            _ if regions.is_empty() => {}
            None => found = Some((at, regions)),
            Some((_, known)) if *known == regions => {}
            Some((first, _)) => {
                let message = format!("is not what `{}` names", parts[*first].modality);
                return Err(refuse(Unreadable::new("attributes.region", "several_regions", message)));
            }
        }
    }
    Ok(found)
}

/// A region of every part that is of the same kind as the one `at` that names it, which must all be of one size.
fn cut(
    modalities: &By<ModalityIx, Spec>,
    parts: &[Part],
    sample: &Sample,
    at: usize,
    region: [u32; 4],
) -> Result<Sample, Unread> {
    let refuse = |message: String| Unread {
        at,
        modality: parts[at].modality.clone(),
        source: Unreadable::new("attributes.region", "region", message),
    };
    let named = modalities.find_ix(|spec| spec.name == parts[at].modality);
    let Some(named) = named.and_then(|index| Some((&modalities[index], sample.value(index)?))) else {
        return Ok(sample.clone());
    };
    let (spec, size) = (named.0, size(named.1));
    let mut values = Vec::with_capacity(modalities.len());
    for (other, value) in modalities.iter().zip(&sample.values) {
        values.push(match value {
            Some(value) if other.kind == spec.kind => {
                if self::size(value) != size {
                    let (name, is, must) = (&other.name, self::size(value), size);
                    let message = format!(
                        "cannot be cut out of `{name}` too, which is {is:?} and not {must:?} high and wide"
                    );
                    return Err(refuse(message));
                }
                let cut = other.modality().cut(value, region);
                Some(cut.ok_or_else(|| refuse("cannot be cut out".to_owned()))?)
            }
            other => other.clone(),
        });
    }
    Ok(Sample { values: values.into_iter().collect() })
}

/// Height and width.
fn size(value: &Value) -> &[usize] {
    value.array().shape().get(..2).unwrap_or_default()
}

fn read_whole(modalities: &By<ModalityIx, Spec>, parts: &[Part], limits: &Limits) -> Result<Read, Unread> {
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
}
