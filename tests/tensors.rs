//! Golden tensors, written by hand: the length of a JSON head, the head, the numbers.

/// FP32 numbers with a name and a shape.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    pub fn new(name: &str, shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        Self { name: name.to_owned(), shape: shape.to_vec(), values: values.to_vec() }
    }
}

/// The bytes of a safetensors file.
pub fn write(tensors: &[Tensor]) -> Vec<u8> {
    let (mut head, mut data) = (serde_json::Map::new(), Vec::new());
    for Tensor { name, shape, values } in tensors {
        let start = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry =
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        head.insert(name.clone(), entry);
    }
    let head = serde_json::Value::Object(head).to_string();
    let length = (head.len() as u64).to_le_bytes();
    [&length[..], head.as_bytes(), &data].concat()
}
