//! TOML read strictly: one error that names the file, the key and the line.

use serde::de::DeserializeOwned;

use crate::text_file;

/// Reason why a TOML file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {}{message}", line_suffix(.line), key_prefix(.key))]
pub struct TomlError {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// Dotted path of the key, `experts[2].cost.macs`; empty for a syntax error.
    pub key: String,
    /// Line in the file, counted from 1; `None` where it is not known.
    pub line: Option<usize>,
    pub message: String,
}

fn line_suffix(line: &Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// Parses `text` as a `T`; `file` only names it in errors. A byte order mark is passed over.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlError> {
    let text = text_file::without_mark(text);
    let refuse = |key: String, error: &toml::de::Error| TomlError {
        file: file.to_owned(),
        key,
        line: error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        message: error.message().trim().replace('\n', ", "),
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| refuse(String::new(), &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = error.path().to_string();
        refuse(if key == "." { String::new() } else { key }, error.inner())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        size: u32,
    }

    fn refused(text: &str) -> String {
        parse::<Outer>("x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        assert!(
            refused("[[inner]]\nsize = 1\n[[inner]]\nsize = -1\n").starts_with("x.toml:4: `inner[1].size`: ")
        );
        assert!(refused("[[inner]]\nsize = 1\nsiez = 2\n").contains("siez"));
        assert!(refused("[[inner]]\n").contains("missing field `size`"));
        assert!(refused("inner = [").starts_with("x.toml:1: "));
    }

    #[test]
    fn an_editors_mark_and_line_ends_change_nothing() {
        let text = "\u{feff}[[inner]]\r\nsize = 1\r\n";
        assert!(parse::<Outer>("x.toml", text).is_ok());
        assert!(refused("\u{feff}[[inner]]\r\nsize = -1\r\n").starts_with("x.toml:2: `inner[0].size`: "));
    }
}
