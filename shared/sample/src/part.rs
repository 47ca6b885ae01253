//! One modality's part of a sample: as a value, and as bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millgate_array::{Array, Datatype, elements};

/// The codec of a part that is a file's own bytes.
pub const FILE: &str = "file";
/// The codec of a part that is an array's raw bytes, as the Open Inference Protocol lays them out.
pub const TENSOR: &str = "tensor";

/// What the sender of a part says of it, by name: `bit_depth` of a picture.
pub type Attributes = BTreeMap<String, String>;

/// What one modality holds. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    array: Arc<Array>,
    original: Option<Bytes>,
}

impl Value {
    pub fn array(&self) -> &Arc<Array> {
        &self.array
    }

    /// The bytes of the file it was read from, if they give this value to whoever knows nothing but them.
    pub fn original(&self) -> Option<&Bytes> {
        self.original.as_ref()
    }

    pub fn with_original(self, original: Option<Bytes>) -> Self {
        Self { original, ..self }
    }
}

impl From<Arc<Array>> for Value {
    fn from(array: Arc<Array>) -> Self {
        Self { array, original: None }
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Arc::new(array).into()
    }
}

/// One modality's value as bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    /// A modality's name.
    pub modality: String,
    /// [`FILE`], [`TENSOR`], or a name that the modality's kind knows.
    pub codec: Cow<'static, str>,
    /// The shape of the value; empty where the bytes tell.
    pub shape: Vec<usize>,
    /// What [`TENSOR`] holds.
    pub datatype: Option<Datatype>,
    pub bytes: Bytes,
    pub attributes: Attributes,
}

impl Part {
    /// A file's own bytes.
    pub fn file(modality: &str, bytes: impl Into<Bytes>) -> Self {
        Self { modality: modality.to_owned(), codec: FILE.into(), bytes: bytes.into(), ..Self::default() }
    }

    /// An array as it is.
    pub fn tensor(modality: &str, array: &Array) -> Self {
        Self {
            modality: modality.to_owned(),
            codec: TENSOR.into(),
            shape: array.shape().to_vec(),
            datatype: Some(array.datatype()),
            bytes: array.values().to_raw().into(),
            attributes: Attributes::new(),
        }
    }

    pub fn is_file(&self) -> bool {
        self.codec == FILE
    }

    /// The array of a part with codec [`TENSOR`]; never more is made than `limits` allow.
    pub fn read_tensor(&self, limits: &Limits) -> Result<Array, Unreadable> {
        if self.codec != TENSOR {
            return Err(Unreadable::new(
                "codec",
                "unknown_codec",
                format!("`{}` is not a codec", self.codec),
            ));
        }
        let datatype = self.datatype.ok_or_else(|| {
            Unreadable::new("datatype", "bad_tensor", "must be said of a part with codec `tensor`")
        })?;
        let count = elements(&self.shape).and_then(|count| u64::try_from(count).ok());
        if count.is_none_or(|count| count > limits.max_elements) {
            let message = format!("{:?} is over the limit of {} numbers", self.shape, limits.max_elements);
            return Err(Unreadable::new("shape", "too_large", message));
        }
        let array = Array::from_raw(datatype, self.shape.clone(), &self.bytes)
            .map_err(|error| Unreadable::new("data", "bad_tensor", error.to_string()))?;
        if !array.is_finite() {
            return Err(Unreadable::new("data", "bad_tensor", "holds a value that is not finite"));
        }
        Ok(array)
    }
}

/// What one part may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, as they come. Default 64 MiB.
    pub max_bytes: u64,
    /// Places of what they unfold to: pixels of a picture, numbers of a tensor. Default 100 million.
    pub max_elements: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_elements: 100_000_000 }
    }
}

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    /// The field of the part that is wrong: `data`, `codec`, `shape`, `attributes.bit_depth`.
    pub field: &'static str,
    /// A word for machines, stable across versions.
    pub code: &'static str,
    pub message: String,
}

impl Unreadable {
    pub fn new(field: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { field, code, message: message.into() }
    }
}
