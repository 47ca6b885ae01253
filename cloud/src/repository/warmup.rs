//! A model's first runs, as its configuration asks for them: what an engine prepares for these shapes is there before the
//! first request, and its trial has inputs that are not made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use millgate_shared::array::{Array, Datatype, Values, elements};
use millgate_shared::engine::{Port, Signature};
use millgate_shared::proto::inference::model_warmup::Input;
use millgate_shared::proto::inference::model_warmup::input::InputDataType;
use millgate_shared::proto::inference::{ModelConfig, ModelWarmup};

use super::file::{bounded, is_plain};
use super::layout::Place;
use crate::engines::trial::guess::{Guess, Numbers};
use crate::oip::contents;
use crate::oip::describe::data_type;
use crate::serving::batch::warm_up;
use crate::serving::served::Served;

/// The most runs of one entry.
const MOST_RUNS: u32 = 1000;
/// The most bytes of one input, as for a request's.
const LARGEST: usize = 64 << 20;
/// Beside the versions: where files of inputs lie.
const FOLDER: &str = "warmup";

/// What a model's configuration brings for its first runs.
pub(super) struct Entry {
    /// Name of the entry in an error.
    field: String,
    runs: u32,
    /// In the signature's order.
    pub(super) inputs: Arc<Vec<Array>>,
}

/// All that it brings, read and made.
pub(super) fn read(place: &Place, config: &ModelConfig, signature: &Signature) -> Result<Vec<Entry>, String> {
    let entry = |warmup: &ModelWarmup| {
        let field = format!("model_warmup `{}`", warmup.name);
        if warmup.count > MOST_RUNS {
            return Err(format!("{field}.count: {} is more than {MOST_RUNS}", warmup.count));
        }
        let inputs = inputs(place, config, signature, warmup);
        let inputs = Arc::new(inputs.map_err(|message| format!("{field}.{message}"))?);
        Ok(Entry { field, runs: warmup.count.max(1), inputs })
    };
    config.model_warmup.iter().map(entry).collect()
}

/// Each entry, as often as it says. One that fails fails the model.
pub(super) fn run(entries: &[Entry], served: &Served) -> Result<(), String> {
    for Entry { field, runs, inputs } in entries {
        for _ in 0..*runs {
            warm_up(served, inputs.to_vec()).map_err(|failure| format!("{field}: {failure}"))?;
        }
    }
    Ok(())
}

/// In the signature's order.
fn inputs(
    place: &Place,
    config: &ModelConfig,
    signature: &Signature,
    warmup: &ModelWarmup,
) -> Result<Vec<Array>, String> {
    let given: BTreeMap<&str, &Input> =
        warmup.inputs.iter().map(|(name, input)| (name.as_str(), input)).collect();
    if let Some(name) = given.keys().find(|name| signature.input(name).is_none()) {
        return Err(format!("inputs: the model has no `{name}`"));
    }
    let most = u32::try_from(config.max_batch_size).unwrap_or(0);
    if warmup.batch_size > most.max(1) {
        return Err(format!("batch_size: {} is more than max_batch_size, {most}", warmup.batch_size));
    }
    let rows = (most > 0).then(|| i64::from(warmup.batch_size.max(1)));
    let mut numbers = Numbers::default();
    let mut arrays = Vec::with_capacity(signature.inputs.len());
    for port in &signature.inputs {
        let Some(input) = given.get(port.name.as_str()) else {
            return Err(format!("inputs: `{}` is missing", port.name));
        };
        let made = array(place, port, input, rows, &mut numbers);
        arrays.push(made.map_err(|message| format!("inputs `{}`.{message}", port.name))?);
    }
    Ok(arrays)
}

fn array(
    place: &Place,
    port: &Port,
    input: &Input,
    rows: Option<i64>,
    numbers: &mut Numbers,
) -> Result<Array, String> {
    let expected = data_type(port.datatype);
    if input.data_type() != expected {
        let (kind, expected) = (input.data_type().as_str_name(), expected.as_str_name());
        return Err(format!("data_type: is {kind}, the model's is {expected}"));
    }
    let dims: Vec<i64> = rows.into_iter().chain(input.dims.iter().copied()).collect();
    let shape = contents::shape("dims", &dims).map_err(|failure| failure.to_string())?;
    // The length prefix of a text is its least.
    let size = match port.datatype {
        Datatype::Bytes => 4,
        Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => 1,
        Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => 2,
        Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => 4,
        Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => 8,
    };
    let count = elements(&shape).filter(|count| count.saturating_mul(size) <= LARGEST);
    let count = count.ok_or_else(|| format!("dims: {dims:?} are more than {LARGEST} bytes"))?;
    let raw = |raw: &[u8]| {
        contents::raw("data", port.datatype, shape.clone(), raw).map_err(|failure| failure.to_string())
    };
    match &input.input_data_type {
        None => Err("zero_data, random_data or input_data_file: one must be set".to_owned()),
        Some(InputDataType::ZeroData(_)) => raw(&vec![0; count * size]),
        Some(InputDataType::RandomData(_)) => {
            let values: Values = numbers.make(Guess::Usual, port, count);
            Array::new(shape, values).map_err(|error| error.to_string())
        }
        Some(InputDataType::InputDataFile(name)) if !is_plain(name) => {
            Err(format!("input_data_file: `{name}` is not a name"))
        }
        Some(InputDataType::InputDataFile(name)) => {
            let path = place.dir.join(FOLDER).join(name);
            let bytes = bounded(&place.root, &path, LARGEST as u64);
            raw(&bytes.map_err(|error| format!("input_data_file: {}", error.told()))?)
        }
    }
}
