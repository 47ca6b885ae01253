//! tract: pure Rust, so it is there wherever we are.
//!
//! A plan is made for exact shapes, because one with a symbolic batch axis runs convolutions 6 to 28 times slower. A
//! model keeps the plans of the shapes it was last given; threads share them. Where tract wants to know more than
//! shapes beforehand, such as axes or sizes that come as inputs, a plan is made for their values.
//!
//! * [`checked`]: what tract is not trusted with. [`quantised`]: between codes. [`rewritten`]: what it reads wrongly.
//! * [`planned`]: plans, and what they are made for.
//! * [`arrays`]: values in and out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::prelude::*;

use crate::error::{EngineError, REMEDY};
use crate::external::ExternalFile;
use crate::onnx::{chain, parse};
use crate::port::Axis;
use crate::running::{Engine, Model, OnnxFile, Session, Shapes};
use crate::signature::Signature;
use arrays::{from_tract, to_tract};
use checked::later::Later;
use millgate_array::Array;
use millgate_base::panics::caught;
use planned::{Given, Plan, State, specialise};

mod arrays;
mod checked;
mod planned;
mod quantised;
mod rewritten;

/// Most plans that a model keeps, and states that a session keeps: a client that sends ever new shapes costs time,
/// not memory.
const KEPT_PLANS: usize = 16;

/// Most nodes of a graph that tract is given. It looks through all names for each new one, so that its time grows with
/// their square, and it takes that time again for each new input shape.
const MOST_NODES: usize = 20_000;

/// Engine of tract.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tract;

impl Tract {
    /// Name of the engine in decisions, metrics and configuration.
    pub const NAME: &str = "tract";
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        // tract indexes into what the file says; a file can be wrong in more ways than it checks.
        caught(|| load(file, shapes)).unwrap_or_else(|message| {
            Err(EngineError::Prepare(format!(
                "the file is inconsistent: tract panicked: {message}; {REMEDY}"
            )))
        })
    }
}

/// Entries with what they are for, the most recently used one last.
type Kept<T> = Vec<(Given, T)>;

#[derive(Debug)]
struct TractModel {
    signature: Arc<Signature>,
    /// Model that plans are made from; `None` if no more will be made.
    source: Option<InferenceModel>,
    /// Conditions that must hold of each plan.
    needs: Vec<Later>,
    plans: Mutex<Kept<Arc<Plan>>>,
    /// Node that makes a number of NaN; see [`checked::Findings`].
    deaf_to_nan: Option<String>,
    deaf_to_infinity: Option<String>,
    /// True once no plan was possible without the values of small inputs.
    by_value: AtomicBool,
}

impl Model for TractModel {
    fn engine(&self) -> &'static str {
        Tract::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn plans_by_shape(&self) -> bool {
        true
    }

    fn takes_known_memory(&self) -> bool {
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        !self.by_value.load(Ordering::Relaxed)
            && plans.iter().all(|(_, plan)| planned::is_of_known_size(plan))
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession { model: self, states: Vec::new() }))
    }
}

impl TractModel {
    /// Refuses inputs of which a node would make what they are not.
    fn hears(&self, inputs: &[Array]) -> Result<(), EngineError> {
        let refuse = |at: usize, what: &'static str, node: &str| {
            let name = self.signature.inputs[at].name.clone();
            Err(EngineError::Unheard { name, what, node: node.to_owned() })
        };
        if let Some(node) = &self.deaf_to_nan
            && let Some(at) = inputs.iter().position(|input| arrays::holds(input, f64::is_nan))
        {
            return refuse(at, "NaN", node);
        }
        if let Some(node) = &self.deaf_to_infinity
            && let Some(at) = inputs.iter().position(|input| arrays::holds(input, f64::is_infinite))
        {
            return refuse(at, "infinity", node);
        }
        Ok(())
    }

    /// Finds or makes the plan for some inputs, and says what it is for. One by shapes alone is taken if there is
    /// one.
    fn plan(&self, inputs: &[Array], shapes: Given) -> Result<(Given, Arc<Plan>), EngineError> {
        let first = match self.plan_for(&shapes) {
            Ok(plan) => return Ok((shapes, plan)),
            Err(error) => error,
        };
        let values = shapes.with_values(inputs);
        if values == shapes {
            return Err(first);
        }
        match self.plan_for(&values) {
            Ok(plan) => {
                self.by_value.store(true, Ordering::Relaxed);
                Ok((values, plan))
            }
            // That it is refused says more than that something is not known.
            Err(error @ EngineError::Untrusted(_)) => Err(error),
            Err(_) => Err(first),
        }
    }

    fn plan_for(&self, given: &Given) -> Result<Arc<Plan>, EngineError> {
        let found = {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            recent(&mut plans, given).map(Arc::clone)
        };
        if let Some(plan) = found {
            return Ok(plan);
        }
        let source = self.source.as_ref();
        let source =
            source.ok_or_else(|| EngineError::Prepare(format!("not loaded for {:?}", given.shapes)))?;
        // Two threads may both make it; the lock is not held for that long.
        let plan = caught(|| specialise(source.clone(), &self.signature, given, &self.needs))
            .unwrap_or_else(|message| Err(panicked(&message)))?;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut plans, given.clone(), Arc::clone(&plan));
        Ok(plan)
    }
}

fn panicked(message: &str) -> EngineError {
    EngineError::Run(format!(
        "tract panicked: {message}; where that is not the fault of the inputs, {REMEDY}"
    ))
}

struct TractSession {
    model: Arc<TractModel>,
    states: Kept<State>,
}

impl Session for TractSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        let expected = self.model.signature.inputs.len();
        if inputs.len() != expected {
            return Err(EngineError::InputCount { expected, got: inputs.len() });
        }
        self.model.hears(&inputs)?;
        let mut given = Given::shapes_of(&inputs);
        if self.model.by_value.load(Ordering::Relaxed) {
            given = given.with_values(&inputs);
        }
        if recent(&mut self.states, &given).is_none() {
            let (made_for, plan) = self.model.plan(&inputs, given)?;
            let state = plan.spawn().map_err(|error| EngineError::Prepare(chain(&error)))?;
            given = made_for;
            keep(&mut self.states, given.clone(), state);
        }
        let signature = Arc::clone(&self.model.signature);
        let Some((_, state)) = self.states.last_mut() else {
            return Err(EngineError::Prepare("no state".to_owned()));
        };
        let ran = caught(|| run(state, given.left_of(inputs), &signature));
        // A recurrent network's state goes on where the last run ended, and an error leaves one half way: neither must
        // reach the next sample.
        let is_spent = !matches!(ran, Ok(Ok(_))) || state.op_states.iter().any(Option::is_some);
        if is_spent {
            self.states.pop();
        }
        ran.unwrap_or_else(|message| Err(panicked(&message)))
    }
}

/// Finds the entry for `given` and moves it to the end.
fn recent<'a, T>(kept: &'a mut Kept<T>, given: &Given) -> Option<&'a T> {
    let at = kept.iter().rposition(|(of, _)| of == given)?;
    if at + 1 != kept.len() {
        let entry = kept.remove(at);
        kept.push(entry);
    }
    kept.last().map(|(_, value)| value)
}

fn keep<T>(kept: &mut Kept<T>, given: Given, value: T) {
    if kept.len() >= KEPT_PLANS {
        kept.remove(0);
    }
    kept.push((given, value));
}

/// Resolver that takes weights from what was read, not from the file again.
struct AlreadyRead(Vec<ExternalFile>);

impl ModelDataResolver for AlreadyRead {
    fn read_bytes_from_path(
        &self,
        buffer: &mut Vec<u8>,
        path: &Path,
        offset: usize,
        length: Option<usize>,
    ) -> TractResult<()> {
        let file = self.0.iter().find(|file| file.path == path);
        let bytes = file
            .map(|file| &*file.bytes)
            .ok_or_else(|| TractError::msg(format!("{} was not read", path.display())))?;
        let end = length.map_or(Some(bytes.len()), |length| offset.checked_add(length));
        let part = end.and_then(|end| bytes.get(offset..end));
        let part = part.ok_or_else(|| TractError::msg(format!("{} is too short", path.display())))?;
        buffer.extend_from_slice(part);
        Ok(())
    }
}

fn load(file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
    let prepare = |error: TractError| unable(&error);
    // Shapes inside the file may name its batch axis otherwise than its inputs do, which a fixed input contradicts.
    let mut framework = onnx().with_ignore_value_info(true);
    framework.provider = Arc::new(AlreadyRead(file.external.clone()));
    let mut proto = parse(&file.bytes)?;
    let nodes = proto.graph.as_ref().map_or(0, checked::nodes);
    if nodes > MOST_NODES {
        return Err(EngineError::Prepare(format!(
            "it has {nodes} nodes; tract, whose time grows with their square, is given at most {MOST_NODES}; {REMEDY}"
        )));
    }
    let findings = checked::findings(&proto);
    if let Some(what) = findings.wrong {
        return Err(EngineError::Untrusted(what));
    }
    if let Some(operation) = proto.graph.as_ref().and_then(quantised::misread) {
        return Err(EngineError::Untrusted(format!(
            "tract computes `{operation}` wrongly between DequantizeLinear and QuantizeLinear"
        )));
    }
    if let Some(name) = file.signature.left_out.first() {
        return Err(EngineError::Prepare(format!(
            "its output `{name}` is no tensor, which tract does not have"
        )));
    }
    rewritten::rewrite(&mut proto);
    let dir = file.dir.as_ref().and_then(|dir| dir.to_str());
    let mut source = framework.parse(&proto, dir).map_err(prepare)?.model;
    drop(proto);

    // The signature's order, which is not always tract's.
    let outlets = source.input_outlets().map_err(prepare)?.to_vec();
    let found: Vec<&str> = outlets.iter().map(|outlet| source.node(outlet.node).name.as_str()).collect();
    let mut order = Vec::with_capacity(outlets.len());
    for port in &file.signature.inputs {
        let at = found.iter().position(|name| *name == port.name);
        order.push(outlets[at.ok_or_else(|| EngineError::Prepare(format!("no input `{}`", port.name)))?]);
    }
    if order.len() != outlets.len() {
        return Err(EngineError::Prepare(format!("it has the inputs {found:?}")));
    }
    source.set_input_outlets(&order).map_err(prepare)?;

    let mut signature = Arc::clone(&file.signature);
    let mut plans = Vec::new();
    let source = match shapes {
        Shapes::Any => Some(source),
        Shapes::Only(shapes) => {
            let given = Given { shapes: shapes.to_vec(), values: Vec::new() };
            let plan = specialise(source, &signature, &given, &findings.later)?;
            let known = Arc::make_mut(&mut signature);
            for (index, port) in known.outputs.iter_mut().enumerate() {
                let fact = plan.model().output_fact(index).map_err(prepare)?;
                let concrete = fact.shape.as_concrete();
                port.shape = concrete.map(|shape| shape.iter().copied().map(Axis::Fixed).collect());
            }
            plans.push((given, plan));
            None
        }
    };
    Ok(Arc::new(TractModel {
        signature,
        source,
        needs: findings.later,
        plans: Mutex::new(plans),
        deaf_to_nan: findings.deaf_to_nan,
        deaf_to_infinity: findings.deaf_to_infinity,
        by_value: AtomicBool::new(false),
    }))
}

fn run(state: &mut State, inputs: Vec<Array>, signature: &Signature) -> Result<Vec<Array>, EngineError> {
    let failed = |error: TractError| EngineError::Run(chain(&error));
    let mut values: TVec<TValue> = tvec!();
    for input in inputs {
        values.push(to_tract(input)?.into_tvalue());
    }
    let outputs = state.run(values).map_err(failed)?;
    if outputs.len() != signature.outputs.len() {
        return Err(EngineError::Run(format!("it gave {} outputs", outputs.len())));
    }
    outputs.into_iter().zip(&signature.outputs).map(|(output, port)| from_tract(&output, port)).collect()
}

/// Error for what tract says that it cannot do; another engine may.
fn unable(error: &TractError) -> EngineError {
    EngineError::Prepare(format!("{}; {REMEDY}", chain(error)))
}
