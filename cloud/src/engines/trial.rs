//! A model's first runs: inputs that it takes are found, or made up, its answer for them is kept to be compared with
//! another engine's; that its rows are independent is proved, and how long so many rows take is measured.
//!
//! * [`guess`]: what inputs are made up. [`guard`]: ends what does not end. A model that takes none of them is *unproven*: it is served, and never batched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::array::{Array, Datatype};
use millgate_shared::engine::{Axis, Cause, EngineError, Model, Session, Signature};

use super::appetite::is_lack_of_memory;
use super::closeness::{OF_BATCHES, difference};
use guard::Guard;
use guess::Guess;

pub(super) mod guard;
pub(crate) mod guess;
#[cfg(test)]
mod tests;

/// Lengths tried for axes that are free and not of rows.
const LENGTHS: [usize; 7] = [1, 8, 16, 32, 64, 128, 224];
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Rows that are looked at to find some that differ: small integers are often alike.
const DIFFERING: [usize; 3] = [4, 8, 16];
/// Timed runs after one that warms up, of which the fastest counts: this many, and more of what is over quickly.
const FEWEST_RUNS: usize = 2;
const MOST_RUNS: usize = 200;
const ENOUGH: Duration = Duration::from_millis(3);
/// Larger batches are not tried once this much has gone.
const BUDGET: Duration = Duration::from_millis(60);
/// Batches that would take longer than this are not tried: no thread is held by a batch for that long.
const LONGEST: Duration = Duration::from_millis(20);
/// Larger batches are not tried once a row costs so many times what it costs alone.
const HOPELESS: f64 = 1.25;
/// From this many rows on, larger batches are not tried once twice as many rows gain less than a twentieth.
const MANY: usize = 16;
const STILL_PAYS: f64 = 0.95;
/// No further guess is made once so many have ended the process that the model is in.
const DEATHS: usize = 2;
/// No further guess is made once this much has gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was found out.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Rows → time, beginning with one row. Nothing of a model that is unproven.
    pub(crate) times: Vec<(usize, Duration)>,
    pub(crate) rows_are_independent: bool,
    /// Inputs that it takes.
    pub(crate) fit: Option<Fit>,
    /// The model's answers to samples that are the same for every engine.
    pub(crate) samples: Vec<(Sample, Vec<Array>)>,
    /// Why no inputs are known that it takes, if that is so.
    pub(crate) unproven: Option<String>,
}

/// Inputs that a model takes.
#[derive(Debug, Clone)]
pub(crate) enum Fit {
    /// The inputs that the model's configuration brings, in its `model_warmup`.
    Given(Arc<Vec<Array>>),
    /// Free axes, other than that of rows, have this length.
    Made { guess: Guess, length: usize },
}

/// Which inputs an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    /// Gives this many rows of inputs that fit.
    Rows(usize),
    /// One row of values that lie far apart.
    Wide,
}

impl Fit {
    /// The inputs of a sample; none where there are none such.
    pub(crate) fn inputs(
        &self,
        sample: Sample,
        signature: &Signature,
    ) -> Result<Option<Vec<Array>>, EngineError> {
        match (self, sample) {
            (Self::Given(arrays), Sample::Rows(rows)) => {
                Ok((rows == 1 || rows_of(arrays) == Some(rows)).then(|| arrays.to_vec()))
            }
            (Self::Given(_), Sample::Wide) => Ok(None),
            (Self::Made { guess, length }, Sample::Rows(rows)) => {
                guess::inputs(*guess, signature, rows, *length).map(Some)
            }
            (Self::Made { length, .. }, Sample::Wide) => {
                guess::inputs(Guess::Wide, signature, 1, *length).map(Some)
            }
        }
    }

    /// For a log.
    fn name(&self) -> String {
        match self {
            Self::Given(_) => "its model_warmup".to_owned(),
            Self::Made { guess, length } => format!("{guess:?}, free axes of {length}"),
        }
    }
}

/// Runs a model until enough is known; an error if it cannot be run at all. `known`: inputs that another engine takes;
/// `given`: some that its configuration brings. `limit`: how long all of it may take, where runs can be ended.
pub(crate) fn run(
    model: &Arc<dyn Model>,
    known: Option<&Fit>,
    given: &[Arc<Vec<Array>>],
    limit: Duration,
) -> Result<Trial, EngineError> {
    let mut session = Arc::clone(model).session()?;
    let session = session.as_mut();
    let _guard = Guard::start(session.ender(), limit);
    let signature = model.signature();
    let (fit, alone, sample) = match find(session, signature, known, given) {
        Ok(found) => found,
        // What fails with what another engine takes has failed.
        Err(Missing { error: EngineError::Run(reason), .. })
            if known.is_none() && !is_lack_of_memory(&reason) =>
        {
            return Ok(Trial::unproven(reason));
        }
        Err(Missing { error, .. }) => return Err(error),
    };
    tracing::debug!(inputs = fit.name(), "a model takes these");
    let mut trial = Trial {
        times: vec![(1, alone)],
        rows_are_independent: false,
        fit: None,
        samples: vec![(Sample::Rows(1), sample)],
        unproven: None,
    };
    if is_wide(signature)
        && let Some(inputs) = fit.inputs(Sample::Wide, signature)?
        && let Ok(outputs) = session.run(inputs)
    {
        trial.samples.push((Sample::Wide, outputs));
    }
    if is_of_rows(signature) {
        rows(session, signature, &fit, &mut trial)?;
    }
    trial.fit = Some(fit);
    Ok(trial)
}

impl Trial {
    fn unproven(reason: String) -> Self {
        let (times, samples) = (Vec::new(), Vec::new());
        Self { times, rows_are_independent: false, fit: None, samples, unproven: Some(reason) }
    }
}

/// Whether a model's first axes may be of rows, and no input says how the others are laid out.
fn is_of_rows(signature: &Signature) -> bool {
    signature.may_batch() && !signature.graph.roles.values().any(|role| role.is_of_layout())
}

/// Small numbers do not show what it does with 8-bit ones.
fn is_wide(signature: &Signature) -> bool {
    let is_small = |datatype: Datatype| matches!(datatype, Datatype::Uint8 | Datatype::Int8);
    signature.graph.is_quantised() || signature.inputs.iter().any(|port| is_small(port.datatype))
}

/// No inputs were found.
struct Missing {
    /// The last one. That of a run, if it came so far for any: with other values it may not fail.
    error: EngineError,
    /// How many have ended the process that the model is in.
    deaths: usize,
}

impl Missing {
    /// Notes one more. True: it was one too many of those that end a process.
    fn note(&mut self, error: EngineError) -> bool {
        if let EngineError::Ended(ending) = &error {
            self.deaths += 1;
            let is_last = matches!(ending.cause, Cause::Ended(_)) || self.deaths >= DEATHS;
            self.error = error;
            return is_last;
        }
        let is_of_run = |error: &EngineError| matches!(error, EngineError::Run(_));
        if is_of_run(&error) || !is_of_run(&self.error) {
            self.error = error;
        }
        false
    }
}

type Found = (Fit, Duration, Vec<Array>);

/// Inputs that the model takes, how long it needs for them, and its answer.
fn find(
    session: &mut dyn Session,
    signature: &Signature,
    known: Option<&Fit>,
    given: &[Arc<Vec<Array>>],
) -> Result<Found, Missing> {
    let mut missing = Missing { error: EngineError::Prepare("nothing was tried".to_owned()), deaths: 0 };
    let mut attempt = |fit: Fit| {
        let inputs = fit.inputs(Sample::Rows(1), signature);
        let ran = inputs.and_then(|inputs| time(session, &inputs.unwrap_or_default()));
        ran.map(|(took, outputs)| (fit, took, outputs))
    };
    if let Some(known) = known {
        return attempt(known.clone()).map_err(|error| Missing { error, deaths: 0 });
    }
    for arrays in given {
        match attempt(Fit::Given(Arc::clone(arrays))) {
            Ok(found) => return Ok(found),
            Err(error) => {
                if missing.note(error) {
                    return Err(missing);
                }
            }
        }
    }
    let started = Instant::now();
    let mut lengths = if has_free_axes(signature) { LENGTHS.to_vec() } else { vec![LENGTHS[0]] };
    for guess in Guess::ALL.into_iter().filter(|guess| guess.is_for(signature)) {
        // What is wrong before it runs is wrong for all values of that shape.
        let mut worth_more = Vec::with_capacity(lengths.len());
        for length in lengths {
            if guess != Guess::Usual && started.elapsed() > PATIENCE {
                return Err(missing);
            }
            match attempt(Fit::Made { guess, length }) {
                Ok(found) => return Ok(found),
                Err(error) => {
                    worth_more.extend(matches!(error, EngineError::Run(_)).then_some(length));
                    if missing.note(error) {
                        return Err(missing);
                    }
                }
            }
        }
        lengths = worth_more;
    }
    // A file that says 0 says nothing, or means it: an empty list of axes is one.
    if has_free_axes(signature) && matches!(missing.error, EngineError::Run(_)) {
        return attempt(Fit::Made { guess: Guess::Usual, length: 0 }).map_err(|_| missing);
    }
    Err(missing)
}

/// Whether rows are independent, and how long so many of them take.
fn rows(
    session: &mut dyn Session,
    signature: &Signature,
    fit: &Fit,
    trial: &mut Trial,
) -> Result<(), EngineError> {
    let alone = trial.times[0].1;
    let fewest = if alone * 4 > LONGEST { 2 } else { DIFFERING[0] };
    let sizes: Vec<usize> = match fit {
        Fit::Given(arrays) => rows_of(arrays).into_iter().filter(|rows| *rows > 1).collect(),
        Fit::Made { .. } => std::iter::once(fewest).chain(DIFFERING).collect(),
    };
    let mut proved = None;
    for rows in sizes {
        let sample = Sample::Rows(rows);
        let Some(inputs) = fit.inputs(sample, signature)? else { continue };
        let parts = parts(&inputs, rows)?;
        if parts.iter().all(|parts| parts.iter().any(|part| *part != parts[0])) {
            proved = independent(session, inputs, &parts).map(|outputs| (rows, outputs));
            break;
        }
    }
    let Some((rows, outputs)) = proved else { return Ok(()) };
    trial.rows_are_independent = true;
    if matches!(fit, Fit::Given(_)) {
        let Some(inputs) = fit.inputs(Sample::Rows(rows), signature)? else { return Ok(()) };
        let first = parts(&inputs, rows)?.into_iter().filter_map(|parts| parts.into_iter().next());
        trial.times = vec![(1, time(session, &first.collect::<Vec<_>>())?.0), (rows, alone)];
        return Ok(());
    }
    trial.samples.push((Sample::Rows(rows), outputs));
    let (started, mut best) = (Instant::now(), alone.as_secs_f64());
    for rows in ROWS.into_iter().skip(1) {
        if best * rows as f64 > LONGEST.as_secs_f64() || started.elapsed() > BUDGET {
            break;
        }
        let Some(inputs) = fit.inputs(Sample::Rows(rows), signature)? else { break };
        let Ok((took, _)) = time(session, &inputs) else { break };
        trial.times.push((rows, took));
        let per_row = took.as_secs_f64() / rows as f64;
        if per_row > HOPELESS * alone.as_secs_f64() || (rows >= MANY && per_row > STILL_PAYS * best) {
            break;
        }
        best = best.min(per_row);
    }
    Ok(())
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

/// Rows that all inputs have.
fn rows_of(inputs: &[Array]) -> Option<usize> {
    let rows = inputs.first().filter(|input| !input.shape().is_empty())?.rows();
    inputs.iter().all(|input| !input.shape().is_empty() && input.rows() == rows).then_some(rows)
}

/// By input, by row.
fn parts(inputs: &[Array], rows: usize) -> Result<Vec<Vec<Array>>, EngineError> {
    let sizes = vec![1; rows];
    Ok(inputs.iter().map(|input| input.clone().split(&sizes)).collect::<Result<_, _>>()?)
}

/// The outputs of some rows together, if they are those of each alone. `parts` are those of the inputs.
fn independent(session: &mut dyn Session, inputs: Vec<Array>, parts: &[Vec<Array>]) -> Option<Vec<Array>> {
    let rows = parts.first()?.len();
    let tried = (|| {
        let outputs = session.run(inputs)?;
        let sizes = vec![1; rows];
        let split = |array: &Array| array.clone().split(&sizes);
        let together: Vec<Vec<Array>> = outputs.iter().map(split).collect::<Result<_, _>>()?;
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
