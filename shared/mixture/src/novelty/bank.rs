//! The known samples of one product, as a safetensors file: written by whoever makes a bundle, read by whoever decides.
//!
//! For each detector `D` of the manifest's list, with `d` features and `n` known samples:
//!
//! | tensor | | |
//! | --- | --- | --- |
//! | `D.scale` | FP32 `[d]` | each feature is divided by this before anything is compared |
//! | `D.rows` | INT8 `[n, d]` | known samples; a value is `rows · step + zero`, scaled already |
//! | `D.step`, `D.zero` | FP32 `[d]` | |
//! | `D.unit` | FP32 `[1]` | distances are given in units of this |
//! | `D.calibration` | FP32 `[m]` | scores of known samples, none of them compared with itself or its group, ascending |
//! | `D.labels` | UINT16 `[n]` | label of each known sample, by its place among the labels of all tasks |
//!
//! The file's metadata has one key, `samples`: a JSON object that gives for each detector the names of its known samples.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Most known samples of a detector, and most features.
const MOST_ROWS: usize = 4096;
const MOST_DIMS: usize = 4096;
/// Numbers that are summed side by side, and how many times over before a sum is looked at.
const LANES: usize = 8;
const STRETCH: usize = 4;
/// Most calibration scores.
const MOST_SCORES: usize = 1 << 20;
/// A longer name of a known sample is refused, in bytes.
const LONGEST_NAME: usize = 1024;
/// The key of the metadata.
const SAMPLES: &str = "samples";

/// Reason why a file is no bank.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{tensor}` {message}")]
pub struct BankError {
    pub tensor: String,
    pub message: String,
}

/// Known samples of one product.
#[derive(Debug, Clone, PartialEq)]
pub struct Bank {
    neighbours: usize,
    detectors: Vec<Detector>,
}

/// Known samples as one detector sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    name: String,
    scale: Vec<f32>,
    /// Scaled values, row by row, as the file's 8 bits give them.
    rows: Vec<f32>,
    codes: Vec<i8>,
    step: Vec<f32>,
    zero: Vec<f32>,
    unit: f32,
    calibration: Vec<f32>,
    labels: Vec<u16>,
    samples: Vec<String>,
}

/// A known sample, by its row, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    pub row: usize,
    /// In units of the detector.
    pub distance: f32,
}

/// A known sample to be put in a bank.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub features: Vec<f32>,
    pub label: u16,
    pub sample: String,
}

impl Detector {
    /// Makes a detector of known samples. `scale` is what features are divided by, over 0; the unit is 1 and there are no
    /// calibration scores until [`Self::calibrated`].
    pub fn new(name: &str, scale: Vec<f32>, rows: &[Row]) -> Result<Self, BankError> {
        let refuse = |part: &str, message: String| refuse(name, part, message);
        let dims = scale.len();
        if !scale.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err(refuse("scale", "must be finite and over 0".to_owned()));
        }
        if let Some(row) = rows.iter().find(|row| row.features.len() != dims) {
            let message = format!("has {} features for `{}`, not {dims}", row.features.len(), row.sample);
            return Err(refuse("rows", message));
        }
        if !rows.iter().all(|row| row.features.iter().all(|feature| feature.is_finite())) {
            return Err(refuse("rows", "must be there and finite".to_owned()));
        }
        let scaled = |row: &Row, at: usize| row.features[at] / scale[at];
        let (mut step, mut zero) = (vec![0.0; dims], vec![0.0; dims]);
        for at in 0..dims {
            let each = || rows.iter().map(|row| scaled(row, at));
            let (least, most) =
                (each().fold(f32::INFINITY, f32::min), each().fold(f32::NEG_INFINITY, f32::max));
            if rows.is_empty() || !least.is_finite() || !most.is_finite() {
                return Err(refuse("rows", "must be there and finite".to_owned()));
            }
            step[at] = ((most - least) / 254.0).max(f32::MIN_POSITIVE);
            zero[at] = (least + most) / 2.0;
        }
        let code = |row: &Row, at: usize| {
            ((scaled(row, at) - zero[at]) / step[at]).round().clamp(-127.0, 127.0) as i8
        };
        let codes =
            rows.iter().flat_map(|row| (0..dims).map(|at| code(row, at)).collect::<Vec<_>>()).collect();
        let detector = Self {
            name: name.to_owned(),
            rows: Vec::new(),
            codes,
            scale,
            step,
            zero,
            unit: 1.0,
            calibration: Vec::new(),
            labels: rows.iter().map(|row| row.label).collect(),
            samples: rows.iter().map(|row| row.sample.clone()).collect(),
        };
        detector.unfolded()
    }

    /// Takes scores of known samples, none of them compared with itself or its group, as [`Self::nearest`] gives them in units of 1, and lets the
    /// unit be the score that one in twenty of them exceeds.
    pub fn calibrated(mut self, mut scores: Vec<f32>) -> Result<Self, BankError> {
        if scores.is_empty() || !scores.iter().all(|score| score.is_finite() && *score >= 0.0) {
            return Err(refuse(&self.name, "calibration", "must be there, finite and at least 0".to_owned()));
        }
        scores.sort_by(f32::total_cmp);
        let place = (scores.len() * 19).div_ceil(20).clamp(1, scores.len());
        self.unit = scores[place - 1].max(f32::MIN_POSITIVE);
        self.calibration = scores.into_iter().map(|score| score / self.unit).collect();
        Ok(self)
    }

    fn unfolded(mut self) -> Result<Self, BankError> {
        let (dims, name) = (self.scale.len(), self.name.clone());
        let refuse = |part: &str, message: &str| Err(refuse(&name, part, message.to_owned()));
        if dims == 0 || dims > MOST_DIMS {
            return refuse("scale", &format!("must have from 1 to {MOST_DIMS} numbers"));
        }
        let count = self.labels.len();
        if count == 0 || count > MOST_ROWS {
            return refuse("labels", &format!("must have from 1 to {MOST_ROWS} numbers"));
        }
        let each = self.codes.chunks_exact(dims).flat_map(|row| row.iter().zip(&self.step).zip(&self.zero));
        self.rows = each.map(|((code, step), zero)| f32::from(*code) * step + zero).collect();
        if !self.rows.iter().all(|value| value.is_finite()) {
            return refuse("rows", "must be finite");
        }
        Ok(self)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of features.
    pub fn dims(&self) -> usize {
        self.scale.len()
    }

    /// Number of known samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Scores of calibration samples, ascending.
    pub fn calibration(&self) -> &[f32] {
        &self.calibration
    }

    /// Name of a known sample.
    pub fn sample(&self, row: usize) -> &str {
        self.samples.get(row).map_or("", String::as_str)
    }

    /// Label of a known sample, by its place among the labels of all tasks.
    pub fn label(&self, row: usize) -> usize {
        self.labels.get(row).map_or(usize::MAX, |label| usize::from(*label))
    }

    /// Features of a known sample, as 8 bits give them.
    #[cfg(test)]
    pub(super) fn known(&self, row: usize) -> Vec<f32> {
        let row = &self.rows[row * self.dims()..][..self.dims()];
        row.iter().zip(&self.scale).map(|(value, scale)| value * scale).collect()
    }

    /// The nearest known samples, the nearest first, ties in the order of the rows; `None` if these are not as many features as
    /// it has, or not numbers.
    pub fn nearest(&self, features: &[f32], count: usize) -> Option<Vec<Known>> {
        if features.len() != self.dims() || !features.iter().all(|feature| feature.is_finite()) {
            return None;
        }
        let scaled: Vec<f32> =
            features.iter().zip(&self.scale).map(|(feature, scale)| feature / scale).collect();
        let mut nearest: Vec<Known> = Vec::with_capacity(count + 1);
        for (row, values) in self.rows.chunks_exact(self.dims()).enumerate() {
            let farthest =
                nearest.last().filter(|_| nearest.len() == count).map_or(f32::INFINITY, |last| last.distance);
            let distance = squared_distance(&scaled, values, farthest);
            if distance >= farthest {
                continue;
            }
            let at = nearest.partition_point(|known| known.distance <= distance);
            nearest.insert(at, Known { row, distance });
            nearest.truncate(count);
        }
        for known in &mut nearest {
            known.distance = known.distance.sqrt() / self.unit;
        }
        Some(nearest)
    }
}

/// The squared distance of two samples. Where it is at least `enough`, any number that is at least `enough` may be given in its place: most
/// samples of a bank are far away, and a part of the features shows it. (Sums of squares never fall as more are added, also
/// with rounding.) Sums are in eight lanes, so that the compiler makes vectors of them; their order is fixed.
fn squared_distance(a: &[f32], b: &[f32], enough: f32) -> f32 {
    let (wide_a, rest_a) = a.as_chunks::<LANES>();
    let (wide_b, rest_b) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in wide_a.chunks(STRETCH).zip(wide_b.chunks(STRETCH)) {
        for (a, b) in a.iter().zip(b) {
            for lane in 0..LANES {
                let apart = a[lane] - b[lane];
                sums[lane] += apart * apart;
            }
        }
        let so_far = sums.iter().sum::<f32>();
        if so_far >= enough {
            return so_far;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

impl Bank {
    /// Puts detectors together; the score is the distance to the `neighbours`-th nearest known sample.
    pub fn new(neighbours: usize, detectors: Vec<Detector>) -> Self {
        Self { neighbours: neighbours.max(1), detectors }
    }

    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    pub fn detectors(&self) -> &[Detector] {
        &self.detectors
    }

    /// Reads a file's bytes, which must hold these detectors and no others.
    pub fn read(bytes: &[u8], detectors: &[String], neighbours: usize) -> Result<Self, BankError> {
        let whole = |message: String| BankError { tensor: "file".to_owned(), message };
        let (_, head) = SafeTensors::read_metadata(bytes)
            .map_err(|error| whole(format!("is no safetensors file: {error}")))?;
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| whole(format!("is no safetensors file: {error}")))?;
        let names = head.metadata().as_ref().and_then(|metadata| metadata.get(SAMPLES));
        let names = names.ok_or_else(|| refuse("metadata", SAMPLES, "is missing".to_owned()))?;
        let mut names: BTreeMap<String, Vec<String>> = serde_json::from_str(names).map_err(|error| {
            refuse("metadata", SAMPLES, format!("must be a JSON object of lists of names: {error}"))
        })?;
        let known = |tensor: &str| {
            let of = detectors.iter().filter_map(|name| tensor.strip_prefix(name.as_str()));
            of.into_iter().any(|rest| PARTS.contains(&rest.trim_start_matches('.')))
        };
        if let Some(other) = tensors.names().into_iter().filter(|name| !known(name)).min() {
            return Err(BankError { tensor: other.to_owned(), message: "belongs to no detector".to_owned() });
        }
        let read = |name: &String| read_detector(&tensors, name, names.remove(name).unwrap_or_default());
        let detectors = detectors.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::new(neighbours, detectors))
    }

    /// Refuses rows of labels that are not there, and detectors of another width.
    pub fn check(&self, labels: &[&str], dims: impl Fn(&str) -> Option<usize>) -> Result<(), BankError> {
        for detector in &self.detectors {
            if detector.labels.iter().any(|label| usize::from(*label) >= labels.len()) {
                let message = format!("names a label beyond the bundle's {}", labels.len());
                return Err(refuse(&detector.name, "labels", message));
            }
            if let Some(dims) = dims(&detector.name).filter(|dims| *dims != detector.dims()) {
                return Err(refuse(
                    &detector.name,
                    "scale",
                    format!("has {} numbers, not {dims}", detector.dims()),
                ));
            }
        }
        Ok(())
    }

    /// The file's bytes: the same for the same bank.
    pub fn write(&self) -> Result<Vec<u8>, BankError> {
        let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        let fp32 =
            |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        for detector in &self.detectors {
            let (rows, dims) = (detector.len(), detector.dims());
            let mut put = |part: &str, datatype: Dtype, shape: Vec<usize>, bytes: Vec<u8>| {
                parts.push((format!("{}.{part}", detector.name), datatype, shape, bytes));
            };
            put("scale", Dtype::F32, vec![dims], fp32(&detector.scale));
            put("step", Dtype::F32, vec![dims], fp32(&detector.step));
            put("zero", Dtype::F32, vec![dims], fp32(&detector.zero));
            put("unit", Dtype::F32, vec![1], fp32(&[detector.unit]));
            put("calibration", Dtype::F32, vec![detector.calibration.len()], fp32(&detector.calibration));
            let labels = detector.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            put("labels", Dtype::U16, vec![rows], labels);
            put(
                "rows",
                Dtype::I8,
                vec![rows, dims],
                detector.codes.iter().map(|code| code.cast_unsigned()).collect(),
            );
        }
        let refuse = |message: String| BankError { tensor: "file".to_owned(), message };
        let views = parts.iter().map(|(name, datatype, shape, bytes)| {
            let view = TensorView::new(*datatype, shape.clone(), bytes);
            view.map(|view| (name.clone(), view)).map_err(|error| refuse(error.to_string()))
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        let names: BTreeMap<&str, &[String]> =
            self.detectors.iter().map(|detector| (detector.name.as_str(), &detector.samples[..])).collect();
        let names = serde_json::to_string(&names).map_err(|error| refuse(error.to_string()))?;
        let metadata = HashMap::from([(SAMPLES.to_owned(), names)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| refuse(error.to_string()))
    }
}

/// What a detector has in the file.
const PARTS: [&str; 7] = ["scale", "step", "zero", "unit", "calibration", "labels", "rows"];

fn read_detector(tensors: &SafeTensors<'_>, name: &str, samples: Vec<String>) -> Result<Detector, BankError> {
    let tensor = |part: &str, datatype: Dtype| {
        let view = tensors.tensor(&format!("{name}.{part}"));
        let view = view.map_err(|_| refuse(name, part, "is missing".to_owned()))?;
        match view.dtype() == datatype {
            true => Ok(view),
            false => Err(refuse(name, part, format!("is of {:?}, not {datatype:?}", view.dtype()))),
        }
    };
    let fp32 = |part: &str, least: f32| {
        let view = tensor(part, Dtype::F32)?;
        let (numbers, _) = view.data().as_chunks();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match view.shape().len() == 1 && numbers.iter().all(|number| number.is_finite() && *number >= least) {
            true => Ok(numbers),
            false => Err(refuse(name, part, format!("must be a list of finite numbers, none under {least}"))),
        }
    };
    let scale = fp32("scale", f32::MIN_POSITIVE)?;
    let dims = scale.len();
    let (step, zero) = (fp32("step", 0.0)?, fp32("zero", f32::MIN)?);
    for (part, numbers) in [("step", &step), ("zero", &zero)] {
        if numbers.len() != dims {
            return Err(refuse(name, part, format!("has {} numbers, not {dims}", numbers.len())));
        }
    }
    let unit = match fp32("unit", f32::MIN_POSITIVE)?[..] {
        [unit] => unit,
        _ => return Err(refuse(name, "unit", "must be one number".to_owned())),
    };
    let calibration = fp32("calibration", 0.0)?;
    if calibration.is_empty() || calibration.len() > MOST_SCORES || !calibration.is_sorted() {
        let message = format!("must be 1 to {MOST_SCORES} numbers that ascend");
        return Err(refuse(name, "calibration", message));
    }
    let labels = tensor("labels", Dtype::U16)?;
    let (labels, _) = labels.data().as_chunks();
    let labels: Vec<u16> = labels.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
    let rows = tensor("rows", Dtype::I8)?;
    if *rows.shape() != [labels.len(), dims] {
        return Err(refuse(
            name,
            "rows",
            format!("has shape {:?}, not {:?}", rows.shape(), [labels.len(), dims]),
        ));
    }
    if samples.len() != labels.len() || samples.iter().any(|sample| sample.len() > LONGEST_NAME) {
        let message = format!("must have {} names of at most {LONGEST_NAME} bytes", labels.len());
        return Err(refuse(name, SAMPLES, message));
    }
    let codes = rows.data().iter().map(|code| code.cast_signed()).collect();
    let (rows, name) = (Vec::new(), name.to_owned());
    Detector { name, scale, rows, codes, step, zero, unit, calibration, labels, samples }.unfolded()
}

fn refuse(name: &str, part: &str, message: String) -> BankError {
    BankError { tensor: format!("{name}.{part}"), message }
}
