//! Pictures of 8-bit samples, with any number of channels.

use std::fmt;
use std::sync::Arc;

use millgate_array::{Array, Datatype, Values};

/// How many samples a pixel has: 1 to [`Channels::MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "u8")]
pub struct Channels(u8);

impl Channels {
    /// Grey levels alone.
    pub const GREY: Self = Self(1);
    /// Red, green and blue.
    pub const RGB: Self = Self(3);
    /// The largest number of channels that a picture may have.
    pub const MOST: u8 = 64;

    /// The number as a length.
    pub fn count(self) -> usize {
        self.0.into()
    }
}

impl Default for Channels {
    /// Gives [`Channels::GREY`].
    fn default() -> Self {
        Self::GREY
    }
}

impl TryFrom<u8> for Channels {
    type Error = String;

    fn try_from(count: u8) -> Result<Self, String> {
        let is_possible = (1..=Self::MOST).contains(&count);
        if is_possible {
            Ok(Self(count))
        } else {
            Err(format!("{count} is not 1 to {} channels", Self::MOST))
        }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} channel{plural}", self.0)
    }
}

/// A picture of 8-bit samples, 0 dark to 255 bright; never empty. A clone shares the samples.
///
/// A picture is an [`Array`] of UINT8 and the shape `[height, width, channels]`: row-major, top row first, the channels of a pixel
/// side by side.
#[derive(Clone, PartialEq)]
pub struct Picture {
    array: Arc<Array>,
}

/// Bytes are equal or not, as floating-point numbers need not be.
impl Eq for Picture {}

/// Why something is not a [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    #[error("picture of {width}x{height} pixels has no pixels")]
    NoPixels { width: u32, height: u32 },
    #[error("picture of {width}x{height} pixels with {channels} given {given} bytes")]
    WrongLength { width: u32, height: u32, channels: Channels, given: usize },
    #[error("{datatype} of shape {shape:?} is no picture: UINT8 of [height, width, channels] is")]
    NoPicture { datatype: Datatype, shape: Vec<usize> },
}

impl Picture {
    /// Takes `width * height * channels` samples: row-major, top row first, the channels of a pixel side by side.
    pub fn new(width: u32, height: u32, channels: Channels, samples: Vec<u8>) -> Result<Self, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::NoPixels { width, height });
        }
        let given = samples.len();
        let shape = vec![height as usize, width as usize, channels.count()];
        let array = Array::new(shape, Values::Uint8(samples));
        let array = array.map_err(|_| PictureError::WrongLength { width, height, channels, given })?;
        Ok(Self { array: Arc::new(array) })
    }

    /// Takes `width * height` grey levels, row-major, top row first.
    pub fn grey(width: u32, height: u32, levels: Vec<u8>) -> Result<Self, PictureError> {
        Self::new(width, height, Channels::GREY, levels)
    }

    /// Takes an array of UINT8 and the shape `[height, width, channels]`, without a copy.
    pub fn of(array: Arc<Array>) -> Result<Self, PictureError> {
        let is_picture = match *array.shape() {
            [height, width, channels] => {
                let is_side = |side: usize| u32::try_from(side).is_ok_and(|side| side > 0);
                let is_count = u8::try_from(channels).is_ok_and(|count| Channels::try_from(count).is_ok());
                array.datatype() == Datatype::Uint8 && is_side(height) && is_side(width) && is_count
            }
            _ => false,
        };
        if is_picture {
            return Ok(Self { array });
        }
        Err(PictureError::NoPicture { datatype: array.datatype(), shape: array.shape().to_vec() })
    }

    /// The array of UINT8 and the shape `[height, width, channels]` that this is.
    pub fn array(&self) -> &Arc<Array> {
        &self.array
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.array.shape()[1] as u32
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.array.shape()[0] as u32
    }

    /// Samples of each pixel.
    pub fn channels(&self) -> Channels {
        Channels(self.array.shape()[2] as u8)
    }

    /// Width times height.
    pub fn pixel_count(&self) -> usize {
        self.samples().len() / self.channels().count()
    }

    /// All samples: row-major, top row first, the channels of a pixel side by side.
    pub fn samples(&self) -> &[u8] {
        match self.array.values() {
            Values::Uint8(samples) => samples,
            // No constructor lets another datatype in.
            _ => &[],
        }
    }

    /// All samples, without a copy where nobody else holds them; see [`Picture::samples`] for their order.
    pub fn into_samples(self) -> Vec<u8> {
        match Arc::unwrap_or_clone(self.array).into_parts().1 {
            Values::Uint8(samples) => samples,
            _ => Vec::new(),
        }
    }

    /// The picture with so many channels: itself, three channels weighed into one by [`luma`], or one repeated three times.
    /// `None` for every other change, which has no rule.
    pub fn to_channels(&self, wanted: Channels) -> Option<Self> {
        let samples = match (self.channels(), wanted) {
            (has, wanted) if has == wanted => return Some(self.clone()),
            (Channels::RGB, Channels::GREY) => {
                let (colours, _) = self.samples().as_chunks();
                colours.iter().map(|colour| luma(*colour)).collect()
            }
            (Channels::GREY, Channels::RGB) => thrice(self.samples()),
            _ => return None,
        };
        Self::new(self.width(), self.height(), wanted, samples).ok()
    }

    /// Each channel as a grey picture, in order.
    pub(super) fn planes(&self) -> impl Iterator<Item = Result<Self, PictureError>> {
        (0..self.channels().count())
            .map(|channel| Self::grey(self.width(), self.height(), self.plane(channel).collect()))
    }

    /// The samples of a channel, row-major.
    pub(super) fn plane(&self, channel: usize) -> impl Iterator<Item = u8> {
        self.samples().iter().skip(channel).step_by(self.channels().count()).copied()
    }

    /// Changes each channel by itself. `change` must give grey pictures of one size.
    pub(super) fn map_planes<E: From<PictureError>>(
        &self,
        change: impl Fn(Self) -> Result<Self, E>,
    ) -> Result<Self, E> {
        let (mut width, mut height, mut planes) = (0, 0, Vec::new());
        for plane in self.planes() {
            let plane = change(plane?)?;
            (width, height) = (plane.width(), plane.height());
            planes.extend_from_slice(plane.samples());
        }
        let samples = interleave(&planes, self.channels());
        Ok(Self::new(width, height, self.channels(), samples)?)
    }
}

impl fmt::Debug for Picture {
    /// Only the size: pixels in a log help nobody and may be a trade secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}x{}, {})", self.width(), self.height(), self.channels())
    }
}

/// The grey level of a colour by ITU-R BT.601, in 16-bit fixed point: bit for bit what Pillow's `convert("L")` gives.
pub fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 32_768;
    // The weights add up to 65,536, so the result is at most 255.
    (sum >> 16) as u8
}

/// Puts the planes of so many channels, which stand one after the other, into pixels.
pub(super) fn interleave<T: Copy + Default>(planes: &[T], channels: Channels) -> Vec<T> {
    let count = channels.count();
    let mut pixels = vec![T::default(); planes.len()];
    for (channel, plane) in planes.chunks_exact((planes.len() / count).max(1)).take(count).enumerate() {
        let places = pixels.iter_mut().skip(channel).step_by(count);
        places.zip(plane).for_each(|(place, sample)| *place = *sample);
    }
    pixels
}

/// Each level three times: grey as red, green and blue.
pub(super) fn thrice(levels: &[u8]) -> Vec<u8> {
    levels.iter().flat_map(|level| [*level; 3]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_picture_has_as_many_bytes_as_samples() {
        assert_eq!(Picture::grey(2, 3, vec![7; 6]).unwrap().samples(), [7; 6]);
        let wrong = Picture::new(2, 3, Channels::RGB, vec![7; 17]).unwrap_err();
        assert_eq!(wrong.to_string(), "picture of 2x3 pixels with 3 channels given 17 bytes");
        assert_eq!(Picture::grey(0, 3, vec![]), Err(PictureError::NoPixels { width: 0, height: 3 }));
        let (side, channels) = (u32::MAX, Channels(64));
        let huge = Picture::new(side, side, channels, vec![1]).unwrap_err();
        assert_eq!(huge, PictureError::WrongLength { width: side, height: side, channels, given: 1 });
    }

    #[test]
    fn a_picture_is_an_array_and_only_one_of_bytes_is_a_picture() {
        let picture = Picture::new(2, 1, Channels::RGB, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let again = Picture::of(Arc::clone(picture.array())).unwrap();
        assert_eq!((&again, again.samples().as_ptr()), (&picture, picture.samples().as_ptr()));
        let no_picture = |shape: &[usize], values: Values| {
            let array = Array::new(shape.to_vec(), values).unwrap();
            Picture::of(Arc::new(array)).unwrap_err().to_string()
        };
        assert_eq!(
            no_picture(&[1, 1, 1], Values::Int8(vec![0])),
            "INT8 of shape [1, 1, 1] is no picture: UINT8 of [height, width, channels] is"
        );
        for shape in [vec![1, 65, 1], vec![1, 1, 65], vec![65], vec![65, 1, 1, 1]] {
            let is_picture = shape.len() == 3 && shape[2] <= 64;
            let array = Array::new(shape, Values::Uint8(vec![0; 65])).unwrap();
            assert_eq!(Picture::of(Arc::new(array)).is_ok(), is_picture);
        }
        no_picture(&[0, 3, 1], Values::Uint8(vec![]));
    }

    #[test]
    fn debug_shows_no_pixels() {
        assert_eq!(format!("{:?}", Picture::grey(2, 1, vec![1, 2]).unwrap()), "Picture(2x1, 1 channel)");
    }

    #[test]
    fn a_picture_has_between_1_and_64_channels() {
        assert_eq!(Channels::try_from(0).unwrap_err(), "0 is not 1 to 64 channels");
        assert!(Channels::try_from(64).is_ok() && Channels::try_from(65).is_err());
        assert_eq!(Channels::default(), Channels::GREY);
    }

    #[test]
    fn luma_is_that_of_pillow() {
        // Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0)), Pillow 13.0
        let cases = [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([255, 255, 255], 255)];
        for (colour, grey) in
            cases.into_iter().chain([([1, 2, 3], 2), ([200, 100, 50], 124), ([17, 18, 16], 17)])
        {
            assert_eq!(luma(colour), grey, "{colour:?}");
        }
    }

    proptest! {
        #[test]
        fn grey_that_was_made_colour_is_the_grey_it_was(levels in prop::collection::vec(any::<u8>(), 1..300)) {
            let grey = Picture::grey(levels.len() as u32, 1, levels).unwrap();
            let colour = grey.to_channels(Channels::RGB).unwrap();
            prop_assert_eq!(colour.channels(), Channels::RGB);
            prop_assert_eq!(&colour.to_channels(Channels::GREY).unwrap(), &grey);
            prop_assert!(grey.to_channels(Channels(2)).is_none() && colour.to_channels(Channels(4)).is_none());
        }

        #[test]
        fn planes_put_together_again_are_the_picture(
            (width, height, count) in (1..9_u32, 1..9_u32, 1..9_u8),
            samples in prop::collection::vec(any::<u8>(), 9 * 9 * 9),
        ) {
            let samples = samples[..(width * height) as usize * usize::from(count)].to_vec();
            let picture = Picture::new(width, height, Channels(count), samples).unwrap();
            prop_assert_eq!(&picture.map_planes(Ok::<_, PictureError>).unwrap(), &picture);
            prop_assert_eq!(picture.pixel_count(), (width * height) as usize);
        }
    }
}
