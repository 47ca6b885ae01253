//! An output's best classes, for a client that asks for those instead of its values.

use std::sync::Arc;

use millgate_shared::array::Array;

use super::classification;
use super::request::Parameters;
use super::served::Served;
use crate::failure::Failure;
use crate::heavy;

/// How many are asked for of an output, by its index; an error is what is wrong with the parameter.
pub(super) fn asked(
    served: &Served,
    output: usize,
    parameters: &Parameters,
) -> Result<Option<usize>, String> {
    let Some(count) = parameters.get("classification") else { return Ok(None) };
    let count = count.whole().filter(|count| *count > 0).ok_or("must be a whole number of at least 1")?;
    let port = &served.signature().outputs[output];
    if !classification::is_offered(port.datatype) {
        return Err(format!("`{}` is {}, which has no classes", port.name, port.datatype));
    }
    Ok(Some(usize::try_from(count).unwrap_or(usize::MAX)))
}

/// `array` is the output of that index.
pub(super) async fn best(
    served: &Arc<Served>,
    output: usize,
    array: Array,
    count: usize,
) -> Result<Array, Failure> {
    let port = &served.signature().outputs[output];
    let free_rows = array.shape().len() > 1 && port.wire_shape().first() == Some(&-1);
    let has_rows = served.rows_are_independent || free_rows;
    let (served, name, size) = (Arc::clone(served), port.name.clone(), array.values().size());
    let work = move || {
        let labels = served.traits.labels.get(&name).map_or(&[][..], Vec::as_slice);
        classification::best(&array, has_rows, count, labels)
    };
    heavy::run(size, work).await?.map_err(|error| Failure::Model(error.to_string()))
}
