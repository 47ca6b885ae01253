//! `type = "jsonl"` in `[[sinks]]`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Jsonl, probe_dir, tail};
use crate::finding::Item;
use crate::finding::disk::writable;
use crate::settings::{Refused, refuse};
use crate::sink::told::{Collecting, Depth};
use crate::sink::worker::{Settings, Worker};
use crate::sink::{Opening, SinkSettings};

/// One JSON object a line, appended to a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    pub path: PathBuf,
    /// A file that would grow over this many bytes becomes `path.1`, and that `path.2`. 0: never.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// How many of those are kept; the oldest is deleted.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// Each write reaches the disk before it counts. Without, a power cut can lose the last seconds.
    #[serde(default = "default_sync")]
    pub sync: bool,
    /// Who may read and write the file, as the octal digits of chmod, whatever the umask: `"0640"`. A file that is there and
    /// lets others do more is narrowed to it.
    #[serde(default = "default_mode")]
    pub mode: String,
}

fn default_rotate_bytes() -> u64 {
    64 << 20
}

fn default_keep() -> usize {
    5
}

fn default_sync() -> bool {
    true
}

/// Its owner writes, and its group may read: who is to follow the file is put into that group.
fn default_mode() -> String {
    "0640".to_owned()
}

impl JsonlConfig {
    /// The permission bits; an error for what are none, or do not let the agent itself write.
    pub(super) fn bits(&self) -> Result<u32, Refused> {
        match u32::from_str_radix(&self.mode, 8) {
            Ok(bits) if bits <= 0o777 && bits & 0o600 == 0o600 => Ok(bits),
            _ => {
                let message = "must be octal digits that let the owner read and write, such as \"0640\"";
                Err(Refused { key: "mode".to_owned(), message: message.to_owned() })
            }
        }
    }

    /// Gives one with the defaults of all that has one.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            rotate_bytes: default_rotate_bytes(),
            keep: default_keep(),
            sync: default_sync(),
            mode: default_mode(),
        }
    }
}

impl SinkSettings for JsonlConfig {
    fn kind(&self) -> &'static str {
        "jsonl"
    }

    fn check(&self) -> Result<(), Refused> {
        if self.path.file_name().is_none() {
            return refuse("path", "names no file");
        }
        self.bits().map(drop)
    }

    fn only_one(&self) -> Option<(&'static str, String)> {
        Some(("path", self.path.display().to_string()))
    }

    fn look_here(&self, at: &str) -> Vec<Item> {
        vec![writable(&format!("{at}.path"), probe_dir(&self.path))]
    }

    fn told(&self, depth: Depth, to: &mut Collecting<'_>) -> std::io::Result<()> {
        tail::collect(self, depth.bytes(), to)
    }

    fn open(&self, opening: Opening<'_>) -> Result<Worker, String> {
        let jsonl = Jsonl::open(self, opening.undelivered, opening.told.clone())
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let settings = Settings::patient(opening.queue);
        Ok(opening.start(settings, jsonl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::shown;

    #[test]
    fn a_mode_that_is_none_is_refused_by_its_key() {
        for (mode, bits) in [
            ("0640", Some(0o640)),
            ("600", Some(0o600)),
            ("0440", None),
            ("1777", None),
            ("rw", None),
            ("", None),
        ] {
            let config = JsonlConfig { mode: mode.to_owned(), ..JsonlConfig::new("a".into()) };
            assert_eq!(config.bits().ok(), bits, "{mode}");
            assert_eq!(
                config.check().err().map(|refused| refused.key),
                bits.is_none().then(|| "mode".to_owned())
            );
        }
    }

    #[test]
    fn the_shipped_example_shows_every_default() {
        let [jsonl] = &shown::<JsonlConfig>("sinks", "jsonl")[..] else { panic!("not one file") };
        assert_eq!(*jsonl, JsonlConfig::new(jsonl.path.clone()));
    }
}
