//! What must hold of a graph's values, and can be told only once the shapes of its inputs are known.

/// Facts that an engine has found out of a value by then.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Fact {
    pub(in super::super) is_float: Option<bool>,
    pub(in super::super) shape: Option<Vec<usize>>,
    /// Elements of a value that is constant, where they are whole numbers.
    pub(in super::super) elements: Option<Vec<i64>>,
}

/// One condition, with the node that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Later {
    /// Name of the node in messages.
    pub(super) node: String,
    pub(super) need: Need,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Need {
    /// Holds if the count is no larger than an axis of `of`.
    AtMost { count: String, of: String, axis: i64 },
    /// Holds if the numbers are from `least` to less than `end`, and known beforehand.
    Within { value: String, least: i64, end: i64 },
    /// Holds if the value has one element.
    One { value: String },
    /// Holds if the value is of floating point.
    Floats { value: String },
    /// Holds if the values are the same for all inputs of these shapes.
    Constant { values: Vec<String> },
    /// Holds if the value has this many axes at least.
    Rank { value: String, least: usize },
    /// Holds if the value has at least one element.
    Some { value: String },
    /// Holds if no axis after the second has length 1.
    Long { value: String },
}

impl Later {
    /// Reason why the condition does not hold, or is not known to; `None` if it holds.
    pub(in super::super) fn fails(&self, fact: impl Fn(&str) -> Fact) -> Option<String> {
        let node = &self.node;
        match &self.need {
            Need::AtMost { count, of, axis } => {
                let Some(most) = fact(of).shape.and_then(|shape| {
                    let rank = i64::try_from(shape.len()).ok()?;
                    let axis = if *axis < 0 { axis + rank } else { *axis };
                    i64::try_from(*shape.get(usize::try_from(axis).ok()?)?).ok()
                }) else {
                    return Some(self.unproven());
                };
                match fact(count).elements.as_deref() {
                    Some([count]) if (0..=most).contains(count) => None,
                    Some([count]) => {
                        Some(format!("tract invents elements for {node}, which asks for {count} of {most}"))
                    }
                    _ => Some(self.unproven()),
                }
            }
            Need::Within { value, least, end } => {
                let numbers = fact(value).elements;
                let within =
                    numbers.is_some_and(|all| all.iter().all(|number| (*least..*end).contains(number)));
                (!within).then(|| self.unproven())
            }
            Need::One { value } => {
                let one = fact(value).shape.is_some_and(|shape| shape.iter().product::<usize>() == 1);
                (!one).then(|| self.unproven())
            }
            Need::Floats { value } => (fact(value).is_float != Some(true)).then(|| self.unproven()),
            Need::Constant { values } => {
                let known = values.iter().all(|value| fact(value).elements.is_some());
                (!known).then(|| self.unproven())
            }
            Need::Rank { value, least } => {
                let enough = fact(value).shape.is_some_and(|shape| shape.len() >= *least);
                (!enough).then(|| self.unproven())
            }
            Need::Some { value } => {
                let some = fact(value).shape.is_some_and(|shape| shape.iter().all(|length| *length > 0));
                (!some).then(|| self.unproven())
            }
            Need::Long { value } => {
                let long =
                    fact(value).shape.is_some_and(|shape| shape.iter().skip(2).all(|length| *length > 1));
                (!long).then(|| self.unproven())
            }
        }
    }

    /// True if the node fails only for shapes that few have.
    pub(super) fn is_of_shapes(&self) -> bool {
        matches!(self.need, Need::Rank { .. } | Need::Some { .. } | Need::Long { .. })
    }

    /// Clause that says what cannot be told of a value inside a nested graph, or is not so.
    pub(super) fn unproven(&self) -> String {
        let node = &self.node;
        match &self.need {
            Need::AtMost { .. } => {
                format!(
                    "tract invents elements where {node} asks for more than there are, and its count is not known"
                )
            }
            Need::Within { least, end, .. } => {
                format!(
                    "tract computes {node} wrongly unless its counts are known and from {least} to {}",
                    end - 1
                )
            }
            Need::One { .. } => {
                format!("tract computes {node} wrongly with several zero points")
            }
            Need::Floats { .. } => format!("tract computes {node} wrongly on anything but floating point"),
            Need::Constant { .. } => {
                format!("tract computes {node} wrongly where its limits are not known before the run")
            }
            Need::Rank { least, .. } => {
                format!("tract computes {node} wrongly on fewer than {least} axes")
            }
            Need::Some { .. } => format!("tract computes {node} wrongly where there is no element"),
            Need::Long { .. } => format!("tract computes {node} wrongly to a length of 1"),
        }
    }
}
