//! A task as a model of the Open Inference Protocol: parts of samples in, one decision a row out.
//!
//! Each modality is an input of BYTES, a file a row; an empty element, or an input that is left out, says
//! that the modality is absent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use millgate_shared::array::{Array, Datatype, Values};
use millgate_shared::deciding::{Mode, Policy, PolicyError, Wish};
use millgate_shared::decision::Decision;
use millgate_shared::engine::{Axis, Model, Port, Signature};
use millgate_shared::index::TaskIx;
use millgate_shared::part::Part;
use millgate_shared::sample::{Origin, Unread};

use super::{Question, decide};
use crate::failure::Failure;
use crate::hosted::Hosted;
use crate::serving::Serving;
use crate::serving::composite::{Composite, Outside};
use crate::serving::entry::Done;
use crate::serving::request::{Call, Parameter, Parameters, Phases};
use crate::serving::run::Deployed;
use crate::serving::served::Traits;

/// Rows of one request; each is a decision.
const MOST_ROWS: usize = 256;
/// What clients see as the platform's engine.
const KIND: &str = "mixture";
/// `decision` is the whole record, as JSON.
const OUTPUTS: [(&str, Datatype); 4] = [
    ("label", Datatype::Bytes),
    ("probability", Datatype::Fp32),
    ("probabilities", Datatype::Fp32),
    ("decision", Datatype::Bytes),
];

/// See the module's head.
#[derive(Debug)]
struct TaskModel {
    hosted: Arc<Hosted>,
    task: TaskIx,
    place: String,
    outside: Arc<Outside>,
}

impl TaskModel {
    fn new(hosted: &Arc<Hosted>, task: TaskIx, place: String) -> Self {
        let manifest = hosted.manifest();
        let labels = manifest.tasks[task].labels.len();
        let port = |name: &str, datatype: Datatype, inner: &[usize]| {
            let rows = [Axis::Named("rows".to_owned())].into_iter();
            let shape = rows.chain(inner.iter().copied().map(Axis::Fixed)).collect();
            Port { name: name.to_owned(), datatype, shape: Some(shape) }
        };
        let inputs = manifest.modalities.iter().map(|modality| port(&modality.name, Datatype::Bytes, &[]));
        let inner = |name: &str| if name == "probabilities" { vec![labels] } else { Vec::new() };
        let outputs = OUTPUTS.into_iter().map(|(name, datatype)| port(name, datatype, &inner(name)));
        let signature = Signature {
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            producer: "millgate".to_owned(),
            description: format!("{} {}: {}", manifest.name, manifest.version, manifest.description),
            ..Signature::default()
        };
        let outside = Arc::new(Outside { kind: KIND, signature });
        Self { hosted: Arc::clone(hosted), task, place, outside }
    }
}

/// Each task as a model of its own name; `place` is this node, as decisions name it.
pub(crate) fn models(hosted: &Arc<Hosted>, serving: &Serving, place: &str) -> Vec<Arc<Deployed>> {
    let mut models = Vec::new();
    for (at, spec) in hosted.manifest().tasks.pairs() {
        if hosted.models().iter().any(|model| model.name == spec.name) {
            tracing::warn!(task = spec.name, "a model has its name; the task is not served as a model");
            continue;
        }
        let labels = [("probabilities".to_owned(), spec.labels.clone())].into();
        let traits = Traits { max_rows: Some(MOST_ROWS), labels, ..Traits::default() };
        let model = Arc::new(TaskModel::new(hosted, at, place.to_owned()));
        models.push(serving.compose(&spec.name, model, traits));
    }
    models
}

impl Composite for TaskModel {
    fn model(&self) -> Arc<dyn Model> {
        Arc::clone(&self.outside) as Arc<dyn Model>
    }

    fn complete(&self, inputs: &mut [Option<Array>]) -> Result<(), Failure> {
        let Some(rows) = inputs.iter().flatten().map(Array::rows).max() else { return Ok(()) };
        if rows > MOST_ROWS {
            return Err(Failure::field("inputs", format!("have {rows} rows, at most {MOST_ROWS} are taken")));
        }
        for input in inputs.iter_mut().filter(|input| input.is_none()) {
            *input = Array::new(vec![rows], Values::Bytes(vec![Bytes::new(); rows])).ok();
        }
        Ok(())
    }

    fn infer<'a>(
        &'a self,
        serving: &'a Serving,
        inputs: Vec<Array>,
        rows: usize,
        call: Call,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let hosted = &self.hosted;
            let started = Instant::now();
            let policy = self.policy(&call)?;
            let by_input: Vec<Vec<Bytes>> = inputs.into_iter().map(elements).collect::<Result<_, _>>()?;
            let decisions = (0..rows).map(|row| {
                let files = by_input.iter().map(|elements| elements[row].clone());
                self.row(hosted, serving, row, files.collect(), policy.clone(), call.clone())
            });
            // A row's own parts wait in the queue; more rows at a time would only fill it.
            let decisions: Vec<Decision> =
                stream::iter(decisions).buffered(2 * serving.threads()).try_collect().await?;
            let labels = &hosted.manifest().tasks[self.task].labels;
            let outputs = outputs(&decisions, labels)?;
            let phases = Phases { compute: started.elapsed(), batch: 1, ..Phases::default() };
            Ok(Done { outputs, phases })
        })
    }
}

impl TaskModel {
    /// What holds for all rows of a call: its parameters `labels`, separated by commas, and `false_alarms` as in
    /// `DecideRequest`.
    fn policy(&self, call: &Call) -> Result<Policy, Failure> {
        let manifest = self.hosted.manifest();
        let deadline = call.deadline.saturating_duration_since(call.arrived).max(Duration::from_millis(1));
        let standard = Policy { mode: Mode::Gate, deadline, ..Policy::for_bundle(manifest) };
        let refuse =
            |error: PolicyError| Failure::field(format!("parameters `{}`", error.field), error.message);
        let policy = standard.asked(wish(&call.parameters)?).map_err(refuse)?;
        policy.check_scope(&manifest.tasks[self.task]).map_err(refuse)?;
        Ok(policy)
    }

    async fn row(
        &self,
        hosted: &Arc<Hosted>,
        serving: &Serving,
        row: usize,
        files: Vec<Bytes>,
        policy: Policy,
        call: Call,
    ) -> Result<Decision, Failure> {
        let manifest = hosted.manifest();
        let task = &manifest.tasks[self.task].name;
        let origin = Origin { source: Some("open-inference".to_owned()), ..Origin::default() };
        let question = Question { task, policy, origin };
        let named = manifest.modalities.iter().zip(files).filter(|(_, file)| !file.is_empty());
        let parts = named.map(|(spec, file)| Part::file(&spec.name, file)).collect();
        let refuse = move |Unread { modality, source, .. }: Unread| {
            Failure::field(format!("inputs `{modality}`[{row}]"), source.to_string())
        };
        decide(hosted, serving, &self.place, question, parts, refuse, call).await
    }
}

fn wish(parameters: &Parameters) -> Result<Wish, Failure> {
    let labels = match parameters.get("labels") {
        None => Vec::new(),
        Some(Parameter::String(text)) => {
            let labels = text.split(',').map(str::trim).filter(|label| !label.is_empty());
            labels.map(str::to_owned).collect()
        }
        Some(_) => return Err(Failure::field("parameters `labels`", "must be text, separated by commas")),
    };
    let false_alarms = match parameters.get("false_alarms") {
        None => None,
        Some(Parameter::Double(share)) => Some(*share),
        Some(Parameter::Int64(0) | Parameter::Uint64(0)) => Some(0.0),
        Some(_) => return Err(Failure::field("parameters `false_alarms`", "must be a number")),
    };
    Ok(Wish { labels, false_alarms, ..Wish::default() })
}

fn elements(input: Array) -> Result<Vec<Bytes>, Failure> {
    match input.into_parts() {
        (_, Values::Bytes(values)) => Ok(values),
        (_, other) => Err(Failure::field("inputs", format!("must be BYTES, not {}", other.datatype()))),
    }
}

/// In the order of [`OUTPUTS`].
fn outputs(decisions: &[Decision], labels: &[String]) -> Result<Vec<Array>, Failure> {
    let rows = decisions.len();
    let broken = |error: String| Failure::Model(format!("a decision cannot be written: {error}"));
    let records = decisions.iter().map(|decision| serde_json::to_vec(decision).map(Bytes::from));
    let records = records.collect::<Result<Vec<_>, _>>().map_err(|error| broken(error.to_string()))?;
    let names: Vec<Bytes> =
        decisions.iter().map(|decision| decision.verdict.label.clone().into_bytes().into()).collect();
    // An unknown sample has no probability: 0 says so where a number must stand.
    let tops: Vec<f32> =
        decisions.iter().map(|decision| decision.verdict.probability.unwrap_or(0.0) as f32).collect();
    let probability = |decision: &Decision, label| decision.probabilities.get(label).copied().unwrap_or(0.0);
    let all: Vec<f32> = decisions
        .iter()
        .flat_map(|decision| labels.iter().map(|label| probability(decision, label) as f32))
        .collect();
    let array = |shape: Vec<usize>, values: Values| {
        Array::new(shape, values).map_err(|error| broken(error.to_string()))
    };
    Ok(vec![
        array(vec![rows], names.into())?,
        array(vec![rows], tops.into())?,
        array(vec![rows, labels.len()], all.into())?,
        array(vec![rows], records.into())?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_say_what_may_be_the_answer() {
        let read = |name: &str, value: Parameter| wish(&[(name.to_owned(), value)].into());
        assert_eq!(wish(&Parameters::new()).unwrap(), Wish::default());
        let labels = read("labels", Parameter::String("deeppcb, xsdd/slag,".to_owned())).unwrap().labels;
        assert_eq!(labels, ["deeppcb", "xsdd/slag"]);
        assert_eq!(read("false_alarms", Parameter::Double(0.05)).unwrap().false_alarms, Some(0.05));
        assert_eq!(read("false_alarms", Parameter::Int64(0)).unwrap().false_alarms, Some(0.0));
        for (name, value) in
            [("labels", Parameter::Int64(1)), ("false_alarms", Parameter::String("2".to_owned()))]
        {
            assert!(read(name, value).unwrap_err().to_string().contains(name));
        }
    }
}
