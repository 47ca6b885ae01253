//! The frame of a JPEG: its size, its components, and how much of each the scans so far gave.

use super::super::{DecodeError, Format, corrupt};
use super::short;

/// Samples along the side of a block.
pub(super) const BLOCK: usize = 8;

/// In [`Component::to_come`]: no scan yet.
pub(super) const NOTHING: u8 = u8::MAX;

pub(super) struct Frame {
    /// In pixels.
    width: usize,
    height: usize,
    pub(super) progressive: bool,
    /// The largest sampling factors of any component, horizontal and vertical.
    most: (usize, usize),
    pub(super) components: Vec<Component>,
}

pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors, horizontal and vertical.
    pub(super) sampling: (usize, usize),
    /// How many low bits of each coefficient are still to come; [`NOTHING`] before its first scan.
    pub(super) to_come: [u8; 64],
    /// Blocks in a row, up to whole units of all components.
    pub(super) stride: usize,
    /// Progressive only: per block one bit for each coefficient known not to be zero. A refining scan has a further
    /// bit for each of those.
    pub(super) nonzero: Vec<u64>,
}

impl Frame {
    /// Reads a frame header.
    pub(super) fn parse(segment: &[u8], progressive: bool) -> Result<Self, DecodeError> {
        let short = || short("a frame header");
        let (&[precision, h1, h0, w1, w0, count], rest) = segment.split_first_chunk().ok_or_else(short)?;
        let unsupported = |colour: String| DecodeError::UnsupportedColour { format: Format::Jpeg, colour };
        if precision != 8 {
            return Err(unsupported(format!("{precision}-bit samples")));
        }
        match count {
            1 | 3 => {}
            // No two programs agree on how inks mix to light.
            4 => return Err(unsupported("CMYK colour".to_owned())),
            _ => return Err(unsupported(format!("{count} components"))),
        }
        let parts = rest.as_chunks::<3>().0.get(..count.into()).ok_or_else(short)?;
        let mut components: Vec<Component> = parts.iter().map(|part| Component::parse(*part)).collect();
        if components.iter().any(|c| !matches!(c.sampling, (1..=4, 1..=4))) {
            return Err(corrupt(Format::Jpeg, "a sampling factor is not of 1 to 4".to_owned()));
        }
        // A lone component is never interleaved, so its factors have no meaning.
        if let [only] = components.as_mut_slice() {
            only.sampling = (1, 1);
        }
        let [width, height] = [[w1, w0], [h1, h0]].map(|side| usize::from(u16::from_be_bytes(side)));
        let most = components.iter().fold((1, 1), |(h, v), c| (h.max(c.sampling.0), v.max(c.sampling.1)));
        let mut frame = Self { width, height, progressive, most, components };
        let (across, down) = frame.units();
        for component in &mut frame.components {
            component.stride = across * component.sampling.0;
            if progressive {
                component.nonzero = vec![0; component.stride * down * component.sampling.1];
            }
        }
        Ok(frame)
    }

    /// Areas, across and down, that have blocks of all components.
    pub(super) fn units(&self) -> (usize, usize) {
        (self.width.div_ceil(BLOCK * self.most.0), self.height.div_ceil(BLOCK * self.most.1))
    }

    /// Whether the scans so far gave all of every component. A progressive file without its last scans is a picture
    /// too, but a coarser one than was taken.
    pub(super) fn complete(&self) -> bool {
        self.components.iter().all(|component| component.to_come == [0; 64])
    }

    /// Blocks of a component that hold pixels, across and down.
    pub(super) fn own_blocks(&self, component: usize) -> (usize, usize) {
        let (h, v) = self.components[component].sampling;
        let count =
            |length: usize, factor: usize, most: usize| (length * factor).div_ceil(most).div_ceil(BLOCK);
        (count(self.width, h, self.most.0), count(self.height, v, self.most.1))
    }
}

impl Component {
    fn parse([id, sampling, _]: [u8; 3]) -> Self {
        let sampling = (usize::from(sampling >> 4), usize::from(sampling & 15));
        Self { id, sampling, to_come: [NOTHING; 64], stride: 0, nonzero: Vec::new() }
    }
}
