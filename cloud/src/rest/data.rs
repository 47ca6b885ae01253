//! The `data` of an input: a list of its elements, flat or nested as its shape is.
//!
//! It may stand before the datatype and the shape that it belongs to, so it is read first, eight bytes a number, and
//! becomes a tensor when those are known. Integers keep all of their 64 bits.

use std::fmt;

use bytes::Bytes;
use millgate_shared::array::{Array, Datatype, Values};
use serde::de::{DeserializeSeed, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::failure::Failure;

#[derive(Debug, Default)]
pub(super) struct Data {
    elements: Elements,
    /// By depth: how many items each list has; `None` where lists of one depth differ.
    lengths: Vec<Option<usize>>,
    /// The depth of the lists that hold the elements; lists of another depth hold none.
    depth: Option<usize>,
    is_ragged: bool,
}

/// In the narrowest kind that holds all of them.
#[derive(Debug, Default)]
enum Elements {
    #[default]
    None,
    Bools(Vec<bool>),
    Texts(Vec<Bytes>),
    Signed(Vec<i64>),
    /// Some are beyond the largest `i64`, and none is negative.
    Unsigned(Vec<u64>),
    Floats(Vec<f64>),
}

enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Elements {
    fn kind(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Bools(_) => "truth values",
            Self::Texts(_) => "strings",
            Self::Signed(_) | Self::Unsigned(_) | Self::Floats(_) => "numbers",
        }
    }

    fn push_number(&mut self, number: Number) -> Result<(), &'static str> {
        let float = |values: &[i64]| values.iter().map(|value| *value as f64).collect::<Vec<f64>>();
        match (&mut *self, number) {
            (Self::None, Number::Signed(value)) => *self = Self::Signed(vec![value]),
            (Self::None, Number::Unsigned(value)) => *self = Self::Unsigned(vec![value]),
            (Self::None, Number::Float(value)) => *self = Self::Floats(vec![value]),
            (Self::Signed(values), Number::Signed(value)) => values.push(value),
            (Self::Unsigned(values), Number::Unsigned(value)) => values.push(value),
            (Self::Floats(values), Number::Float(value)) => values.push(value),
            (Self::Floats(values), Number::Signed(value)) => values.push(value as f64),
            (Self::Floats(values), Number::Unsigned(value)) => values.push(value as f64),
            (Self::Signed(values), Number::Float(value)) => {
                let mut floats = float(values);
                floats.push(value);
                *self = Self::Floats(floats);
            }
            (Self::Signed(values), Number::Unsigned(value)) => {
                *self = match values.iter().map(|value| u64::try_from(*value)).collect() {
                    Ok(mut whole) => {
                        Vec::push(&mut whole, value);
                        Self::Unsigned(whole)
                    }
                    // No integer datatype has both.
                    Err(_) => {
                        let mut floats = float(values);
                        floats.push(value as f64);
                        Self::Floats(floats)
                    }
                };
            }
            (Self::Unsigned(values), number) => match number {
                Number::Signed(value) if value >= 0 => values.push(value.unsigned_abs()),
                Number::Signed(_) | Number::Unsigned(_) | Number::Float(_) => {
                    let mut floats: Vec<f64> = values.iter().map(|value| *value as f64).collect();
                    floats.push(match number {
                        Number::Signed(value) => value as f64,
                        Number::Unsigned(value) => value as f64,
                        Number::Float(value) => value,
                    });
                    *self = Self::Floats(floats);
                }
            },
            (Self::Bools(_) | Self::Texts(_), _) => return Err(self.kind()),
        }
        Ok(())
    }

    fn push_bool(&mut self, value: bool) -> Result<(), &'static str> {
        match self {
            Self::None => *self = Self::Bools(vec![value]),
            Self::Bools(values) => values.push(value),
            _ => return Err(self.kind()),
        }
        Ok(())
    }

    fn push_text(&mut self, value: &str) -> Result<(), &'static str> {
        let text = Bytes::copy_from_slice(value.as_bytes());
        match self {
            Self::None => *self = Self::Texts(vec![text]),
            Self::Texts(values) => values.push(text),
            _ => return Err(self.kind()),
        }
        Ok(())
    }

    /// Values of `datatype`; an error is what is wrong with them.
    fn values(self, datatype: Datatype) -> Result<Values, String> {
        let kind = self.kind();
        Ok(match datatype {
            Datatype::Fp16 | Datatype::Bf16 => {
                return Err(format!("{datatype} cannot be sent in JSON; send it as binary data"));
            }
            Datatype::Fp64 => self.floats(datatype)?.into(),
            Datatype::Fp32 => {
                let values = self.floats(datatype)?;
                let narrow = |(at, value): (usize, &f64)| match *value as f32 {
                    narrow if narrow.is_finite() => Ok(narrow),
                    _ => Err(beyond(at, value, datatype)),
                };
                values.iter().enumerate().map(narrow).collect::<Result<Vec<f32>, _>>()?.into()
            }
            Datatype::Uint8 => self.whole::<u8>(datatype)?.into(),
            Datatype::Uint16 => self.whole::<u16>(datatype)?.into(),
            Datatype::Uint32 => self.whole::<u32>(datatype)?.into(),
            Datatype::Uint64 => self.whole::<u64>(datatype)?.into(),
            Datatype::Int8 => self.whole::<i8>(datatype)?.into(),
            Datatype::Int16 => self.whole::<i16>(datatype)?.into(),
            Datatype::Int32 => self.whole::<i32>(datatype)?.into(),
            Datatype::Int64 => self.whole::<i64>(datatype)?.into(),
            Datatype::Bool => match self {
                Self::Bools(values) => values.into(),
                Self::None => Vec::<bool>::new().into(),
                _ => return Err(format!("holds {kind}, {datatype} takes true and false")),
            },
            Datatype::Bytes => match self {
                Self::Texts(values) => values.into(),
                Self::None => Vec::<Bytes>::new().into(),
                _ => return Err(format!("holds {kind}, {datatype} takes strings")),
            },
        })
    }

    fn floats(self, datatype: Datatype) -> Result<Vec<f64>, String> {
        Ok(match self {
            Self::None => Vec::new(),
            Self::Signed(values) => values.into_iter().map(|value| value as f64).collect(),
            Self::Unsigned(values) => values.into_iter().map(|value| value as f64).collect(),
            Self::Floats(values) => values,
            other => return Err(format!("holds {}, {datatype} takes numbers", other.kind())),
        })
    }

    fn whole<T: TryFrom<i64> + TryFrom<u64>>(self, datatype: Datatype) -> Result<Vec<T>, String> {
        fn narrow<W, T>(values: Vec<W>, datatype: Datatype) -> Result<Vec<T>, String>
        where
            W: Copy + fmt::Display,
            T: TryFrom<W>,
        {
            let narrow = |(at, value)| T::try_from(value).map_err(|_| beyond(at, value, datatype));
            values.into_iter().enumerate().map(narrow).collect()
        }
        match self {
            Self::None => Ok(Vec::new()),
            Self::Signed(values) => narrow(values, datatype),
            Self::Unsigned(values) => narrow(values, datatype),
            Self::Floats(values) => {
                let odd = values.iter().position(|value| value.fract() != 0.0 || value.abs() > 9e15);
                let odd = odd.map(|at| format!("element {at} is {:?}", values[at]));
                let which = odd.unwrap_or_else(|| "one is written with a point".to_owned());
                Err(format!("{which}; {datatype} takes whole numbers, written without a point"))
            }
            other => Err(format!("holds {}, {datatype} takes whole numbers", other.kind())),
        }
    }
}

fn beyond(at: usize, value: impl fmt::Display, datatype: Datatype) -> String {
    format!("element {at} is {value}, which {datatype} does not hold")
}

impl Data {
    /// The tensor of input `field`.
    pub(super) fn array(self, field: &str, datatype: Datatype, shape: Vec<usize>) -> Result<Array, Failure> {
        let refuse = |message: String| Failure::field(format!("{field}.data"), message);
        let nested = self.lengths.len() > 1;
        let as_shape = || self.lengths.iter().zip(&shape).all(|(length, axis)| *length == Some(*axis));
        if self.is_ragged || nested && (self.lengths.len() != shape.len() || !as_shape()) {
            return Err(refuse(format!("is not nested as shape {shape:?}")));
        }
        let values = self.elements.values(datatype).map_err(refuse)?;
        Array::new(shape, values).map_err(|error| refuse(error.to_string()))
    }

    fn list_ends(&mut self, depth: usize, items: usize) {
        match &mut self.lengths[depth] {
            Some(length) if *length == items => {}
            Some(_) => self.is_ragged = true,
            unset => *unset = Some(items),
        }
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(Item { data: &mut data, depth: 0 })?;
        Ok(data)
    }
}

/// An element, or a list at `depth`.
struct Item<'a> {
    data: &'a mut Data,
    depth: usize,
}

impl Item<'_> {
    fn element<E: Error>(
        self,
        found: Unexpected<'_>,
        push: impl FnOnce(&mut Elements) -> Result<(), &'static str>,
    ) -> Result<(), E> {
        self.data.is_ragged |= *self.data.depth.get_or_insert(self.depth) != self.depth;
        push(&mut self.data.elements)
            .map_err(|others| E::invalid_type(found, &format!("{others} throughout").as_str()))
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("a list of elements"),
            _ => f.write_str("a number, true, false, a string or a list"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { data, depth } = self;
        if data.lengths.len() <= depth {
            data.lengths.push(None);
        }
        let mut items = 0;
        while list.next_element_seed(Item { data: &mut *data, depth: depth + 1 })?.is_some() {
            items += 1;
        }
        data.list_ends(depth, items);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.element(Unexpected::Bool(value), |elements| elements.push_bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.element(Unexpected::Signed(value), |elements| elements.push_number(Number::Signed(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let number = i64::try_from(value).map_or(Number::Unsigned(value), Number::Signed);
        self.element(Unexpected::Unsigned(value), |elements| elements.push_number(number))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.element(Unexpected::Float(value), |elements| elements.push_number(Number::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.element(Unexpected::Str(value), |elements| elements.push_text(value))
    }
}

#[cfg(test)]
mod tests;
