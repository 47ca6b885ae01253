//! What operations make of the shapes of their inputs. Only those that can make much of little, and those that such a
//! value commonly passes through; of all others nothing is known.

use tract_onnx::pb;

use super::value::{self, Value, product};

/// Most axes of a value that is followed; nothing is known of one that has more.
const MOST_AXES: usize = 64;

/// A node, and what is known of its inputs.
pub(super) struct Operation<'a> {
    pub(super) node: &'a pb::NodeProto,
    pub(super) inputs: &'a [Option<&'a Value>],
}

/// Operations that answer with a value for each element of their inputs, which are brought to one shape.
const BY_ELEMENT: [&str; 47] = [
    "Abs",
    "Acos",
    "Add",
    "And",
    "Asin",
    "Atan",
    "Cast",
    "Ceil",
    "Clip",
    "Cos",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Less",
    "Log",
    "LogSoftmax",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Sub",
    "Sum",
];
/// Those of them that answer with flags.
const FLAGS: [&str; 6] = ["And", "Equal", "Greater", "Less", "Not", "Or"];
/// Those of them that look at their first input alone; others are bounds and the like.
const OF_FIRST: [&str; 3] = ["Cast", "Clip", "Dropout"];

/// The node's first output; `None` where nothing is known of it.
pub(super) fn output(of: &Operation<'_>) -> Option<Value> {
    let made = of.make()?;
    // Lengths that are fixed are known before anything runs, as constants are.
    let is_constant = matches!(of.node.op_type.as_str(), "Constant" | "Shape")
        || !of.node.input.is_empty()
            && of
                .node
                .input
                .iter()
                .zip(of.inputs)
                .all(|(name, input)| name.is_empty() || input.is_some_and(|input| input.is_constant));
    let is_exact = made.is_exact || of.inputs.iter().all(|input| input.is_some_and(|input| input.is_exact));
    Some(Value { is_constant, is_exact, ..made })
}

impl Operation<'_> {
    fn make(&self) -> Option<Value> {
        let node = self.node;
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return None;
        }
        match node.op_type.as_str() {
            "Constant" => self.constant(),
            "ConstantOfShape" => {
                let kind =
                    self.attribute("value").and_then(|value| value.t.as_ref()).map(|value| value.data_type);
                let width = kind.map_or(Some(4), value::width).unwrap_or(1);
                Some(Value::computed(value::lengths(self.elements(0)?)?, width))
            }
            "RandomNormal" | "RandomUniform" => {
                Some(Value::computed(value::lengths(&self.attribute("shape")?.ints)?, 4))
            }
            "BlackmanWindow" | "HammingWindow" | "HannWindow" => {
                Some(Value::computed(value::lengths(self.elements(0)?)?, 4))
            }
            "Range" => self.range(),
            "Shape" => {
                let of = self.input(0)?;
                let plain = node.attribute.is_empty() && of.is_exact;
                let all = of.shape.iter().map(|length| i64::try_from(*length).ok());
                let lengths = if plain { all.collect::<Option<Vec<i64>>>() } else { None };
                lengths.map(|lengths| Value::numbers(lengths, false))
            }
            "Concat" => self.concat(),
            "Tile" => self.tile(),
            "Expand" => {
                let (of, to) = (self.input(0)?, value::lengths(self.elements(1)?)?);
                Some(Value::computed(broadcast(&of.shape, &to)?, of.width))
            }
            "Pad" => self.pad(),
            "Resize" | "Upsample" => self.resize(),
            "OneHot" => {
                let (of, depth) = (self.input(0)?, self.elements(1)?.first()?);
                let mut shape = of.shape.clone();
                shape.push(u64::try_from(*depth).ok()?);
                Some(Value::computed(shape, self.input(2).map_or(1, |values| values.width)))
            }
            "Reshape" => self.reshape(),
            "Flatten" => {
                let of = self.input(0)?;
                let at = self.int("axis").unwrap_or(1);
                let at = if at == 0 { 0 } else { axis(at, of.shape.len() + 1)? };
                let (rows, columns) = of.shape.split_at(at);
                Some(Value::computed(vec![product(rows), product(columns)], of.width))
            }
            "Squeeze" => self.squeeze(),
            "Unsqueeze" => self.unsqueeze(),
            "Transpose" => {
                let of = self.input(0)?;
                let order = self.attribute("perm").map(|order| order.ints.as_slice());
                let shape = match order {
                    None => of.shape.iter().rev().copied().collect(),
                    Some(order) => {
                        let axis = |at: &i64| of.shape.get(usize::try_from(*at).ok()?).copied();
                        order.iter().map(axis).collect::<Option<Vec<u64>>>()?
                    }
                };
                Some(Value::computed(shape, of.width))
            }
            "Gather" => {
                let (of, at) = (self.input(0)?, self.input(1)?);
                let axis = axis(self.int("axis").unwrap_or(0), of.shape.len())?;
                let shape = [&of.shape[..axis], &at.shape, &of.shape[axis + 1..]].concat();
                Some(Value::computed(shape, of.width))
            }
            "MatMul" => self.product(),
            operation if BY_ELEMENT.contains(&operation) => self.by_element(),
            "Where" => {
                let (flag, yes, no) = (self.input(0)?, self.input(1)?, self.input(2)?);
                let shape = broadcast(&broadcast(&flag.shape, &yes.shape)?, &no.shape)?;
                Some(Value::computed(shape, yes.width))
            }
            _ => None,
        }
    }

    fn input(&self, at: usize) -> Option<&Value> {
        self.inputs.get(at).copied().flatten().filter(|value| value.shape.len() <= MOST_AXES)
    }

    fn elements(&self, at: usize) -> Option<&[i64]> {
        self.input(at)?.elements.as_deref()
    }

    fn attribute(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i)
    }

    /// Axes of an operation that takes them as an attribute or, later, as an input.
    fn axes(&self) -> Option<&[i64]> {
        let axes = self.attribute("axes").map(|axes| axes.ints.as_slice()).or_else(|| self.elements(1));
        axes.filter(|axes| axes.len() <= MOST_AXES)
    }

    fn constant(&self) -> Option<Value> {
        let given = self.node.attribute.first()?;
        match given.name.as_str() {
            "value" => Value::held(given.t.as_ref()?).ok(),
            "value_int" => Some(Value { shape: Vec::new(), ..Value::numbers(vec![given.i], true) }),
            "value_ints" => Some(Value::numbers(given.ints.clone(), true)),
            "value_float" => Some(Value::computed(Vec::new(), 4)),
            "value_floats" => Some(Value::computed(vec![given.floats.len() as u64], 4)),
            _ => None,
        }
    }

    fn range(&self) -> Option<Value> {
        let one = |at: usize| self.elements(at)?.first().copied();
        let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
        let span = i128::from(limit) - i128::from(start);
        let count = span.checked_div(i128::from(delta))?.max(0);
        Some(Value::computed(vec![u64::try_from(count).unwrap_or(u64::MAX)], self.input(0)?.width))
    }

    fn concat(&self) -> Option<Value> {
        let first = self.input(0)?;
        let axis = axis(self.int("axis")?, first.shape.len())?;
        let mut shape = first.shape.clone();
        let mut joined = Some(Vec::new());
        shape[axis] = 0;
        for at in 0..self.node.input.len() {
            // What is not known is there with nothing.
            let Some(part) = self.input(at) else {
                joined = None;
                continue;
            };
            shape[axis] = shape[axis].saturating_add(*part.shape.get(axis)?);
            joined = joined.zip(part.elements.as_ref()).map(|(mut all, more)| {
                all.extend_from_slice(more);
                all
            });
        }
        match joined {
            Some(all) if shape.len() == 1 => Some(Value::numbers(all, false)),
            _ => Some(Value::computed(shape, first.width)),
        }
    }

    fn tile(&self) -> Option<Value> {
        let (of, times) = (self.input(0)?, value::lengths(self.elements(1)?)?);
        if times.len() != of.shape.len() {
            return None;
        }
        let shape = of.shape.iter().zip(times).map(|(length, times)| length.saturating_mul(times)).collect();
        Some(Value::computed(shape, of.width))
    }

    fn pad(&self) -> Option<Value> {
        let of = self.input(0)?;
        let pads = match self.attribute("pads") {
            Some(pads) => pads.ints.as_slice(),
            None => self.elements(1)?,
        };
        let rank = of.shape.len();
        let by_axis = pads.len() == 2 * rank && self.input(3).is_none();
        let padded = |(at, length): (usize, &u64)| {
            let longer = i128::from(*length) + i128::from(pads[at]) + i128::from(pads[at + rank]);
            u64::try_from(longer.max(0)).unwrap_or(u64::MAX)
        };
        by_axis.then(|| Value::computed(of.shape.iter().enumerate().map(padded).collect(), of.width))
    }

    /// Only sizes that are given: scales are no whole numbers.
    fn resize(&self) -> Option<Value> {
        let of = self.input(0)?;
        let sizes = value::lengths(self.elements(3)?)?;
        (sizes.len() == of.shape.len()).then(|| Value::computed(sizes, of.width))
    }

    fn reshape(&self) -> Option<Value> {
        let (of, to) = (self.input(0)?, self.elements(1)?);
        let length = |(at, to): (usize, &i64)| match to {
            0 => of.shape.get(at).copied().unwrap_or(1),
            -1 => 1,
            to => u64::try_from(*to).unwrap_or(1),
        };
        let mut shape: Vec<u64> = to.iter().enumerate().map(length).collect();
        if let Some(open) = to.iter().position(|to| *to == -1) {
            shape[open] = of.count().checked_div(product(&shape)).unwrap_or(1).max(1);
        }
        // It holds what it held: a shape that says more is refused where it is run.
        let is_same = !of.is_exact || product(&shape) == of.count();
        is_same.then(|| Value { elements: of.elements.clone(), ..Value::computed(shape, of.width) })
    }

    fn squeeze(&self) -> Option<Value> {
        let of = self.input(0)?;
        let rank = of.shape.len();
        let axes = self.axes()?.iter().map(|at| axis(*at, rank)).collect::<Option<Vec<usize>>>()?;
        let kept = (0..rank).filter(|at| !axes.contains(at)).map(|at| of.shape[at]).collect();
        Some(Value { elements: of.elements.clone(), ..Value::computed(kept, of.width) })
    }

    fn unsqueeze(&self) -> Option<Value> {
        let (of, axes) = (self.input(0)?, self.axes()?);
        let rank = of.shape.len() + axes.len();
        let mut rest = of.shape.iter().copied();
        let new: Vec<usize> = axes.iter().map(|at| axis(*at, rank)).collect::<Option<_>>()?;
        let shape = (0..rank).map(|at| if new.contains(&at) { Some(1) } else { rest.next() });
        let shape = shape.collect::<Option<Vec<u64>>>()?;
        Some(Value { elements: of.elements.clone(), ..Value::computed(shape, of.width) })
    }

    fn product(&self) -> Option<Value> {
        let (left, right) = (self.input(0)?, self.input(1)?);
        let ([around, rows, _], [others, _, columns]) = (split(&left.shape)?, split(&right.shape)?);
        let mut shape = broadcast(around, others)?;
        shape.extend([rows[0], columns[0]]);
        Some(Value::computed(shape, left.width))
    }

    fn by_element(&self) -> Option<Value> {
        let operation = self.node.op_type.as_str();
        let first = self.input(0)?;
        let many = !OF_FIRST.contains(&operation);
        let mut shape = first.shape.clone();
        for input in self.inputs.iter().skip(1).filter(|_| many) {
            shape = broadcast(&shape, &(*input)?.shape)?;
        }
        let width = match operation {
            "Cast" => self.int("to").and_then(|to| value::width(i32::try_from(to).ok()?)).unwrap_or(1),
            flags if FLAGS.contains(&flags) => 1,
            _ => first.width,
        };
        let elements = match operation {
            "Cast" | "Identity" => first.elements.clone(),
            "Add" | "Mul" => self.computed(operation),
            _ => None,
        };
        Some(Value { elements, ..Value::computed(shape, width) })
    }

    /// Sums or products of lengths.
    fn computed(&self, operation: &str) -> Option<Vec<i64>> {
        let (left, right) = (self.elements(0)?, self.elements(1)?);
        let pair =
            |at: usize| Some((*left.get(at % left.len().max(1))?, *right.get(at % right.len().max(1))?));
        let fits = left.len() == right.len() || left.len() == 1 || right.len() == 1;
        let count = left.len().max(right.len());
        let one = |at: usize| {
            let (left, right) = pair(at)?;
            if operation == "Add" { left.checked_add(right) } else { left.checked_mul(right) }
        };
        if fits { (0..count).map(one).collect() } else { None }
    }
}

/// What is around a matrix, its rows and its columns.
fn split(shape: &[u64]) -> Option<[&[u64]; 3]> {
    let at = shape.len().checked_sub(2)?;
    Some([&shape[..at], &shape[at..=at], &shape[at + 1..]])
}

fn axis(at: i64, rank: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(i64::try_from(rank).ok()?)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < rank)
}

/// The shape that both are brought to. An axis of 1 that nothing fixes gives way to whatever stands against it.
fn broadcast(left: &[u64], right: &[u64]) -> Option<Vec<u64>> {
    let rank = left.len().max(right.len());
    let length = |shape: &[u64], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let joined = |at: usize| match (length(left, at), length(right, at)) {
        (0, _) | (_, 0) => 0,
        (left, right) => left.max(right),
    };
    Some((0..rank).map(joined).collect())
}
