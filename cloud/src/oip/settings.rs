//! Trace and log settings under Triton's names. They say what this process does and are read only: the configuration
//! sets them, at the start.

use std::collections::BTreeMap;

use millgate_shared::proto::inference as proto;
use proto::log_settings_response::setting_value::ParameterChoice;
use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;

/// A trace setting: its name, its values, and whether it is a list wherever it stands.
type Trace = (&'static str, String, bool);

/// `sampled` is the share of calls that are traced, of those that bring no decision along; `None`: none ever is.
fn trace(sampled: Option<f64>) -> [Trace; 6] {
    // One of so many is traced; 0: none but those whose caller says so.
    let rate = sampled.filter(|share| *share > 0.0).map_or(0, |share| (1.0 / share).round() as u64);
    let level = if sampled.is_some() { "TIMESTAMPS" } else { "OFF" };
    [
        ("trace_level", level.to_owned(), true),
        ("trace_rate", rate.to_string(), false),
        // No end, and no file: a collector has them.
        ("trace_count", "-1".to_owned(), false),
        ("log_frequency", "0".to_owned(), false),
        ("trace_file", String::new(), false),
        ("trace_mode", "opentelemetry".to_owned(), false),
    ]
}

pub(crate) fn trace_response(sampled: Option<f64>) -> proto::TraceSettingResponse {
    let value = |value| proto::trace_setting_response::SettingValue { value: vec![value] };
    let settings = trace(sampled).into_iter().map(|(name, text, _)| (name.to_owned(), value(text)));
    proto::TraceSettingResponse { settings: settings.collect() }
}

pub(crate) fn trace_json(sampled: Option<f64>) -> Value {
    let value = |text, is_list| if is_list { json!([text]) } else { json!(text) };
    let settings =
        trace(sampled).into_iter().map(|(name, text, is_list)| (name.to_owned(), value(text, is_list)));
    Value::Object(settings.collect::<Map<_, _>>())
}

/// `level` is the most that is logged, by anyone.
fn log(level: LevelFilter) -> BTreeMap<&'static str, ParameterChoice> {
    let logs = |least: LevelFilter| ParameterChoice::BoolParam(level >= least);
    let verbose = match level {
        LevelFilter::TRACE => 2,
        LevelFilter::DEBUG => 1,
        _ => 0,
    };
    BTreeMap::from([
        // Standard error.
        ("log_file", ParameterChoice::StringParam(String::new())),
        ("log_error", logs(LevelFilter::ERROR)),
        ("log_warning", logs(LevelFilter::WARN)),
        ("log_info", logs(LevelFilter::INFO)),
        ("log_verbose_level", ParameterChoice::Uint32Param(verbose)),
        // Of a line's time.
        ("log_format", ParameterChoice::StringParam("ISO8601".to_owned())),
    ])
}

pub(crate) fn log_response() -> proto::LogSettingsResponse {
    let value = |choice| proto::log_settings_response::SettingValue { parameter_choice: Some(choice) };
    let settings =
        log(LevelFilter::current()).into_iter().map(|(name, choice)| (name.to_owned(), value(choice)));
    proto::LogSettingsResponse { settings: settings.collect() }
}

pub(crate) fn log_json() -> Value {
    let value = |choice| match choice {
        ParameterChoice::BoolParam(value) => json!(value),
        ParameterChoice::Uint32Param(value) => json!(value),
        ParameterChoice::StringParam(value) => json!(value),
    };
    let settings =
        log(LevelFilter::current()).into_iter().map(|(name, choice)| (name.to_owned(), value(choice)));
    Value::Object(settings.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_traced_calls_is_a_rate_in_tritons_words() {
        for (sampled, level, rate) in [
            (None, "OFF", "0"),
            (Some(0.0), "TIMESTAMPS", "0"),
            (Some(1.0), "TIMESTAMPS", "1"),
            (Some(0.001), "TIMESTAMPS", "1000"),
        ] {
            let json = trace_json(sampled);
            assert_eq!((&json["trace_level"], &json["trace_rate"]), (&json!([level]), &json!(rate)));
            assert_eq!(trace_response(sampled).settings["trace_rate"].value, [rate]);
        }
    }

    #[test]
    fn what_is_logged_is_said_by_level() {
        let at = |level| {
            let settings = log(level);
            let is_on = |name| settings[name] == ParameterChoice::BoolParam(true);
            let verbose = settings["log_verbose_level"].clone();
            (["log_error", "log_warning", "log_info"].map(is_on), verbose)
        };
        assert_eq!(at(LevelFilter::OFF), ([false; 3], ParameterChoice::Uint32Param(0)));
        assert_eq!(at(LevelFilter::WARN), ([true, true, false], ParameterChoice::Uint32Param(0)));
        assert_eq!(at(LevelFilter::DEBUG), ([true; 3], ParameterChoice::Uint32Param(1)));
    }
}
