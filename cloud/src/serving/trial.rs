//! A model's first runs: does it work, how long does it take for so many rows, do the rows touch each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use half::{bf16, f16};
use millgate_shared::array::{Array, Datatype, Values};
use millgate_shared::engine::{Axis, EngineError, Model, Port, Session, Signature};

/// Lengths tried for axes that are free and not of rows.
const LENGTHS: [usize; 7] = [1, 8, 16, 32, 64, 128, 224];
const ROWS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Timed runs after one that warms up; the fastest counts.
const RUNS: usize = 2;
/// Larger batches are not tried once this much has gone.
const BUDGET: Duration = Duration::from_millis(60);
/// Nor once a row costs so much more than alone.
const HOPELESS: f64 = 1.25;
/// A batch equals its rows alone within these.
const ABSOLUTE: f64 = 1e-5;
const RELATIVE: f64 = 1e-4;

#[derive(Debug)]
pub(crate) struct Trial {
    /// Rows → time.
    pub(crate) times: Vec<(usize, Duration)>,
    pub(crate) rows_are_independent: bool,
}

/// Runs a model until enough is known; an error if it runs with nothing that was tried.
pub(crate) fn run(model: &Arc<dyn Model>) -> Result<Trial, EngineError> {
    let mut session = Arc::clone(model).session()?;
    let signature = model.signature();
    let mut found = None;
    let mut last = EngineError::Run("nothing was tried".to_owned());
    for length in LENGTHS {
        match time(session.as_mut(), signature, 1, length) {
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
    let Some((length, alone)) = found else { return Err(last) };
    let mut trial = Trial { times: vec![(1, alone)], rows_are_independent: false };
    if !signature.may_batch() || !are_independent(session.as_mut(), signature, length) {
        return Ok(trial);
    }
    trial.rows_are_independent = true;
    let started = Instant::now();
    for rows in ROWS.into_iter().skip(1) {
        let Ok(took) = time(session.as_mut(), signature, rows, length) else { break };
        trial.times.push((rows, took));
        let per_row = took.as_secs_f64() / rows as f64;
        if started.elapsed() > BUDGET || per_row > HOPELESS * alone.as_secs_f64() {
            break;
        }
    }
    Ok(trial)
}

fn time(
    session: &mut dyn Session,
    signature: &Signature,
    rows: usize,
    length: usize,
) -> Result<Duration, EngineError> {
    let inputs = probe(signature, rows, length)?;
    session.run(inputs.clone())?;
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        let inputs = inputs.clone();
        let started = Instant::now();
        session.run(inputs)?;
        fastest = fastest.min(started.elapsed());
    }
    Ok(fastest)
}

/// Four rows together against each alone.
fn are_independent(session: &mut dyn Session, signature: &Signature, length: usize) -> bool {
    const TOGETHER: [usize; 4] = [1; 4];
    let tried = (|| {
        let inputs = probe(signature, TOGETHER.len(), length)?;
        let split = |array: Array| array.split(&TOGETHER);
        let parts: Vec<Vec<Array>> = inputs.iter().cloned().map(split).collect::<Result<_, _>>()?;
        let together: Vec<Vec<Array>> =
            session.run(inputs)?.into_iter().map(split).collect::<Result<_, _>>()?;
        for row in 0..TOGETHER.len() {
            let alone = session.run(parts.iter().map(|part| part[row].clone()).collect())?;
            let same = alone.len() == together.len()
                && alone.iter().zip(&together).all(|(alone, together)| are_close(alone, &together[row]));
            if !same {
                return Ok(false);
            }
        }
        Ok::<_, EngineError>(true)
    })();
    tried.unwrap_or(false)
}

fn are_close(a: &Array, b: &Array) -> bool {
    let close = |a: f64, b: f64| {
        (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= ABSOLUTE + RELATIVE * b.abs()
    };
    a.shape() == b.shape()
        && match (a.values(), b.values()) {
            (Values::Fp32(a), Values::Fp32(b)) => {
                a.iter().zip(b).all(|(a, b)| close((*a).into(), (*b).into()))
            }
            (Values::Fp64(a), Values::Fp64(b)) => a.iter().zip(b).all(|(a, b)| close(*a, *b)),
            (a, b) => a == b,
        }
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
