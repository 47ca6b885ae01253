//! Pictures of 8-bit samples, `[height, width, channels]`; see [`crate::image`].
//!
//! | codec | for |
//! | --- | --- |
//! | `file` | every picture: a PNG, JPEG, BMP, TIFF or GIF file's own bytes; the attribute `bit_depth`, where known |
//! | `bw` | two grey levels |
//! | `bwr` | two grey levels, against the reference, which must precede it |
//! | `planes` | five channels and more: a grey PNG of all channels, one under the other |
//!
//! All but `file` come with the picture's shape, of which a last axis of 1 may be left out.

use std::sync::Arc;

use millgate_array::{Array, ArrayError, Scale};
use serde::Deserialize;

use super::{Effort, File, Modality, Prepare, Reading, Refused, Spec, Table, keys};
use crate::image::region::{parse, plan};
use crate::image::{
    self, Announced, BitDepth, Channels, Codec, DecodeError, Encoded, NO_MEMORY, PayloadError, PerChannel,
    Picture, decode_payload, encode, encode_if_quick, prepare, read_all, resize,
};
use crate::part::{Attributes, FILE, Limits, Part, Unreadable, Value};

/// The attribute that says how many bits of 16-bit samples count, 8 to 16.
pub const BIT_DEPTH: &str = "bit_depth";
/// The attribute that says what is to be looked at: `left,top,width,height` in pixels, several of them separated by semicolons.
pub const REGION: &str = "region";
/// The attribute that says that regions, or all of a picture, are to be looked at in tiles, and how long their sides are, in
/// pixels.
pub const TILE: &str = "tile";
/// What is said of a picture that is much larger than a model's input.
pub const DOWNSCALED: &str = "downscaled";
/// How many times longer than an input's a picture's side may be before that is said.
const MOST_DOWNSCALED: usize = 8;
/// The longest side that a model's input may have, in pixels.
const LONGEST_SIDE: usize = 4096;
/// Endings of pictures that can be read.
const ENDINGS: [&str; 11] = ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "tif", "tiff", "btf", "gif"];
/// Endings of pictures in other formats.
const OTHER_ENDINGS: [&str; 12] =
    ["webp", "heic", "heif", "avif", "jp2", "j2k", "jxl", "pgm", "ppm", "pbm", "pnm", "dcm"];
/// By name, every codec but [`FILE`].
const CODECS: [(&str, Codec); 3] =
    [("bw", Codec::Bilevel), ("bwr", Codec::BilevelReferenced), ("planes", Codec::Planes)];

/// The kind `image`.
#[derive(Debug)]
pub struct Images;

/// `preprocess` of an input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preprocess {
    mean: PerChannel,
    std: PerChannel,
}

/// `(sample / 255 - mean) / std` at the model's size, `[channels, height, width]`.
#[derive(Debug)]
struct Pixels {
    shape: [usize; 3],
    mean: PerChannel,
    std: PerChannel,
}

impl Modality for Images {
    fn kind(&self) -> &'static str {
        "image"
    }

    fn endings(&self) -> &'static [&'static str] {
        &ENDINGS
    }

    fn refused_endings(&self) -> &'static [&'static str] {
        &OTHER_ENDINGS
    }

    fn attributes(&self) -> &'static [&'static str] {
        &[BIT_DEPTH, REGION, TILE]
    }

    fn check(&self, spec: &Spec) -> Result<(), Refused> {
        channels(spec)?;
        match spec.settings.keys().next() {
            Some(key) => Err(Refused::new(format!("settings.{key}"), "is not a setting of an image")),
            None => Ok(()),
        }
    }

    fn input(&self, spec: &Spec, shape: &[usize], preprocess: &Table) -> Result<Arc<dyn Prepare>, Refused> {
        let Ok(shape) = <[usize; 3]>::try_from(shape) else {
            return Err(Refused::new("shape", "must be channels, height, width"));
        };
        let (grey, colour) = (Channels::GREY.count(), Channels::RGB.count());
        let (has, takes) = (channels(spec)?.count(), shape[0]);
        if has != takes && (has, takes) != (grey, colour) && (has, takes) != (colour, grey) {
            let message =
                format!("is of {takes} channels, which cannot be made of the {has} of `{}`", spec.name);
            return Err(Refused::new("shape", message));
        }
        if shape.iter().any(|axis| !(1..=LONGEST_SIDE).contains(axis)) {
            return Err(Refused::new("shape", format!("each axis must be from 1 to {LONGEST_SIDE}")));
        }
        let Preprocess { mean, std } = keys("preprocess", preprocess)?;
        for (key, numbers) in [("preprocess.mean", &mean), ("preprocess.std", &std)] {
            if !numbers.fits(takes) {
                return Err(Refused::new(
                    key,
                    format!("must be one number, or one for each of {takes} channels"),
                ));
            }
        }
        if !mean.numbers().iter().all(|mean| mean.is_finite()) {
            return Err(Refused::new("preprocess.mean", "must be finite"));
        }
        if !std.numbers().iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(Refused::new("preprocess.std", "must be over 0"));
        }
        Ok(Arc::new(Pixels { shape, mean, std }))
    }

    fn read(&self, files: &[File<'_>], limits: &Limits) -> Result<Vec<Reading>, (usize, Unreadable)> {
        let mut given = Vec::with_capacity(files.len());
        for (at, file) in files.iter().enumerate() {
            let depth = depth(file.part).map_err(|error| (at, error))?;
            let channels = channels_of(file.spec);
            given.push(image::File { bytes: &file.part.bytes, channels, depth });
        }
        let decoded = read_all(&given, &limits.into()).map_err(|(at, error)| (at, error.into()))?;
        let reading = |(file, decoded): (&File<'_>, image::Decoded)| Reading {
            value: value(&decoded.image).with_original(decoded.is_plain.then(|| file.part.bytes.clone())),
            remarks: decoded.remarks.iter().map(|remark| (remark.code(), remark.to_string())).collect(),
        };
        Ok(files.iter().zip(decoded).map(reading).collect())
    }

    fn encode(&self, spec: &Spec, value: &Value, reference: Option<&Value>, effort: Effort) -> Option<Part> {
        let (picture, reference) = (picture(value)?, reference.and_then(picture));
        let file = value.original();
        let Encoded { codec, bytes } = match effort {
            Effort::Full => encode(&picture, file.map(|file| &file[..]), reference.as_ref()),
            Effort::Quick => encode_if_quick(&picture, file.map(|file| &file[..]), reference.as_ref())?,
        };
        let modality = spec.name.clone();
        let named = CODECS.iter().find(|(_, known)| *known == codec);
        let (codec, shape) = match (named, value.array().shape()) {
            (Some((name, _)), [height, width, 1]) => (*name, vec![*height, *width]),
            (Some((name, _)), shape) => (*name, shape.to_vec()),
            (None, _) => (FILE, Vec::new()),
        };
        Some(Part { modality, codec: codec.into(), shape, bytes: bytes.into(), ..Part::default() })
    }

    fn decode(
        &self,
        spec: &Spec,
        part: &Part,
        reference: Option<&Value>,
        limits: &Limits,
    ) -> Result<Value, Unreadable> {
        let codec = CODECS.iter().find(|(name, _)| *name == part.codec).map(|(_, codec)| *codec);
        let codec = codec.ok_or_else(|| {
            let message = format!("`{}` is not a codec of an image", part.codec);
            Unreadable::new("codec", "unknown_codec", message)
        })?;
        let announced = announced(&part.shape);
        let announced = announced
            .ok_or_else(|| Unreadable::new("shape", "corrupt", "must be height, width, channels"))?;
        let reference = reference.and_then(picture);
        let reference = reference.and_then(|reference| reference.to_channels(announced.channels));
        let decoded = decode_payload(codec, &part.bytes, announced, reference.as_ref(), &limits.into())
            .map_err(|error| Unreadable::new("data", payload_code(&error), error.to_string()))?;
        let wanted = decoded.to_channels(channels_of(spec)).ok_or_else(|| {
            let message = format!("is of {}, `{}` of {}", announced.channels, spec.name, channels_of(spec));
            Unreadable::new("shape", "unsupported_colour", message)
        })?;
        Ok(value(&wanted))
    }

    fn regions(&self, value: &Value, attributes: &Attributes) -> Result<Vec<[u32; 4]>, Unreadable> {
        let (region, tile) = (attributes.get(REGION), attributes.get(TILE));
        if region.is_none() && tile.is_none() {
            return Ok(Vec::new());
        }
        let of_region = |message| Unreadable::new("attributes.region", REGION, message);
        let of_tile = |message| Unreadable::new("attributes.tile", TILE, message);
        let picture = picture(value).ok_or_else(|| of_region("what was given is no picture".to_owned()))?;
        let regions = region.map(|text| parse(text)).transpose().map_err(of_region)?.unwrap_or_default();
        let side = |text: &String| text.parse().map_err(|_| of_tile("is no number of pixels".to_owned()));
        let tile = tile.map(side).transpose()?;
        let planned = plan(&regions, tile, [picture.width(), picture.height()]);
        planned.map_err(|message| if regions.is_empty() { of_tile(message) } else { of_region(message) })
    }

    fn cut(&self, value: &Value, region: [u32; 4]) -> Option<Value> {
        let cut = picture(value)?.cut(region)?.ok()?;
        Some(self::value(&cut))
    }

    fn reduce(&self, from: &Value, shape: &[usize]) -> Option<Value> {
        let to = announced(shape)?;
        let picture = picture(from)?.to_channels(to.channels)?;
        Some(value(&resize(&picture, to.width, to.height)))
    }
}

impl Prepare for Pixels {
    fn prepare(&self, value: &Value) -> Result<Array, ArrayError> {
        let picture = picture(value).ok_or(ArrayError::Join("what was given is no picture"))?;
        let values = prepare(&picture, &self.shape, &self.mean, &self.std);
        let values = values.map_err(|_| ArrayError::Join("the picture's channels are not the input's"))?;
        let [channels, height, width] = self.shape;
        Array::new(vec![1, channels, height, width], values.into())
    }

    fn reduced(&self, value: &Value) -> Option<Vec<usize>> {
        let [takes, height, width] = self.shape;
        let has = *value.array().shape().get(2)?;
        // Grey is repeated at the other end.
        let reduced = vec![height, width, takes.min(has)];
        (value.array().shape() != reduced).then_some(reduced)
    }

    fn lost(&self, value: &Value) -> Option<(&'static str, String)> {
        let [_, high, wide] = self.shape;
        let [is_high, is_wide, ..] = value.array().shape() else { return None };
        let is_lost = *is_high > MOST_DOWNSCALED * high || *is_wide > MOST_DOWNSCALED * wide;
        is_lost.then(|| {
            let squeezed = format!("{is_wide}x{is_high} is squeezed to {wide}x{high}");
            (DOWNSCALED, format!("{squeezed}, small defects are lost: use regions or tiles"))
        })
    }

    fn scale(&self) -> Option<Scale> {
        match (self.mean.numbers(), self.std.numbers()) {
            ([mean], [std]) => Scale::of_levels(*mean, *std),
            _ => None,
        }
    }
}

/// The channels of a modality, checked.
fn channels(spec: &Spec) -> Result<Channels, Refused> {
    let count = u8::try_from(spec.channels).map_err(|error| error.to_string()).and_then(Channels::try_from);
    count.map_err(|message| Refused::new("channels", message))
}

/// The channels of a modality that was checked when its manifest was read.
fn channels_of(spec: &Spec) -> Channels {
    channels(spec).unwrap_or_default()
}

/// A picture's shape; a last axis of 1 may be left out.
fn announced(shape: &[usize]) -> Option<Announced> {
    let [height, width, channels] = match *shape {
        [height, width] => [height, width, 1],
        [height, width, channels] => [height, width, channels],
        _ => return None,
    };
    let channels = Channels::try_from(u8::try_from(channels).ok()?).ok()?;
    Some(Announced { width: u32::try_from(width).ok()?, height: u32::try_from(height).ok()?, channels })
}

fn value(picture: &Picture) -> Value {
    Arc::clone(picture.array()).into()
}

fn picture(value: &Value) -> Option<Picture> {
    Picture::of(Arc::clone(value.array())).ok()
}

fn depth(part: &Part) -> Result<Option<BitDepth>, Unreadable> {
    const FIELD: &str = "attributes.bit_depth";
    let depth = part.attributes.get(BIT_DEPTH).map(|text| text.parse());
    depth.transpose().map_err(|error: String| Unreadable::new(FIELD, "bit_depth", error))
}

fn payload_code(error: &PayloadError) -> &'static str {
    match error {
        PayloadError::File(error) => error.code(),
        PayloadError::NoMemory { source, .. } if source.may_pass() => NO_MEMORY,
        PayloadError::TooManyPixels { .. } | PayloadError::NoMemory { .. } => "too_large",
        _ => "corrupt",
    }
}

impl From<&Limits> for image::Limits {
    fn from(limits: &Limits) -> Self {
        Self { max_pixels: limits.max_elements, max_file_bytes: limits.max_bytes }
    }
}

impl From<DecodeError> for Unreadable {
    fn from(error: DecodeError) -> Self {
        Self::new("data", error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_squeezed_to_less_than_an_eighth_is_said() {
        let pixels = Pixels { shape: [1, 16, 64], mean: 0.5.into(), std: 0.25.into() };
        let lost = |width: u32, height: u32| {
            let samples = vec![0; width as usize * height as usize];
            pixels.lost(&value(&Picture::grey(width, height, samples).unwrap()))
        };
        assert_eq!(lost(512, 128), None, "eight times is borne");
        assert_eq!(lost(8, 8), None, "and so is what is smaller");
        let (code, message) = lost(513, 128).unwrap();
        assert_eq!(code, DOWNSCALED);
        assert!(message.starts_with("513x128 is squeezed to 64x16"), "{message}");
        assert!(lost(64, 129).is_some(), "one side is enough");
    }
}
