//! FP32 values in 8 bits each.

/// A value is `offset + scale * stored`, with a stored number of 8 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    pub scale: f32,
    pub offset: f32,
}

impl Scale {
    /// From the least value to the largest; `None` if they are no finite numbers, or too far apart or too close for one.
    pub fn of_values(values: &[f32]) -> Option<Self> {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !values.iter().all(|value| value.is_finite()) || values.is_empty() {
            return None;
        }
        if least == most {
            return Some(Self { scale: 1.0, offset: least });
        }
        let scale = ((f64::from(most) - f64::from(least)) / 255.0) as f32;
        let offset = (f64::from(least) + 128.0 * f64::from(scale)) as f32;
        let this = Self { scale, offset };
        let comes_back = this.value(-128.0).is_finite() && this.value(127.0).is_finite();
        (scale.is_normal() && comes_back).then_some(this)
    }

    /// The scale of `(level / 255 - mean) / std`, by which each of 256 levels is a stored number; `None` if it is no
    /// finite one.
    pub fn of_levels(mean: f32, std: f32) -> Option<Self> {
        let scale = 1.0 / (255.0 * std);
        let offset = (128.0 / 255.0 - mean) / std;
        (scale.is_normal() && scale > 0.0 && offset.is_finite()).then_some(Self { scale, offset })
    }

    /// The stored number nearest to a value.
    pub fn store(self, value: f32) -> i8 {
        // Saturates.
        ((f64::from(value) - f64::from(self.offset)) / f64::from(self.scale)).round() as i8
    }

    /// The value of a stored number.
    pub fn value(self, stored: f32) -> f32 {
        self.offset + self.scale * stored
    }
}
