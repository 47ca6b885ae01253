//! Features: one row a sample.

use super::LinearError;

/// Rows of equal length, one after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    dims: usize,
    values: Vec<f32>,
}

impl Rows {
    pub fn new(dims: usize) -> Self {
        Self { dims, values: Vec::new() }
    }

    /// Adds a row, which must be as long as the others.
    pub fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dims);
        self.values.extend_from_slice(row);
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.dims).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.dims..(at + 1) * self.dims]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims.max(1))
    }

    /// Some of the rows, in this order.
    pub fn chosen(&self, chosen: &[usize]) -> Self {
        let mut rows = Self::new(self.dims);
        for at in chosen {
            rows.push(self.row(*at));
        }
        rows
    }

    /// Refuses what no head can be fitted on.
    pub(super) fn check(&self) -> Result<(), LinearError> {
        if self.is_empty() {
            return Err(LinearError::Empty);
        }
        match self.iter().position(|row| !row.iter().all(|value| value.is_finite())) {
            Some(at) => Err(LinearError::NotFinite(at)),
            None => Ok(()),
        }
    }
}
