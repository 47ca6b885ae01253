//! A model's first runs: does it work, how long does it take for so many rows, do the rows touch each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use half::{bf16, f16};
use millgate_shared::array::{Array, Datatype, Values};
use millgate_shared::engine::{Axis, EngineError, Model, Port, Session, Signature};

use super::closeness::{OF_BATCHES, difference};

/// Lengths tried for axes that are free and not of rows.
const LENGTHS: [usize; 7] = [1, 8, 16, 32, 64, 128, 224];
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Timed runs after one that warms up, of which the fastest counts: this many, and more of what is over quickly.
const FEWEST_RUNS: usize = 2;
const MOST_RUNS: usize = 200;
const ENOUGH: Duration = Duration::from_millis(3);
/// Larger batches are not tried once this much has gone.
const BUDGET: Duration = Duration::from_millis(60);
/// Nor when one would take longer: no thread is held by a batch for that long.
const LONGEST: Duration = Duration::from_millis(20);
/// Nor once a row costs so much more than alone.
const HOPELESS: f64 = 1.25;
/// Nor, from this many rows on, once twice as many gain less than a twentieth.
const MANY: usize = 16;
const STILL_PAYS: f64 = 0.95;

/// What was found out.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Rows → time, beginning with one row.
    pub(crate) times: Vec<(usize, Duration)>,
    pub(crate) rows_are_independent: bool,
    /// Of the axes that are free, other than that of rows.
    pub(crate) length: usize,
    /// Rows → outputs, for inputs that are the same for every engine.
    pub(crate) samples: Vec<(usize, Vec<Array>)>,
}

/// Runs a model until enough is known; an error if it runs with nothing that was tried. A `length` for the free axes,
/// if one is known to work.
pub(crate) fn run(model: &Arc<dyn Model>, length: Option<usize>) -> Result<Trial, EngineError> {
    let mut session = Arc::clone(model).session()?;
    let signature = model.signature();
    let mut found = None;
    let mut last = EngineError::Run("nothing was tried".to_owned());
    for length in length.map_or(LENGTHS.to_vec(), |length| vec![length]) {
        match time(session.as_mut(), &probe(signature, 1, length)?) {
            Ok(alone) => {
                found = Some((length, alone));
                break;
            }
            Err(error) => last = error,
        }
        if !has_free_axes(signature) {
            break;
        }
    }
    let Some((length, (alone, sample))) = found else { return Err(last) };
    let mut trial =
        Trial { times: vec![(1, alone)], rows_are_independent: false, length, samples: vec![(1, sample)] };
    if !signature.may_batch() {
        return Ok(trial);
    }
    let rows = if alone * 4 > LONGEST { 2 } else { 4 };
    let Some(sample) = independent(session.as_mut(), signature, rows, length) else { return Ok(trial) };
    trial.rows_are_independent = true;
    trial.samples.push((rows, sample));
    let (started, mut best) = (Instant::now(), alone.as_secs_f64());
    for rows in ROWS.into_iter().skip(1) {
        if best * rows as f64 > LONGEST.as_secs_f64() || started.elapsed() > BUDGET {
            break;
        }
        let Ok((took, _)) = time(session.as_mut(), &probe(signature, rows, length)?) else { break };
        trial.times.push((rows, took));
        let per_row = took.as_secs_f64() / rows as f64;
        if per_row > HOPELESS * alone.as_secs_f64() || (rows >= MANY && per_row > STILL_PAYS * best) {
            break;
        }
        best = best.min(per_row);
    }
    Ok(trial)
}

/// The fastest of some runs, and what came out.
fn time(session: &mut dyn Session, inputs: &[Array]) -> Result<(Duration, Vec<Array>), EngineError> {
    let outputs = session.run(inputs.to_vec())?;
    let (mut fastest, mut spent) = (Duration::MAX, Duration::ZERO);
    for run in 0..MOST_RUNS {
        if run >= FEWEST_RUNS && spent > ENOUGH {
            break;
        }
        let inputs = inputs.to_vec();
        let started = Instant::now();
        session.run(inputs)?;
        let took = started.elapsed();
        fastest = fastest.min(took);
        spent += took;
    }
    Ok((fastest, outputs))
}

/// The outputs of some rows together, if they are those of each alone.
fn independent(
    session: &mut dyn Session,
    signature: &Signature,
    rows: usize,
    length: usize,
) -> Option<Vec<Array>> {
    let sizes = vec![1; rows];
    let tried = (|| {
        let inputs = probe(signature, rows, length)?;
        let split = |array: Array| array.split(&sizes);
        let parts: Vec<Vec<Array>> = inputs.iter().cloned().map(split).collect::<Result<_, _>>()?;
        let outputs = session.run(inputs)?;
        let together: Vec<Vec<Array>> = outputs.iter().cloned().map(split).collect::<Result<_, _>>()?;
        for row in 0..rows {
            let alone = session.run(parts.iter().map(|part| part[row].clone()).collect())?;
            let same = |(alone, together): (&Array, &Vec<Array>)| {
                difference(alone, &together[row], OF_BATCHES).is_none()
            };
            if alone.len() != together.len() || !alone.iter().zip(&together).all(same) {
                return Ok(None);
            }
        }
        Ok::<_, EngineError>(Some(outputs))
    })();
    tried.unwrap_or(None)
}

fn has_free_axes(signature: &Signature) -> bool {
    let is_free = |axis: &Axis| !matches!(axis, Axis::Fixed(_));
    let skipped = usize::from(signature.may_batch());
    let ports = signature.inputs.iter();
    ports.flat_map(|port| port.shape.iter().flatten().skip(skipped)).any(is_free)
}

/// Inputs that are the same every time, and differ from row to row.
fn probe(signature: &Signature, rows: usize, length: usize) -> Result<Vec<Array>, EngineError> {
    let may_batch = signature.may_batch();
    let mut named: HashMap<&str, usize> = HashMap::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for port in &signature.inputs {
        let axes = port.shape.as_deref().unwrap_or(&[]);
        let mut shape = Vec::with_capacity(axes.len());
        for (at, axis) in axes.iter().enumerate() {
            let free = if at == 0 && may_batch { rows } else { length };
            shape.push(match axis {
                Axis::Fixed(fixed) => *fixed,
                Axis::Named(name) => *named.entry(name).or_insert(free),
                Axis::Any => free,
            });
        }
        let count = millgate_shared::array::elements(&shape).unwrap_or(0);
        inputs.push(Array::new(shape, values(port, count, &mut seed))?);
    }
    Ok(inputs)
}

/// Small numbers; integers are 0 or 1, since they are often indices.
pub(crate) fn values(port: &Port, count: usize, seed: &mut u64) -> Values {
    let mut next = || {
        // xorshift64: Marsaglia, Xorshift RNGs, 2003.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 40) as f32 / (1u64 << 24) as f32
    };
    macro_rules! whole {
        ($of:ty) => {
            (0..count).map(|_| <$of>::from(next() > 0.5)).collect::<Vec<$of>>().into()
        };
    }
    match port.datatype {
        Datatype::Bool => (0..count).map(|_| next() > 0.5).collect::<Vec<bool>>().into(),
        Datatype::Uint8 => whole!(u8),
        Datatype::Uint16 => whole!(u16),
        Datatype::Uint32 => whole!(u32),
        Datatype::Uint64 => whole!(u64),
        Datatype::Int8 => whole!(i8),
        Datatype::Int16 => whole!(i16),
        Datatype::Int32 => whole!(i32),
        Datatype::Int64 => whole!(i64),
        Datatype::Fp16 => (0..count).map(|_| f16::from_f32(next() - 0.5)).collect::<Vec<_>>().into(),
        Datatype::Bf16 => (0..count).map(|_| bf16::from_f32(next() - 0.5)).collect::<Vec<_>>().into(),
        Datatype::Fp32 => (0..count).map(|_| 2.0 * next() - 1.0).collect::<Vec<f32>>().into(),
        Datatype::Fp64 => (0..count).map(|_| f64::from(next()) - 0.5).collect::<Vec<f64>>().into(),
        Datatype::Bytes => vec![Bytes::from_static(b"a"); count].into(),
    }
}
