//! What the pool asks of a worker process, and what that answers. Tensors themselves go through shared memory; a message
//! says where they lie in it. Pure.

use millgate_shared::array::{Array, ArrayError, Datatype, elements};
use millgate_shared::engine::{Axis, EngineError, Port};
use serde::{Deserialize, Serialize};

/// Most bytes of one message; the names of a model's inputs and outputs are the longest part.
pub(crate) const MOST_BYTES: usize = 16 << 20;
/// A tensor begins at a multiple of this in shared memory.
const ALIGNMENT: usize = 64;

/// What is asked of a worker as such.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Serves the socket beside as one more lane.
    Lane,
}

/// What is asked of a worker on one of its lanes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Opens an engine, and says what it is.
    Look { engine: String, settings: String },
    /// Loads a model under a number of its own. The file's bytes and those of its weights come as a file beside.
    Load(Load),
    /// Announces so many sessions of a model.
    Prepare { model: u64, sessions: usize },
    /// Makes a session of a model; the runs of this lane are its own.
    Open { model: u64 },
    /// Takes the file beside as this lane's memory, of so many bytes; with 0 bytes and no file, lets the memory go.
    Memory { bytes: usize },
    /// Runs the session on inputs that lie in the lane's memory. `measured`: how much memory it takes is wanted too.
    Run { inputs: Vec<Tensor>, measured: bool },
    /// Lets a model go.
    Unload { model: u64 },
}

/// What a worker answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// What an engine says of itself.
    Seen(String),
    Loaded(Loaded),
    /// Outputs lie in the lane's memory. `memory`: bytes held before the run, and the most until its end.
    Ran {
        outputs: Vec<Tensor>,
        memory: Option<(u64, u64)>,
    },
    /// Outputs need so many bytes of the lane's memory, which it does not have: it must be given anew.
    NeedsMemory {
        bytes: usize,
    },
    Failed(Failed),
}

/// A model to load.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) model: u64,
    pub(crate) engine: String,
    pub(crate) settings: String,
    /// Shapes that it will be given alone; `None`: any.
    pub(crate) shapes: Option<Vec<Vec<usize>>>,
    /// Folder and paths are names by which engines tell files apart; a worker opens none of them.
    pub(crate) dir: Option<String>,
    /// Length of the model's own file, which comes first.
    pub(crate) length: usize,
    /// Weights, in the order in which they come after it.
    pub(crate) weights: Vec<Weights>,
}

/// A file of weights.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    pub(crate) location: String,
    pub(crate) path: String,
    pub(crate) length: usize,
}

/// What is to be known of a model that was loaded.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) inputs: Vec<Named>,
    pub(crate) outputs: Vec<Named>,
    pub(crate) plans_by_shape: bool,
    pub(crate) takes_zero_bytes: bool,
}

/// An input or output.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    name: String,
    datatype: String,
    shape: Option<Vec<Length>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Length {
    Fixed(usize),
    Named(String),
    Any,
}

impl From<&Port> for Named {
    fn from(port: &Port) -> Self {
        let length = |axis: &Axis| match axis {
            Axis::Fixed(length) => Length::Fixed(*length),
            Axis::Named(name) => Length::Named(name.clone()),
            Axis::Any => Length::Any,
        };
        let shape = port.shape.as_ref().map(|axes| axes.iter().map(length).collect());
        Self { name: port.name.clone(), datatype: port.datatype.name().to_owned(), shape }
    }
}

impl Named {
    /// The port; an error says what no port is.
    pub(crate) fn port(self) -> Result<Port, String> {
        let axis = |length: Length| match length {
            Length::Fixed(length) => Axis::Fixed(length),
            Length::Named(name) => Axis::Named(name),
            Length::Any => Axis::Any,
        };
        let datatype = datatype(&self.datatype)?;
        let shape = self.shape.map(|shape| shape.into_iter().map(axis).collect());
        Ok(Port { name: self.name, datatype, shape })
    }
}

fn datatype(name: &str) -> Result<Datatype, String> {
    Datatype::from_name(name).ok_or_else(|| "named a datatype that there is not".to_owned())
}

/// A tensor in the lane's memory, as the protocol's raw bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tensor {
    datatype: String,
    shape: Vec<usize>,
    /// Where it begins, and how many bytes it has.
    pub(crate) at: usize,
    pub(crate) size: usize,
}

/// Why a tensor cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TensorError {
    #[error("gave a tensor that is none: {0}")]
    Array(#[from] ArrayError),
    #[error("{0}")]
    Place(String),
}

impl Tensor {
    /// Moves the tensor to another place.
    #[cfg(test)]
    pub(super) fn moved(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// Lays arrays out one after the other, and says how many bytes they take in all.
    pub(crate) fn lay_out(arrays: &[Array]) -> (Vec<Self>, usize) {
        let mut end = 0_usize;
        let lay = |array: &Array| {
            let (at, size) = (end, array.values().raw_size());
            end = at.saturating_add(size).next_multiple_of(ALIGNMENT);
            Self { datatype: array.datatype().name().to_owned(), shape: array.shape().to_vec(), at, size }
        };
        let tensors = arrays.iter().map(lay).collect();
        (tensors, end)
    }

    /// Makes the array, of which `read` copies the bytes.
    pub(crate) fn array(
        self,
        read: impl FnOnce(&mut [u8]) -> Result<(), TensorError>,
    ) -> Result<Array, TensorError> {
        let datatype = datatype(&self.datatype).map_err(TensorError::Place)?;
        let count = elements(&self.shape).ok_or(ArrayError::TooLarge)?;
        let values = millgate_shared::array::Values::filled(datatype, count, self.size, read)?;
        Ok(Array::new(self.shape, values)?)
    }
}

/// An engine's error, as far as its kind matters to whoever gets it; what is shown of it is the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Failed {
    Prepare(String),
    Run(String),
    Untrusted(String),
    External { location: String, what: String },
    Unheard { name: String, infinity: bool, node: String },
    Other(String),
}

/// What an engine does not hear, as its error names it.
const NAN: &str = "NaN";
const INFINITY: &str = "infinity";

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Prepare(text) => Self::Prepare(text),
            EngineError::Run(text) => Self::Run(text),
            EngineError::Untrusted(text) => Self::Untrusted(text),
            EngineError::External { location, what } => Self::External { location, what },
            EngineError::Unheard { name, what, node } => {
                Self::Unheard { name, infinity: what == INFINITY, node }
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failed> for EngineError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Prepare(text) => Self::Prepare(text),
            Failed::Run(text) => Self::Run(text),
            Failed::Untrusted(text) => Self::Untrusted(text),
            Failed::External { location, what } => Self::External { location, what },
            Failed::Unheard { name, infinity, node } => {
                Self::Unheard { name, what: if infinity { INFINITY } else { NAN }, node }
            }
            Failed::Other(text) => Self::Told(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use millgate_shared::array::Values;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays_come_through_as_they_were() {
        let arrays = [
            Array::new(vec![2, 3], Values::Fp32((0..6).map(|n| n as f32).collect())).unwrap(),
            Array::new(vec![0, 7], Values::Int64(Vec::new())).unwrap(),
            Array::new(vec![1], Values::Bytes(vec![bytes::Bytes::from_static(b"text")])).unwrap(),
            Array::new(vec![], Values::Bool(vec![true])).unwrap(),
        ];
        let (tensors, bytes) = Tensor::lay_out(&arrays);
        let mut memory = vec![0; bytes];
        for (array, tensor) in arrays.iter().zip(&tensors) {
            memory[tensor.at..tensor.at + tensor.size].copy_from_slice(&array.values().to_raw());
        }
        for (array, tensor) in arrays.iter().zip(tensors) {
            let range = tensor.at..tensor.at + tensor.size;
            let read = tensor.array(|into| {
                into.copy_from_slice(&memory[range]);
                Ok(())
            });
            assert_eq!(read.unwrap(), *array);
        }
    }

    #[test]
    fn a_tensor_that_is_none_is_an_error() {
        let tensor = |datatype: &str, shape: Vec<usize>, size: usize| {
            let tensor = Tensor { datatype: datatype.to_owned(), shape, at: 0, size };
            tensor.array(|_| Ok(())).map_err(|error| error.to_string())
        };
        assert!(tensor("FP99", vec![1], 4).unwrap_err().contains("datatype"));
        assert!(tensor("FP32", vec![2], 4).is_err(), "size and shape differ");
        assert!(tensor("FP32", vec![usize::MAX, 2], 4).is_err(), "the shape overflows");
        assert!(tensor("FP32", vec![usize::MAX / 4], usize::MAX / 4 * 4).is_err(), "there is no such memory");
    }

    #[test]
    fn an_error_that_matters_keeps_its_kind_and_every_one_its_words() {
        let errors = [
            EngineError::Prepare("a".to_owned()),
            EngineError::Run("b".to_owned()),
            EngineError::Untrusted("c".to_owned()),
            EngineError::External { location: "w".to_owned(), what: "d".to_owned() },
            EngineError::Unheard { name: "x".to_owned(), what: INFINITY, node: "Max".to_owned() },
            EngineError::Unheard { name: "x".to_owned(), what: NAN, node: "Max".to_owned() },
            EngineError::InputCount { expected: 1, got: 2 },
        ];
        for error in errors {
            let back = EngineError::from(Failed::from(error.clone()));
            assert_eq!(back.to_string(), error.to_string());
        }
        let run = EngineError::from(Failed::from(EngineError::Run("b".to_owned())));
        assert!(matches!(run, EngineError::Run(_)));
    }

    proptest! {
        /// Whatever comes in, and wherever a message is cut, there is an error and no panic.
        #[test]
        fn nonsense_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let _read_or_refused = serde_json::from_slice::<Answer>(&bytes).is_ok();
            let whole = Answer::Ran {
                outputs: vec![Tensor { datatype: "FP32".to_owned(), shape: vec![1, 2], at: 64, size: 8 }],
                memory: Some((1, 2)),
            };
            let text = serde_json::to_vec(&whole).unwrap();
            let cut = cut.min(text.len());
            let read: Result<Answer, _> = serde_json::from_slice(&text[..cut]);
            prop_assert_eq!(read.is_ok(), cut == text.len());
        }
    }
}
