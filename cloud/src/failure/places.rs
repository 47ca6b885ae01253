//! Leaves out where files lie: words that an engine or the system gives name a library or a source file by its whole
//! path, which shows clients how this machine is laid out and tells them nothing.
//!
//! Only a name that ends like a file's loses its folders: nodes of a graph are called `/conv1/Conv`, and must stay.

/// Endings of files that engines, libraries and configurations name.
const ENDINGS: [&str; 24] = [
    "bin", "c", "cc", "cpp", "cu", "cuh", "data", "db", "dll", "dylib", "h", "hpp", "json", "key", "npz",
    "onnx", "ort", "pb", "pbtxt", "pem", "rs", "so", "toml", "txt",
];

/// `text` with each absolute path of a file cut down to the file's own name.
pub(crate) fn left_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, None);
    while let Some(at) = rest.find('/') {
        let (head, path) = rest.split_at(at);
        out.push_str(head);
        before = head.chars().next_back().or(before);
        let end = path.find(ends_path).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        let begins = before.is_none_or(begins_path);
        out.push_str(if begins { file_name(path).unwrap_or(path) } else { path });
        before = path.chars().next_back();
        rest = after;
    }
    out.push_str(rest);
    out
}

fn begins_path(before: char) -> bool {
    before.is_whitespace() || "\"'`(=[{<,;:".contains(before)
}

fn ends_path(letter: char) -> bool {
    letter.is_whitespace() || "\"'`)]}>,;:".contains(letter)
}

/// The last part of an absolute path, if a file is called so.
fn file_name(path: &str) -> Option<&str> {
    let (_, name) = path.rsplit_once('/')?;
    // `//` is that of an address.
    let is_path = !path.starts_with("//") && !name.is_empty();
    let has_ending = name.split('.').skip(1).any(|part| ENDINGS.contains(&part));
    (is_path && has_ending).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lose_their_folders_and_nothing_else_changes() {
        for (text, expected) in [
            ("/srv/models/m/1/model.onnx: not an ONNX file", "model.onnx: not an ONNX file"),
            (
                "Failed to load library /opt/ort/lib/libonnxruntime_providers_cuda.so.1.23: libcublas.so.12: no such file",
                "Failed to load library libonnxruntime_providers_cuda.so.1.23: libcublas.so.12: no such file",
            ),
            (
                "/onnxruntime_src/onnxruntime/core/graph/model.cc:181 onnxruntime::Model::Model(a/b.cc)",
                "model.cc:181 onnxruntime::Model::Model(a/b.cc)",
            ),
            ("read (\"/a/b/weights.bin\",'/c/d.onnx.data')", "read (\"weights.bin\",'d.onnx.data')"),
            ("running Conv node. Name:'/conv1/Conv' failed", "running Conv node. Name:'/conv1/Conv' failed"),
            ("node /model.22/dfl/conv/Conv_output_0", "node /model.22/dfl/conv/Conv_output_0"),
            (
                "see https://onnx.ai/a.txt or 3/4 or m/1/model.onnx",
                "see https://onnx.ai/a.txt or 3/4 or m/1/model.onnx",
            ),
            ("/", "/"),
            ("", ""),
            ("grüße /ä/ö.onnx, /x", "grüße ö.onnx, /x"),
        ] {
            assert_eq!(left_out(text), expected);
        }
    }
}
