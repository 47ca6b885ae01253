//! A dense FP32 tensor: what models take and give.

/// Row-major FP32 values with a shape. The shape's product is always the number of values, and no axis is zero.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Why values and shape do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {0:?} has an axis of length 0")]
    EmptyAxis(Vec<usize>),
    #[error("shape {0:?} overflows")]
    Overflow(Vec<usize>),
    #[error("shape {shape:?} needs {expected} values, got {got}")]
    Length { shape: Vec<usize>, expected: usize, got: usize },
}

impl Tensor {
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, TensorError> {
        if shape.contains(&0) {
            return Err(TensorError::EmptyAxis(shape));
        }
        let Some(expected) = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis)) else {
            return Err(TensorError::Overflow(shape));
        };
        if expected != values.len() {
            return Err(TensorError::Length { shape, expected, got: values.len() });
        }
        Ok(Self { shape, values })
    }

    /// Including the batch axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// False if any value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_never_invalid() {
        assert!(Tensor::new(vec![1, 2], vec![0.0; 2]).is_ok());
        assert_eq!(
            Tensor::new(vec![1, 2], vec![0.0; 3]),
            Err(TensorError::Length { shape: vec![1, 2], expected: 2, got: 3 })
        );
        assert_eq!(Tensor::new(vec![0], vec![]), Err(TensorError::EmptyAxis(vec![0])));
        assert!(matches!(Tensor::new(vec![usize::MAX, 2], vec![]), Err(TensorError::Overflow(_))));
    }
}
