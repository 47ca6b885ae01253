use super::*;

// What needs the library is in the system tests, which know where to get it.

#[test]
fn what_is_no_onnx_runtime_is_refused_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let no_library = dir.path().join("libonnxruntime.so");
    let error = OnnxRuntime::open(&no_library).unwrap_err().to_string();
    assert!(error.contains("libonnxruntime.so: No such file"), "{error}");
    std::fs::write(&no_library, "this is no library").unwrap();
    let error = OnnxRuntime::open(&no_library).unwrap_err().to_string();
    assert!(error.contains("libonnxruntime.so") && error.contains("failed to load"), "{error}");
    // One that can be loaded and is another.
    if let Ok(other) = Path::new("/lib/x86_64-linux-gnu/libm.so.6").canonicalize() {
        let error = OnnxRuntime::open(&other).unwrap_err().to_string();
        assert!(error.contains("OrtGetApiBase"), "{error}");
    }
}
