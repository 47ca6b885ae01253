//! Pictures on the wire: a file's own bytes, or a smaller lossless form of the same pixels.

use super::WireError;
use crate::bundle::manifest::Manifest;
use crate::image::{Codec, GreyImage, Limits, decode, decode_payload, encode};
use crate::proto::v1;
use crate::sample::Sample;

/// The other picture of a sample, whose difference to the first is often smaller than either.
pub const REFERENCE: &str = "template";

/// The files that a sample's pictures were read from, where they were files.
#[derive(Debug, Clone, Default)]
pub struct ImageSource {
    /// By modality index.
    pub files: Vec<Option<Vec<u8>>>,
}

/// The sample's pictures in their smallest lossless form; the reference first, for what is coded against it.
pub fn write_images(manifest: &Manifest, sample: &Sample, source: &ImageSource) -> Vec<v1::Image> {
    let reference_index = manifest.modality_index(REFERENCE);
    let reference = reference_index.and_then(|index| sample.image(index));
    let mut order: Vec<usize> = (0..manifest.modalities.len()).collect();
    order.sort_by_key(|index| Some(*index) != reference_index);
    let write = |index: usize| {
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
    image: &GreyImage,
    file: Option<&[u8]>,
    reference: Option<&GreyImage>,
) -> v1::Image {
    let encoded = encode(image, file, reference);
    let codec = match encoded.codec {
        Codec::Source => v1::ImageCodec::File,
        Codec::Bilevel => v1::ImageCodec::Bilevel,
        Codec::BilevelReferenced => v1::ImageCodec::BilevelReferenced,
    };
    let sized = encoded.codec != Codec::Source;
    v1::Image {
        modality: modality.to_owned(),
        codec: codec.into(),
        width: if sized { image.width() } else { 0 },
        height: if sized { image.height() } else { 0 },
        data: encoded.bytes.into(),
    }
}

/// A sample from its pictures; each modality at most once.
pub fn read_images(
    manifest: &Manifest,
    field: &str,
    images: &[v1::Image],
    limits: &Limits,
) -> Result<Sample, WireError> {
    let mut sample = Sample { images: vec![None; manifest.modalities.len()] };
    for (at, wire) in images.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let Some(index) = manifest.modality_index(&wire.modality) else {
            let message = format!("`{}` is not a modality of this bundle", wire.modality);
            return Err(WireError::new(format!("{field}.modality"), message));
        };
        if sample.images[index].is_some() {
            let message = format!("`{}` stands twice", wire.modality);
            return Err(WireError::new(format!("{field}.modality"), message));
        }
        let reference = manifest.modality_index(REFERENCE).and_then(|index| sample.image(index));
        let image = read_image(&field, wire, reference, limits)?;
        sample.images[index] = Some(image);
    }
    Ok(sample)
}

fn read_image(
    field: &str,
    wire: &v1::Image,
    reference: Option<&GreyImage>,
    limits: &Limits,
) -> Result<GreyImage, WireError> {
    let refuse = |message: String| WireError::new(format!("{field}.data"), message);
    let codec = match v1::ImageCodec::try_from(wire.codec) {
        Ok(v1::ImageCodec::File) => {
            return decode(&wire.data, limits).map_err(|error| refuse(error.to_string()));
        }
        Ok(v1::ImageCodec::Bilevel) => Codec::Bilevel,
        Ok(v1::ImageCodec::BilevelReferenced) => Codec::BilevelReferenced,
        Ok(v1::ImageCodec::Unspecified) | Err(_) => {
            return Err(WireError::new(format!("{field}.codec"), format!("{} is not a codec", wire.codec)));
        }
    };
    decode_payload(codec, &wire.data, wire.width, wire.height, reference, limits)
        .map_err(|error| refuse(error.to_string()))
}
