//! Runs what was taken together, on a model thread: join, compute, check, split; alone again if it failed.
//!
//! A batch never changes an answer. Only entries that agree in shape and datatype are joined, and only for a model
//! whose rows were proved independent; the outputs must have as many rows as went in; and if anything is wrong, each
//! entry is run by itself, so that it fails or succeeds for its own reasons.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::array::{Array, ArrayError};
use millgate_shared::engine::{Cause, Ending, EngineError, Port, Session};

use super::entry::{Done, Entry};
use super::request::Phases;
use super::served::{Layout, Served, is_finite};
use crate::engines::appetite;
use crate::failure::Failure;

/// An entry whose inputs are there.
struct Row {
    entry: Entry,
    inputs: Vec<Array>,
    queue: Duration,
}

/// Answers every entry; all are of `served`. True if all went well.
pub(super) fn run(served: &Served, session: &mut dyn Session, entries: Vec<Entry>) -> bool {
    let taken = Instant::now();
    let rows: Vec<Row> = entries
        .into_iter()
        .map(|mut entry| Row {
            inputs: std::mem::take(&mut entry.inputs),
            queue: taken.saturating_duration_since(entry.arrived),
            entry,
        })
        .collect();
    match rows.len() {
        0 | 1 => rows.into_iter().all(|row| alone(served, session, row)),
        _ => together(served, session, rows),
    }
}

fn answer(served: &Served, entry: Entry, done: Result<Done, Failure>) {
    served.statistics.answered(&done, entry.layout.rows());
    entry.answer(done);
}

fn alone(served: &Served, session: &mut dyn Session, row: Row) -> bool {
    let Row { entry, inputs, queue } = row;
    let batch = entry.layout.rows();
    let size = appetite::size(&inputs);
    let computed = compute(served, session, inputs, entry.layout);
    match &computed {
        Ok(_) => served.appetite.ran(Instant::now(), size, true),
        Err(Failure::Memory(_)) => served.appetite.ran(Instant::now(), size, false),
        Err(_) => {}
    }
    let done = computed.map(|(outputs, compute)| {
        served.statistics.ran(batch, compute);
        let phases = Phases { queue, compute, batch, ..Phases::default() };
        Done { outputs, phases }
    });
    let well = done.is_ok();
    if let Err(failure) = &done {
        blame(served, failure);
    }
    answer(served, entry, done);
    well
}

/// Counts a run that has ended what it ran in. True if it has.
fn blame(served: &Served, failure: &Failure) -> bool {
    let Failure::Ended { how, blames: Some(worker), .. } = failure else { return false };
    served.record.ended(*worker, how);
    true
}

fn together(served: &Served, session: &mut dyn Session, rows: Vec<Row>) -> bool {
    let started = Instant::now();
    let counts: Vec<usize> = rows.iter().map(|row| row.entry.layout.rows()).collect();
    let batch: usize = counts.iter().sum();
    let tried = (|| {
        let joined = join(&rows)?;
        let join = started.elapsed();
        let (outputs, compute) = compute(served, session, joined, Layout::Rows(batch))?;
        let splitting = Instant::now();
        // By output, by entry; then by entry, by output.
        let parts: Vec<Vec<Array>> = outputs
            .into_iter()
            .map(|output| output.split(&counts).map_err(|error| Failure::Model(error.to_string())))
            .collect::<Result<_, _>>()?;
        let mut by_entry: Vec<Vec<Array>> = counts.iter().map(|_| Vec::new()).collect();
        for output in parts {
            for (of_entry, part) in by_entry.iter_mut().zip(output) {
                of_entry.push(part);
            }
        }
        Ok::<_, Failure>((by_entry, join, compute, splitting.elapsed()))
    })();
    match tried {
        Ok((by_entry, join, compute, split)) => {
            served.statistics.ran(batch, compute);
            for (row, outputs) in rows.into_iter().zip(by_entry) {
                let phases = Phases { queue: row.queue, join, compute, split, batch };
                answer(served, row.entry, Ok(Done { outputs, phases }));
            }
            true
        }
        Err(error) => {
            tracing::debug!(model = served.name, batch, %error, "a batch failed; each entry is run alone");
            let before = served.record.times();
            for row in rows {
                if !row.entry.is_gone() {
                    alone(served, session, row);
                }
            }
            // Where each by itself is well, they were too much together.
            if served.record.times() == before {
                blame(served, &error);
            }
            false
        }
    }
}

fn join(rows: &[Row]) -> Result<Vec<Array>, Failure> {
    let ports = rows.first().map_or(0, |row| row.inputs.len());
    let port = |port: usize| {
        let parts: Vec<&Array> = rows.iter().filter_map(|row| row.inputs.get(port)).collect();
        Array::join(&parts).map_err(|error| Failure::Model(error.to_string()))
    };
    (0..ports).map(port).collect()
}

/// Runs inputs as a request's are run, for what the engine prepares on the way.
pub(crate) fn warm_up(served: &Served, inputs: Vec<Array>) -> Result<(), Failure> {
    served.check(&inputs)?;
    let layout = served.layout(&inputs)?;
    let session = Arc::clone(&served.model).session();
    let mut session = session.map_err(|error| Failure::Model(error.to_string()))?;
    compute(served, session.as_mut(), inputs, layout).map(|_| ())
}

/// Runs what came together; rows, where the engine wants known numbers of them, in parts of such.
fn compute(
    served: &Served,
    session: &mut dyn Session,
    inputs: Vec<Array>,
    layout: Layout,
) -> Result<(Vec<Array>, Duration), Failure> {
    let started = Instant::now();
    let outputs = match (layout, served.sizes(layout.rows())) {
        (Layout::Rows(rows), Some(sizes)) => in_parts(served, session, inputs, rows, &sizes)?,
        (Layout::Odd, _) => odd(served, session, inputs)?,
        _ => session.run(inputs).map_err(|error| failed(served, &error))?,
    };
    let compute = started.elapsed();
    check_outputs(served, &outputs, layout)?;
    Ok((outputs, compute))
}

/// What most models take as rows, and this request has not: if it fails, that is why.
fn odd(served: &Served, session: &mut dyn Session, inputs: Vec<Array>) -> Result<Vec<Array>, Failure> {
    let rows: Vec<usize> = inputs.iter().map(Array::rows).collect();
    let has_none = rows.iter().all(|rows| *rows == 0);
    let outputs = session.run(inputs).map_err(|error| {
        if let failure @ (Failure::Ended { .. } | Failure::Memory(_)) = failed(served, &error) {
            return failure;
        }
        let what = if has_none { "have no rows".to_owned() } else { format!("have {rows:?} rows") };
        Failure::field("inputs", format!("{what}, which model `{}` does not take: it {error}", served.name))
    })?;
    // What comes of nothing is nothing.
    let of_nothing = |(output, _): &(&Array, &Port)| has_none && output.rows() != 0;
    match outputs.iter().zip(&served.signature().outputs).find(of_nothing) {
        None => Ok(outputs),
        Some((output, port)) => {
            let gave = format!("it gave {} of `{}`", output.rows(), port.name);
            let what = format!("have no rows, which model `{}` does not take: {gave}", served.name);
            Err(Failure::field("inputs", what))
        }
    }
}

/// `sizes` are the row counts to run with; they add up to `rows` or more. Missing rows repeat the last one.
fn in_parts(
    served: &Served,
    session: &mut dyn Session,
    inputs: Vec<Array>,
    rows: usize,
    sizes: &[usize],
) -> Result<Vec<Array>, Failure> {
    let broken = |error: ArrayError| Failure::Model(error.to_string());
    let padded: usize = sizes.iter().sum();
    let mut inputs = inputs;
    if padded > rows {
        for input in &mut inputs {
            let last = input.clone().split(&[rows - 1, 1]).map_err(broken)?.pop();
            let last = last.ok_or_else(|| Failure::Model("an input has no rows".to_owned()))?;
            let mut parts: Vec<&Array> = vec![&*input];
            parts.extend(std::iter::repeat_n(&last, padded - rows));
            *input = Array::join(&parts).map_err(broken)?;
        }
    }
    let outputs = if let [_] = sizes {
        session.run(inputs).map_err(|error| failed(served, &error))?
    } else {
        let mut by_part: Vec<Vec<Array>> = sizes.iter().map(|_| Vec::new()).collect();
        for input in inputs {
            for (of_part, part) in by_part.iter_mut().zip(input.split(sizes).map_err(broken)?) {
                of_part.push(part);
            }
        }
        let mut by_output: Vec<Vec<Array>> = Vec::new();
        for part in by_part {
            let outputs = session.run(part).map_err(|error| failed(served, &error))?;
            by_output.resize_with(outputs.len(), Vec::new);
            for (of_output, output) in by_output.iter_mut().zip(outputs) {
                of_output.push(output);
            }
        }
        let whole = |parts: Vec<Array>| Array::join(&parts.iter().collect::<Vec<_>>()).map_err(broken);
        by_output.into_iter().map(whole).collect::<Result<_, _>>()?
    };
    if padded == rows {
        return Ok(outputs);
    }
    let cut = |output: Array| {
        let mut parts = output.split(&[rows, padded - rows]).map_err(broken)?;
        parts.truncate(1);
        parts.pop().ok_or_else(|| Failure::Model("an output has no rows".to_owned()))
    };
    outputs.into_iter().map(cut).collect()
}

pub(super) fn failed(served: &Served, error: &EngineError) -> Failure {
    let (model, how) = (served.name.clone(), error.to_string());
    match error {
        EngineError::Ended(Ending { cause: Cause::Memory(_), .. }) => {
            Failure::Memory(format!("model `{model}`: {how}"))
        }
        EngineError::Run(_) if appetite::is_lack_of_memory(&how) => {
            Failure::Memory(format!("model `{model}`: there is not enough memory for this run: it {how}"))
        }
        EngineError::Ended(ending) => {
            let blames = ending.is_its_own().then_some(ending.process);
            Failure::Ended { model, how, blames }
        }
        EngineError::Unheard { name, .. } => Failure::field(format!("inputs `{name}`"), how),
        _ => Failure::Model(format!("model `{model}` {how}")),
    }
}

/// What came out must be what the file promised, row for row.
fn check_outputs(served: &Served, outputs: &[Array], layout: Layout) -> Result<(), Failure> {
    let broken = |what: String| Err(Failure::Model(format!("model `{}` {what}", served.name)));
    if outputs.len() != served.signature().outputs.len() {
        return broken(format!("gave {} outputs", outputs.len()));
    }
    for (output, port) in outputs.iter().zip(&served.signature().outputs) {
        if let Layout::Rows(rows) = layout
            && output.rows() != rows
        {
            return broken(format!("gave {} rows of `{}` for {rows}", output.rows(), port.name));
        }
        if served.traits.finite_only && !is_finite(output) {
            return broken(format!("gave a value of `{}` that is not finite", port.name));
        }
    }
    Ok(())
}
