//! A picture to a model's input: size, channels, and each channel's mean and deviation.

use super::{Channels, Picture, resize};

/// A number for each channel, or one for all of them; written as a number or as a list.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(from = "Written")]
pub struct PerChannel(Box<[f32]>);

/// How a [`PerChannel`] stands in a manifest.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Written {
    One(f32),
    Each(Vec<f32>),
}

impl From<Written> for PerChannel {
    fn from(written: Written) -> Self {
        match written {
            Written::One(number) => number.into(),
            Written::Each(numbers) => Self(numbers.into()),
        }
    }
}

impl From<f32> for PerChannel {
    fn from(number: f32) -> Self {
        Self([number].into())
    }
}

impl PerChannel {
    /// The numbers: one, or one for each channel.
    pub fn numbers(&self) -> &[f32] {
        &self.0
    }

    /// Whether there is one number for all channels, or exactly one for each of so many.
    pub fn fits(&self, channels: usize) -> bool {
        self.0.len() == 1 || self.0.len() == channels
    }

    /// The number of a channel. It is NaN if there is none, which [`PerChannel::fits`] excludes.
    pub fn of(&self, channel: usize) -> f32 {
        let one = || (self.0.len() == 1).then(|| self.0[0]);
        self.0.get(channel).copied().or_else(one).unwrap_or(f32::NAN)
    }
}

/// A picture cannot become an input, for want of a rule that changes the number of its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the picture has {has}, and the model takes {takes}")]
pub struct PrepareError {
    /// Channels of the picture.
    pub has: Channels,
    /// Channels of the input.
    pub takes: usize,
}

/// The values of an input of `[channels, height, width]`: `(sample / 255 - mean) / std`, one plane after the other.
///
/// A picture of another size is resized. A colour picture becomes grey for an input of one channel (before it is resized),
/// and a grey one is repeated for an input of three; other numbers of channels must be the picture's own.
pub fn prepare(
    picture: &Picture,
    shape: &[usize; 3],
    mean: &PerChannel,
    std: &PerChannel,
) -> Result<Vec<f32>, PrepareError> {
    let [takes, height, width] = *shape;
    let error = || PrepareError { has: picture.channels(), takes };
    let channels = u8::try_from(takes).ok().and_then(|takes| Channels::try_from(takes).ok());
    let mut picture = channels.and_then(|channels| picture.to_channels(channels)).ok_or_else(error)?;
    if (picture.width() as usize, picture.height() as usize) != (width, height) {
        picture = resize(&picture, width as u32, height as u32);
    }
    let mut values = Vec::with_capacity(picture.samples().len());
    for channel in 0..takes {
        let (mean, std) = (mean.of(channel), std.of(channel));
        let table: [f32; 256] = std::array::from_fn(|sample| (sample as f32 / 255.0 - mean) / std);
        let value = |sample: &u8| table[usize::from(*sample)];
        match takes {
            1 => values.extend(picture.samples().iter().map(value)),
            _ => values.extend(picture.samples().iter().skip(channel).step_by(takes).map(value)),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour() -> Picture {
        Picture::new(2, 1, Channels::RGB, vec![255, 0, 51, 0, 255, 102]).unwrap()
    }

    fn each(numbers: &[f32]) -> PerChannel {
        PerChannel(numbers.into())
    }

    #[test]
    fn channels_become_planes_each_with_its_own_numbers() {
        let values =
            prepare(&colour(), &[3, 1, 2], &each(&[0.0, 0.5, 0.2]), &each(&[1.0, 0.5, 0.1])).unwrap();
        assert_eq!(values[..4], [1.0, 0.0, -1.0, 1.0]);
        assert!(values[4].abs() < 1e-6 && (values[5] - 2.0).abs() < 1e-5, "{values:?}");
        let same = prepare(&colour(), &[3, 1, 2], &0.5.into(), &0.5.into()).unwrap();
        assert_eq!(same[..4], [1.0, -1.0, -1.0, 1.0]);
    }

    #[test]
    fn colour_is_weighed_for_one_channel_and_grey_repeated_for_three() {
        let grey = prepare(&colour(), &[1, 1, 2], &0.0.into(), &(1.0 / 255.0).into()).unwrap();
        assert_eq!(grey.iter().map(|value| value.round()).collect::<Vec<_>>(), [82.0, 161.0]);
        let level = Picture::grey(1, 1, vec![51]).unwrap();
        assert_eq!(prepare(&level, &[3, 1, 1], &0.0.into(), &0.2.into()).unwrap(), [1.0; 3]);
        let error = prepare(&level, &[2, 1, 1], &0.0.into(), &1.0.into()).unwrap_err();
        assert_eq!(error.to_string(), "the picture has 1 channel, and the model takes 2");
    }

    #[test]
    fn a_number_stands_for_all_channels_and_a_list_for_each() {
        #[derive(serde::Deserialize)]
        struct Input {
            mean: PerChannel,
        }
        let read = |text: &str| toml::from_str::<Input>(text).map(|input| input.mean);
        assert_eq!(read("mean = 0.5").unwrap(), 0.5.into());
        assert_eq!(read("mean = [0.5, 1, 0.25]").unwrap(), each(&[0.5, 1.0, 0.25]));
        assert!(read("mean = \"grey\"").is_err());
        assert!(each(&[1.0]).fits(3) && each(&[1.0, 2.0]).fits(2) && !each(&[1.0, 2.0]).fits(3));
        assert!(!each(&[]).fits(1) && each(&[]).of(0).is_nan());
    }
}
