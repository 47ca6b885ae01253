//! Made-up inputs: what stands in for a client's, as long as nobody has asked. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use half::{bf16, f16};
use millgate_shared::array::{Array, Datatype, Values, elements};
use millgate_shared::engine::graph::Role;
use millgate_shared::engine::{Axis, EngineError, Port, Signature};

/// Kinds of made-up inputs, the likely ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Small numbers around 0, text of letters; integers are 0 or 1, since they are often indices. What divides is not 0,
    /// what counts counts to one: so it is with every guess.
    Usual,
    /// What are axes are the first ones, what is a shape is that of another input.
    ByRole,
    /// Axes are the last ones, a shape is flat, factors and counts are two.
    ByRoleToo,
    /// Whole numbers from 1 to 3, text of digits, nothing below 0.
    Positive,
    Ones,
    Zeros,
    /// Every value that an 8-bit number has, and floats far from 0: where arithmetic overflows, it shows.
    Wide,
}

impl Guess {
    /// In the order in which they are tried.
    pub(crate) const ALL: [Self; 6] =
        [Self::Usual, Self::ByRole, Self::ByRoleToo, Self::Positive, Self::Ones, Self::Zeros];

    /// Whether this guess makes something of the signature that no other one makes.
    pub(super) fn is_for(self, signature: &Signature) -> bool {
        !matches!(self, Self::ByRole | Self::ByRoleToo) || !signature.graph.roles.is_empty()
    }
}

/// Inputs that are the same every time, and differ from row to row where the guess has more than one value.
/// `rows`: of first axes that are free, where all are; `length`: of the other ones.
pub(crate) fn inputs(
    guess: Guess,
    signature: &Signature,
    rows: usize,
    length: usize,
) -> Result<Vec<Array>, EngineError> {
    let shapes = shapes(signature, rows, length);
    let mut numbers = Numbers::default();
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for (at, (port, shape)) in signature.inputs.iter().zip(&shapes).enumerate() {
        let count = elements(shape).unwrap_or(0);
        let role = signature.graph.roles.get(&port.name);
        let told = match (guess, role) {
            (_, None) | (_, Some(Role::Divisor)) => None,
            (Guess::ByRoleToo, Some(role)) => by_other_role(*role, count),
            // None of nothing: some engines divide by it, and take the process along.
            (_, Some(Role::Count)) | (Guess::ByRole, _) => {
                role.and_then(|role| by_role(*role, count, other_shape(signature, &shapes, at, count)))
            }
            _ => None,
        };
        let values = match (told, role) {
            (Some(told), _) => whole(port.datatype, &told),
            (None, Some(Role::Divisor)) => numbers.make(Guess::Positive, port, count),
            (None, _) => numbers.make(guess, port, count),
        };
        inputs.push(Array::new(shape.clone(), values)?);
    }
    Ok(inputs)
}

fn shapes(signature: &Signature, rows: usize, length: usize) -> Vec<Vec<usize>> {
    let may_batch = signature.may_batch();
    let mut named: HashMap<&str, usize> = HashMap::new();
    let mut shapes = Vec::with_capacity(signature.inputs.len());
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
        shapes.push(shape);
    }
    shapes
}

/// The shape of another input that has so many axes and no role.
fn other_shape(signature: &Signature, shapes: &[Vec<usize>], at: usize, axes: usize) -> Option<Vec<i64>> {
    let roles: &BTreeMap<String, Role> = &signature.graph.roles;
    let mut others = signature.inputs.iter().zip(shapes).enumerate();
    let is_like = |(other, (port, shape)): &(usize, (&Port, &Vec<usize>))| {
        *other != at && shape.len() == axes && !roles.contains_key(&port.name)
    };
    let (_, (_, shape)) = others.find(is_like)?;
    Some(shape.iter().map(|length| i64::try_from(*length).unwrap_or(1)).collect())
}

/// `None`: any value that is not 0 will do.
fn by_role(role: Role, count: usize, other: Option<Vec<i64>>) -> Option<Vec<i64>> {
    match role {
        Role::Divisor => None,
        Role::Shape => Some(other.unwrap_or_else(|| flat(count))),
        Role::Axes => Some((0..count).map(|axis| axis as i64).collect()),
        Role::Scale | Role::Count => Some(vec![1; count]),
    }
}

fn by_other_role(role: Role, count: usize) -> Option<Vec<i64>> {
    match role {
        Role::Divisor => None,
        Role::Shape => Some(flat(count)),
        Role::Axes => Some((1..=count).map(|axis| -(axis as i64)).collect()),
        Role::Scale | Role::Count => Some(vec![2; count]),
    }
}

/// A shape of as many elements as there are.
fn flat(axes: usize) -> Vec<i64> {
    (0..axes).map(|axis| if axis == 0 { -1 } else { 1 }).collect()
}

/// These numbers, as far as the type has them.
fn whole(datatype: Datatype, numbers: &[i64]) -> Values {
    macro_rules! cast {
        ($of:ty) => {
            numbers.iter().map(|number| *number as $of).collect::<Vec<$of>>().into()
        };
    }
    match datatype {
        Datatype::Bool => numbers.iter().map(|number| *number != 0).collect::<Vec<bool>>().into(),
        Datatype::Uint8 => cast!(u8),
        Datatype::Uint16 => cast!(u16),
        Datatype::Uint32 => cast!(u32),
        Datatype::Uint64 => cast!(u64),
        Datatype::Int8 => cast!(i8),
        Datatype::Int16 => cast!(i16),
        Datatype::Int32 => cast!(i32),
        Datatype::Int64 => cast!(i64),
        Datatype::Fp16 => {
            numbers.iter().map(|number| f16::from_f64(*number as f64)).collect::<Vec<_>>().into()
        }
        Datatype::Bf16 => {
            numbers.iter().map(|number| bf16::from_f64(*number as f64)).collect::<Vec<_>>().into()
        }
        Datatype::Fp32 => cast!(f32),
        Datatype::Fp64 => cast!(f64),
        Datatype::Bytes => {
            numbers.iter().map(|number| Bytes::from(number.to_string())).collect::<Vec<_>>().into()
        }
    }
}

/// A row of numbers that is the same every time.
#[derive(Debug)]
pub(crate) struct Numbers {
    random: fastrand::Rng,
}

/// A seed whose first rows of two whole numbers are 1 0, 0 1, 1 1: none is what another guess gives, and they differ at once.
const SEED: u64 = 3;

impl Default for Numbers {
    fn default() -> Self {
        Self { random: fastrand::Rng::with_seed(SEED) }
    }
}

impl Numbers {
    /// From 0 to below 1.
    fn next(&mut self) -> f32 {
        self.random.f32()
    }

    /// One of `first` to `last`.
    fn between(&mut self, first: i64, last: i64) -> i64 {
        self.random.i64(first..=last)
    }

    /// The values of any guess; a role is the caller's matter.
    pub(crate) fn make(&mut self, guess: Guess, port: &Port, count: usize) -> Values {
        match (guess, port.datatype) {
            (Guess::Ones, datatype) => whole(datatype, &vec![1; count]),
            (Guess::Zeros, datatype) => whole(datatype, &vec![0; count]),
            (_, Datatype::Bytes) => self.texts(guess == Guess::Positive, count),
            (_, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64) => {
                self.floats(guess, port.datatype, count)
            }
            (Guess::Wide, Datatype::Uint8) => self.wholes(port.datatype, (0, 255), count),
            (Guess::Wide, Datatype::Int8) => self.wholes(port.datatype, (-128, 127), count),
            (Guess::Positive, _) => self.wholes(port.datatype, (1, 3), count),
            _ => self.wholes(port.datatype, (0, 1), count),
        }
    }

    fn wholes(&mut self, datatype: Datatype, (first, last): (i64, i64), count: usize) -> Values {
        let numbers: Vec<i64> = (0..count).map(|_| self.between(first, last)).collect();
        whole(datatype, &numbers)
    }

    fn texts(&mut self, digits: bool, count: usize) -> Values {
        let (first, last) = if digits { (b'1', b'3') } else { (b'a', b'e') };
        let mut text = || {
            let letter = u8::try_from(self.between(first.into(), last.into())).unwrap_or(first);
            Bytes::copy_from_slice(&[letter])
        };
        (0..count).map(|_| text()).collect::<Vec<_>>().into()
    }

    fn floats(&mut self, guess: Guess, datatype: Datatype, count: usize) -> Values {
        // FP32 has had twice the width of the others for long, and what was measured so is compared with.
        let half = if datatype == Datatype::Fp32 { 1.0 } else { 0.5 };
        let (least, width) = match guess {
            Guess::Positive => (0.5, 1.0),
            Guess::Wide => (-4.0, 8.0),
            _ => (-half, 2.0 * half),
        };
        let mut next = || least + width * self.next();
        match datatype {
            Datatype::Fp16 => (0..count).map(|_| f16::from_f32(next())).collect::<Vec<_>>().into(),
            Datatype::Bf16 => (0..count).map(|_| bf16::from_f32(next())).collect::<Vec<_>>().into(),
            Datatype::Fp64 => (0..count).map(|_| f64::from(next())).collect::<Vec<f64>>().into(),
            _ => (0..count).map(|_| next()).collect::<Vec<f32>>().into(),
        }
    }
}

#[cfg(test)]
mod tests;
