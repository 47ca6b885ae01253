//! Regions of a picture: where the part is in it, and tiles of what is larger than a model looks at.

use super::{Picture, PictureError};

/// A large picture squeezed to a model's size loses every small defect; more tiles than these take a device too long.
pub const MOST_REGIONS: usize = 256;
/// A tile shares this part of its side with the next, so that what lies on an edge of one lies whole in another.
const OVERLAP: u32 = 8;
/// The least side of a region or a tile, in pixels.
pub const LEAST_SIDE: u32 = 8;

/// `[left, top, width, height]` in pixels.
pub type Region = [u32; 4];

/// Reads `left,top,width,height`, several of them separated by semicolons.
pub fn parse(text: &str) -> Result<Vec<Region>, String> {
    let one = |text: &str| {
        let numbers: Option<Vec<u32>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        numbers.and_then(|numbers| Region::try_from(numbers).ok()).ok_or_else(|| {
            format!("`{}` is not left,top,width,height in pixels", text.chars().take(40).collect::<String>())
        })
    };
    text.split(';').take(MOST_REGIONS + 1).map(one).collect()
}

/// Writes what [`parse`] reads.
pub fn write(regions: &[Region]) -> String {
    let one = |[left, top, width, height]: &Region| format!("{left},{top},{width},{height}");
    regions.iter().map(one).collect::<Vec<_>>().join(";")
}

/// What is to be looked at in a picture of this size: the regions, or else all of it, each in tiles of about this side where
/// one is given. Tiles cover what they are of, and overlap by an eighth at least.
pub fn plan(regions: &[Region], tile: Option<u32>, [width, height]: [u32; 2]) -> Result<Vec<Region>, String> {
    let whole = [[0, 0, width, height]];
    let mut all = Vec::new();
    for region @ [left, top, wide, high] in if regions.is_empty() { &whole[..] } else { regions } {
        let is_inside =
            |start: u32, length: u32, all: u32| start.checked_add(length).is_some_and(|end| end <= all);
        let given = write(&[*region]);
        if !is_inside(*left, *wide, width) || !is_inside(*top, *high, height) {
            return Err(format!("{given} is not inside the picture of {width} by {height} pixels"));
        }
        if !regions.is_empty() && (*wide).min(*high) < LEAST_SIDE {
            return Err(format!("{given} is smaller than {LEAST_SIDE} by {LEAST_SIDE} pixels"));
        }
        let Some(side) = tile else {
            all.push(*region);
            continue;
        };
        if side < LEAST_SIDE {
            return Err(format!("a tile of {side} pixels is smaller than {LEAST_SIDE}"));
        }
        let (across, down) = (starts(*wide, side), starts(*high, side));
        if across.len().saturating_mul(down.len()).saturating_add(all.len()) > MOST_REGIONS {
            let message = format!("tiles of {side} pixels are over {MOST_REGIONS}; take larger ones");
            return Err(message);
        }
        for y in &down {
            all.extend(across.iter().map(|x| [left + x, top + y, side.min(*wide), side.min(*high)]));
        }
    }
    if all.len() > MOST_REGIONS {
        return Err(format!("has {} regions, at most {MOST_REGIONS} are taken", all.len()));
    }
    Ok(all)
}

/// Where tiles of this side begin on a length, evenly spread.
fn starts(length: u32, side: u32) -> Vec<u32> {
    if length <= side {
        return vec![0];
    }
    let step = (side - side / OVERLAP).max(1);
    let count = (length - side).div_ceil(step) + 1;
    // More than may be taken need not be listed.
    let listed = count.min(MOST_REGIONS as u32 + 1);
    let at = |number: u32| u64::from(length - side) * u64::from(number) / u64::from(count - 1);
    (0..listed).map(|number| at(number) as u32).collect()
}

impl Picture {
    /// The region of it; `None` if that is not inside.
    pub fn cut(&self, [left, top, width, height]: Region) -> Option<Result<Self, PictureError>> {
        let channels = self.channels().count();
        let row = self.width() as usize * channels;
        let (from, to) = (left as usize * channels, (left as usize + width as usize) * channels);
        if to > row || top as usize + height as usize > self.height() as usize || width == 0 || height == 0 {
            return None;
        }
        let rows = self.samples().chunks_exact(row).skip(top as usize).take(height as usize);
        let samples = rows.flat_map(|row| &row[from..to]).copied().collect();
        Some(Self::new(width, height, self.channels(), samples))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn regions_are_read_as_they_are_written() {
        let regions = [[1, 2, 30, 40], [0, 0, 8, 8]];
        assert_eq!(parse(&write(&regions)), Ok(regions.to_vec()));
        assert_eq!(parse(" 1, 2,30, 40"), Ok(vec![[1, 2, 30, 40]]));
        for text in ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,-3,4", "1,2,3,4;"] {
            assert!(parse(text).unwrap_err().contains("is not left,top,width,height"), "{text}");
        }
    }

    #[test]
    fn what_is_not_inside_or_too_much_is_refused() {
        let plan = |regions: &[Region], tile| plan(regions, tile, [100, 50]).unwrap_err();
        assert!(plan(&[[90, 0, 11, 10]], None).contains("90,0,11,10 is not inside the picture of 100 by 50"));
        assert!(plan(&[[u32::MAX, 0, 11, 10]], None).contains("is not inside"));
        assert!(plan(&[[0, 0, 4, 10]], None).contains("smaller than 8"));
        assert!(plan(&[], Some(7)).contains("smaller than 8"));
        assert!(super::plan(&[], Some(8), [100_000, 100_000]).unwrap_err().contains("are over 256"));
        assert!(plan(&[[0, 0, 10, 10]; 257], None).contains("at most 256"));
    }

    #[test]
    fn a_region_holds_the_pixels_that_are_there() {
        let picture = Picture::grey(4, 3, (0..12).collect()).unwrap();
        let cut = picture.cut([1, 1, 2, 2]).unwrap().unwrap();
        assert_eq!((cut.width(), cut.height(), cut.samples()), (2, 2, &[5, 6, 9, 10][..]));
        assert_eq!(picture.cut([0, 0, 4, 3]).unwrap().unwrap(), picture);
        assert!(picture.cut([3, 0, 2, 1]).is_none() && picture.cut([0, 0, 0, 1]).is_none());
    }

    proptest! {
        /// Tiles stay inside, have one size, and leave no pixel out.
        #[test]
        fn tiles_cover_the_picture(width in 8u32..400, height in 8u32..400, side in 40u32..200) {
            let tiles = plan(&[], Some(side), [width, height]).unwrap();
            for [left, top, wide, high] in &tiles {
                prop_assert!(left + wide <= width && top + high <= height);
                prop_assert_eq!([*wide, *high], [side.min(width), side.min(height)]);
            }
            for (x, y) in [(0, 0), (width - 1, height - 1), (width / 2, height / 3), (width / 3, height - 1)] {
                let holds = |[left, top, wide, high]: &Region| {
                    (*left..left + wide).contains(&x) && (*top..top + high).contains(&y)
                };
                prop_assert!(tiles.iter().any(holds));
            }
        }
    }
}
