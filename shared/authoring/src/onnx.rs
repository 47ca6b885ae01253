//! ONNX graphs, written.
