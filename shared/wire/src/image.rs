//! Pictures on the wire: a file's own bytes, or a smaller lossless form of the same pixels.

use millgate_model::bundle::manifest::Manifest;
use millgate_sample::image::{
    Announced, BitDepth, Channels, Codec, Encoded, Limits, Picture, decode_payload, encode, encode_if_quick,
};
use millgate_sample::index::{By, ModalityIx};
use millgate_sample::sample::{Read, Sample, Unread};

use super::WireError;
use crate::proto::v1;

/// The other picture of a sample, whose difference to the first is often smaller than either.
pub const REFERENCE: &str = "template";

/// The files that a sample's pictures were read from, where they were files that give them to anyone.
#[derive(Debug, Clone, Default)]
pub struct ImageSource {
    /// A file that was read by what is not in it, or that was made whole, must not be here.
    pub files: By<ModalityIx, Option<Vec<u8>>>,
}

/// The sample's pictures in their smallest lossless form; the reference first, for what is coded against it.
pub fn write_images(manifest: &Manifest, sample: &Sample, source: &ImageSource) -> Vec<v1::Image> {
    let reference_index = manifest.modality_index(REFERENCE);
    let reference = reference_index.and_then(|index| sample.image(index));
    let mut order: Vec<ModalityIx> = manifest.modalities.indices().collect();
    order.sort_by_key(|index| Some(*index) != reference_index);
    let write = |index: ModalityIx| {
        let file = source.files.get(index).and_then(Option::as_deref);
        let against = if Some(index) == reference_index { None } else { reference };
        Some(write_image(&manifest.modalities[index].name, sample.image(index)?, file, against))
    };
    order.into_iter().filter_map(write).collect()
}

/// One picture in its smallest lossless form. `file` is what it was read from; `reference` is a picture of the same sample
/// that goes up before it.
pub fn write_image(
    modality: &str,
    image: &Picture,
    file: Option<&[u8]>,
    reference: Option<&Picture>,
) -> v1::Image {
    wire(modality, image, encode(image, file, reference))
}

/// Like [`write_image`], if that costs next to nothing: a large picture is not coded anew.
pub fn write_image_if_quick(
    modality: &str,
    image: &Picture,
    file: Option<&[u8]>,
    reference: Option<&Picture>,
) -> Option<v1::Image> {
    encode_if_quick(image, file, reference).map(|encoded| wire(modality, image, encoded))
}

fn wire(modality: &str, image: &Picture, encoded: Encoded) -> v1::Image {
    let codec = match encoded.codec {
        Codec::Source => v1::ImageCodec::File,
        Codec::Bilevel => v1::ImageCodec::Bilevel,
        Codec::BilevelReferenced => v1::ImageCodec::BilevelReferenced,
        Codec::Planes => v1::ImageCodec::Planes,
    };
    let sized = encoded.codec != Codec::Source;
    v1::Image {
        modality: modality.to_owned(),
        codec: codec.into(),
        width: if sized { image.width() } else { 0 },
        height: if sized { image.height() } else { 0 },
        data: encoded.bytes.into(),
        bit_depth: 0,
    }
}

/// A sample from its pictures; each modality at most once.
pub fn read_images(
    manifest: &Manifest,
    field: &str,
    images: &[v1::Image],
    limits: &Limits,
) -> Result<Read, WireError> {
    let indices = modalities(manifest, field, images)?;
    let mut files = By::filled(manifest.modalities.len(), None);
    for (at, (wire, index)) in images.iter().zip(&indices).enumerate() {
        let depth = depth(&format!("{field}[{at}]"), wire)?;
        if wire.codec() == v1::ImageCodec::File {
            files[*index] = Some((&wire.data[..], depth));
        }
    }
    let names = manifest.modalities.iter().map(|modality| modality.name.as_str());
    let decoded = Read::of_files(names, &files, limits).map_err(|Unread { modality, source }| {
        let at = indices.iter().position(|index| *index == modality).unwrap_or_default();
        WireError::new(format!("{field}[{at}].data"), source.to_string())
    })?;
    let Read { sample: mut decoded, notes, is_plain } = decoded;
    let mut sample = Sample { images: By::filled(manifest.modalities.len(), None) };
    for (at, (wire, index)) in images.iter().zip(indices).enumerate() {
        // Only what stands before it can be referred to.
        let reference = manifest.modality_index(REFERENCE).and_then(|index| sample.image(index));
        let image = match decoded.images[index].take() {
            Some(image) => image,
            None => unfold(&format!("{field}[{at}]"), wire, reference, limits)?,
        };
        sample.images[index] = Some(image);
    }
    Ok(Read { sample, notes, is_plain })
}

/// The modalities of pictures.
fn modalities(manifest: &Manifest, field: &str, images: &[v1::Image]) -> Result<Vec<ModalityIx>, WireError> {
    let mut indices = Vec::with_capacity(images.len());
    for (at, wire) in images.iter().enumerate() {
        let refuse = |message: String| WireError::new(format!("{field}[{at}].modality"), message);
        let name = &wire.modality;
        let index = manifest.modality_index(name);
        let index = index.ok_or_else(|| refuse(format!("`{name}` is not a modality of this bundle")))?;
        if indices.contains(&index) {
            return Err(refuse(format!("`{name}` stands twice")));
        }
        indices.push(index);
    }
    Ok(indices)
}

/// What a picture's sender says of its samples.
pub fn depth(field: &str, wire: &v1::Image) -> Result<Option<BitDepth>, WireError> {
    let refuse = |message: String| WireError::new(format!("{field}.bit_depth"), message);
    match wire.bit_depth {
        0 => Ok(None),
        bits => {
            let known = u8::try_from(bits).map_err(|_| refuse(format!("{bits} is not of 8 to 16 bits")))?;
            BitDepth::try_from(known).map(Some).map_err(refuse)
        }
    }
}

/// One that is coded for the line.
fn unfold(
    field: &str,
    wire: &v1::Image,
    reference: Option<&Picture>,
    limits: &Limits,
) -> Result<Picture, WireError> {
    let codec = match v1::ImageCodec::try_from(wire.codec) {
        Ok(v1::ImageCodec::File) => Codec::Source,
        Ok(v1::ImageCodec::Bilevel) => Codec::Bilevel,
        Ok(v1::ImageCodec::BilevelReferenced) => Codec::BilevelReferenced,
        Ok(v1::ImageCodec::Planes) => Codec::Planes,
        Ok(v1::ImageCodec::Unspecified) | Err(_) => {
            return Err(WireError::new(format!("{field}.codec"), format!("{} is not a codec", wire.codec)));
        }
    };
    let announced = Announced { width: wire.width, height: wire.height, channels: Channels::GREY };
    decode_payload(codec, &wire.data, announced, reference, limits)
        .map_err(|error| WireError::new(format!("{field}.data"), error.to_string()))
}
