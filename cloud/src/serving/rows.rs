//! A request's rows: cut into parts where that pays, computed, and whole again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use millgate_shared::array::Array;
use tokio::sync::oneshot;

use super::Serving;
use super::entry::{Bucket, Done, Entry, Reply};
use super::request::{Call, Phases};
use super::run::{Deployed, Run};
use super::served::Layout;
use crate::failure::Failure;

/// Entries that one request may become: each takes a place in the queue.
const MOST_PARTS: usize = 16;

impl Serving {
    /// Computes inputs that are in the signature's order. `parameters` part the batches: only what has the same ones is
    /// computed together.
    pub(crate) async fn compute(
        &self,
        deployed: &Arc<Deployed>,
        inputs: Vec<Array>,
        parameters: String,
        call: Call,
    ) -> Result<Done, Failure> {
        let served = &deployed.served;
        if let Some(failure) = served.set_aside() {
            return Err(failure);
        }
        served.check(&inputs)?;
        let layout = served.layout(&inputs)?;
        let rows = layout.rows();
        let model = match &deployed.run {
            Run::Queue(registered) => registered.id(),
            Run::Composite(composite) => {
                let done = composite.infer(self, inputs, rows, call).await;
                if let Ok(done) = &done {
                    served.statistics.composed(rows, &done.phases);
                }
                return done;
            }
        };
        // What does not pay together is spread over the threads.
        let batches = matches!(layout, Layout::Rows(_));
        let sizes = match batches {
            true => sizes(rows, served.knee.max(rows.div_ceil(MOST_PARTS))),
            false => vec![rows],
        };
        let shapes =
            inputs.iter().map(|input| input.shape().get(usize::from(batches)..).unwrap_or(&[]).to_vec());
        let alone = (layout == Layout::Odd).then(|| self.alone.fetch_add(1, Ordering::Relaxed));
        let bucket = Bucket { shapes: shapes.collect(), parameters, alone };
        let mut replies = Vec::with_capacity(sizes.len());
        for (inputs, rows) in parts(inputs, &sizes)?.into_iter().zip(&sizes) {
            let (reply, answer) = oneshot::channel();
            let layout = if batches { Layout::Rows(*rows) } else { layout };
            let reply = Reply::new(reply);
            let _held = self.room.take(served, &inputs, call.deadline).await?;
            let (served, _kept) = (Arc::clone(served), call.kept.clone());
            let entry = Entry { served, inputs, layout, arrived: call.arrived, reply, _held, _kept };
            self.threads.submit(model, &call, bucket.clone(), entry)?;
            replies.push(async { answer.await.unwrap_or(Err(Failure::Stopped)) });
        }
        let done = tokio::time::timeout_at(call.deadline.into(), try_join_all(replies)).await;
        whole(done.unwrap_or(Err(Failure::Deadline))?)
    }
}

/// `rows` in parts of at most `most`.
fn sizes(rows: usize, most: usize) -> Vec<usize> {
    let mut sizes = vec![most; rows / most];
    sizes.extend((!rows.is_multiple_of(most)).then_some(rows % most));
    sizes
}

fn parts(inputs: Vec<Array>, sizes: &[usize]) -> Result<Vec<Vec<Array>>, Failure> {
    if let [_] = sizes {
        return Ok(vec![inputs]);
    }
    let mut parts: Vec<Vec<Array>> = sizes.iter().map(|_| Vec::new()).collect();
    for input in inputs {
        let split = input.split(sizes).map_err(|error| Failure::field("inputs", error.to_string()))?;
        for (part, array) in parts.iter_mut().zip(split) {
            part.push(array);
        }
    }
    Ok(parts)
}

/// The parts' outputs one after the other, and the longest of each phase.
fn whole(mut parts: Vec<Done>) -> Result<Done, Failure> {
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return Ok(part);
    }
    let phases = parts.iter().map(|part| part.phases).fold(Phases::default(), |all, part| Phases {
        queue: all.queue.max(part.queue),
        join: all.join.max(part.join),
        compute: all.compute.max(part.compute),
        split: all.split.max(part.split),
        batch: all.batch.max(part.batch),
    });
    let mut by_output: Vec<Vec<Array>> = Vec::new();
    for part in parts {
        by_output.resize_with(part.outputs.len(), Vec::new);
        for (of_output, output) in by_output.iter_mut().zip(part.outputs) {
            of_output.push(output);
        }
    }
    let join = |parts: Vec<Array>| {
        let joined = Array::join(&parts.iter().collect::<Vec<_>>());
        joined.map_err(|error| Failure::Model(error.to_string()))
    };
    Ok(Done { outputs: by_output.into_iter().map(join).collect::<Result<_, _>>()?, phases })
}
