//! `type = "stdout"` in `[[sinks]]`.

use serde::Deserialize;

use super::Stdout;
use crate::sink::worker::{Settings, Worker};
use crate::sink::{Opening, SinkSettings};

/// One JSON object a line on standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

impl SinkSettings for StdoutConfig {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn only_one(&self) -> Option<(&'static str, String)> {
        Some(("type", "`stdout`".to_owned()))
    }

    fn open(&self, opening: Opening<'_>) -> Result<Worker, String> {
        let settings = Settings::patient(opening.queue);
        Ok(opening.start(settings, Stdout::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::shown;

    #[test]
    fn the_shipped_example_shows_it() {
        assert_eq!(shown::<StdoutConfig>("sinks", "stdout"), [StdoutConfig {}]);
    }
}
