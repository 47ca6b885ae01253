//! A model's `config.pbtxt`, in Triton's format: read, and held against the model's file.

use std::path::Path;

use miette::Diagnostic;
use millgate_shared::engine::{Port, Signature};
use millgate_shared::proto::{FILE_DESCRIPTOR_SET, inference};
use millgate_shared::text_file;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::RepositoryError;
use super::file::{bounded, stands};
use crate::oip::describe::data_type;

pub(super) const FILE_NAME: &str = "config.pbtxt";
/// A configuration is a page of text; more is not read.
const LONGEST: u64 = 1 << 20;
/// Deeper than any field lies. The parser follows a type named in brackets before it asks whether that may stand
/// there, one call a level: without this bound a small file ends the stack.
const DEEPEST: usize = 16;

/// What it says of inputs and outputs must be so.
pub(crate) fn check(config: &inference::ModelConfig, signature: &Signature) -> Result<(), String> {
    let batches = config.max_batch_size > 0;
    if batches && !signature.may_batch() {
        return Err("max_batch_size: the model's inputs and outputs have no free first axis".to_owned());
    }
    let find = |ports: &[Port], name: &str| ports.iter().find(|port| port.name == name).cloned();
    for input in &config.input {
        let port = find(&signature.inputs, &input.name);
        check_port("input", &input.name, input.data_type(), &input.dims, port.as_ref(), batches)?;
        if input.reshape.is_some() {
            return Err(format!("input `{}`.reshape: is not offered", input.name));
        }
    }
    for output in &config.output {
        let port = find(&signature.outputs, &output.name);
        check_port("output", &output.name, output.data_type(), &output.dims, port.as_ref(), batches)?;
        if output.reshape.is_some() {
            return Err(format!("output `{}`.reshape: is not offered", output.name));
        }
    }
    Ok(())
}

fn check_port(
    field: &str,
    name: &str,
    kind: inference::DataType,
    dims: &[i64],
    port: Option<&Port>,
    batches: bool,
) -> Result<(), String> {
    let Some(port) = port else { return Err(format!("{field}: the model has no `{name}`")) };
    let expected = data_type(port.datatype);
    if kind != expected {
        let (kind, expected) = (kind.as_str_name(), expected.as_str_name());
        return Err(format!("{field} `{name}`.data_type: is {kind}, the model's is {expected}"));
    }
    if port.shape.is_none() {
        return Ok(());
    }
    let shape = port.wire_shape();
    let shape = shape.get(usize::from(batches)..).unwrap_or(&[]);
    let fits = |(dim, axis): (&i64, &i64)| *dim == -1 || *axis == -1 || dim == axis;
    if dims.len() == shape.len() && dims.iter().zip(shape).all(fits) {
        return Ok(());
    }
    Err(format!("{field} `{name}`.dims: are {dims:?}, the model's {shape:?}"))
}

/// `None` where the model has none.
pub(super) fn read(
    root: &Path,
    dir: &Path,
    name: &str,
) -> Result<Option<inference::ModelConfig>, RepositoryError> {
    let path = dir.join(FILE_NAME);
    if !stands(&path) {
        return Ok(None);
    }
    let refuse = |message: String| RepositoryError::Config { path: path.clone(), message };
    let bytes = bounded(root, &path, LONGEST)?;
    let text = text_file::decode(&bytes).map_err(|error| refuse(error.to_string()))?;
    let config = parse(text).map_err(refuse)?;
    if !config.name.is_empty() && config.name != name {
        return Err(refuse(format!("name: is `{}`, the folder `{name}`", config.name)));
    }
    if config.max_batch_size < 0 {
        return Err(refuse(format!("max_batch_size: {} is negative", config.max_batch_size)));
    }
    for (field, value) in [("platform", &config.platform), ("backend", &config.backend)] {
        if !["", "onnxruntime_onnx", "onnx_onnxv1", "onnxruntime"].contains(&value.as_str()) {
            return Err(refuse(format!("{field}: `{value}` is not served here, ONNX is")));
        }
    }
    let unsupported = match config.scheduling_choice {
        Some(inference::model_config::SchedulingChoice::SequenceBatching(_)) => Some("sequence_batching"),
        Some(inference::model_config::SchedulingChoice::EnsembleScheduling(_)) => Some("ensemble_scheduling"),
        _ if config.model_transaction_policy.is_some_and(|policy| policy.decoupled) => {
            Some("model_transaction_policy.decoupled")
        }
        _ if config.input.iter().any(|input| input.allow_ragged_batch) => Some("input.allow_ragged_batch"),
        _ => None,
    };
    match unsupported {
        Some(field) => Err(refuse(format!("{field}: is not offered"))),
        None => Ok(Some(config)),
    }
}

/// The protobuf text format; what Triton knows and we do not is an error that names it.
pub(crate) fn parse(text: &str) -> Result<inference::ModelConfig, String> {
    if is_too_deep(text) {
        return Err(format!("nested deeper than {DEEPEST} levels"));
    }
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let kind =
        pool.get_message_by_name("inference.ModelConfig").ok_or("the configuration's type is unknown")?;
    let text = with_colons(text);
    let message = DynamicMessage::parse_text_format(kind, &text).map_err(|error| {
        let at = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
        let before = at.and_then(|at| text.as_bytes().get(..at));
        let line = before.map(|before| 1 + before.iter().filter(|byte| **byte == b'\n').count());
        line.map_or_else(|| error.to_string(), |line| format!("line {line}: {error}"))
    })?;
    message.transcode_to().map_err(|error| error.to_string())
}

/// The text format lets `field [{ .. }]` stand for `field: [{ .. }]`, and Triton's files are written so; the parser
/// wants the colon.
fn with_colons(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut quote, mut is_escaped, mut in_comment, mut after_name) = (None, false, false, false);
    for letter in text.chars() {
        if let Some(open) = quote {
            let ends = letter == open && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            quote = (!ends).then_some(open);
        } else if in_comment {
            in_comment = letter != '\n';
        } else {
            match letter {
                '"' | '\'' => (quote, after_name) = (Some(letter), false),
                '#' => in_comment = true,
                '[' => {
                    if after_name {
                        out.push(':');
                    }
                    after_name = false;
                }
                space if space.is_whitespace() => {}
                other => after_name = other.is_ascii_alphanumeric() || other == '_',
            }
        }
        out.push(letter);
    }
    out
}

/// Whether braces nest too deep, outside strings and comments.
fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'<' => depth += 1,
            b'}' | b'>' => depth = depth.saturating_sub(1),
            b'#' => {
                let _newline = rest.find(|byte| *byte == b'\n');
            }
            quote @ (b'"' | b'\'') => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'\\' => {
                            let _escaped = rest.next();
                        }
                        // The parser ends here too.
                        b'\n' | 0 => return false,
                        byte if byte == quote => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_need_no_colon() {
        let text = "max_batch_size: 8\n# a [comment]\ninput [{ name: \"a [b\" data_type: TYPE_FP32 dims: [ 4 ] }]\n\
                    output [ { name: 'it\\'s' } ]\ndynamic_batching { preferred_batch_size [4, 8] }";
        let config = parse(text).unwrap();
        assert_eq!((config.input[0].name.as_str(), config.input[0].dims.as_slice()), ("a [b", &[4][..]));
        assert_eq!(config.output[0].name, "it's");
    }

    #[test]
    fn a_file_made_on_windows_is_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |bytes: &[u8]| std::fs::write(root.path().join(FILE_NAME), bytes).unwrap();
        let read = || read(root.path(), root.path(), "m");
        write(
            b"\xef\xbb\xbfname: \"m\"\r\n# more\r\nmax_batch_size: 8\r\ninput [\r\n{ name: \"x\" }\r\n]\r\n",
        );
        let config = read().unwrap().unwrap();
        assert_eq!((config.max_batch_size, config.input[0].name.as_str()), (8, "x"));
        let utf_16: Vec<u8> =
            "\u{feff}max_batch_size: 8\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, words) in [
            (&utf_16[..], "config.pbtxt: is UTF-16"),
            (b"max_batch_size: 8\n\0\0", "config.pbtxt: line 2: holds a zero byte"),
            (b"max_batch_size: 8\n# caf\xe9\n", "config.pbtxt: line 2: byte 0xe9 is not UTF-8"),
        ] {
            write(bytes);
            let error = read().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn an_error_names_its_line() {
        let lines = |text: &str| parse(text).unwrap_err();
        let unknown = lines("# a\nmax_batch_size: 8\ninput [{ name: \"a\" }]\nmax_batch: 8\n");
        assert!(unknown.starts_with("line 4: ") && unknown.contains("max_batch"), "{unknown}");
        let kind = lines("input [\n  { data_type: TYPE_FLOAT }\n]");
        assert!(kind.starts_with("line 2: ") && kind.contains("TYPE_FLOAT"), "{kind}");
        assert!(lines("batch_input [{ }]").contains("batch_input"));
        assert!(!lines("input [{").is_empty());
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        for level in
            ["optimization { graph { ", "[a/inference.ModelConfig] {", "[a/inference.ModelConfig]: <"]
        {
            let deep = level.repeat(20_000);
            // As small as the stacks that models are loaded on.
            let outcome =
                std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(&deep).is_err());
            assert!(outcome.unwrap().join().unwrap(), "{level}");
        }
        let braces = "{".repeat(100);
        let text = format!("default_model_filename: \"{braces}\\\"\" # {braces}\nmax_batch_size: 8");
        assert_eq!(parse(&text).unwrap().max_batch_size, 8);
    }
}
