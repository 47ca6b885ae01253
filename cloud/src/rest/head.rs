//! The JSON part of a request, as it stands there.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::data::Data;
use crate::failure::Failure;
use crate::serving::request::Parameter;

/// An inference request. What is not known is ignored, as Triton does.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Setting>,
    pub(super) inputs: Vec<Input>,
    #[serde(default)]
    pub(super) outputs: Vec<Output>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<i64>,
    pub(super) datatype: String,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Setting>,
    #[serde(default)]
    pub(super) data: Option<Data>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Output {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Setting>,
}

/// A parameter's value.
#[derive(Debug)]
pub(super) struct Setting(pub(super) Parameter);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Parameter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a number or a string")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Parameter, E> {
                Ok(Parameter::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Parameter, E> {
                Ok(Parameter::Int64(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Parameter, E> {
                Ok(i64::try_from(value).map_or(Parameter::Uint64(value), Parameter::Int64))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Parameter, E> {
                Ok(Parameter::Double(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Parameter, E> {
                Ok(Parameter::String(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Any).map(Self)
    }
}

/// What some clients on Windows put before text; JSON's readers may pass it over.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An error names the field and the place.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if let Ok(parsed) = serde_json::from_slice(text) {
        return Ok(parsed);
    }
    // Knowing the way to each field costs time, so that it is only asked for when something is wrong.
    let mut json = serde_json::Deserializer::from_slice(text);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(parsed) => {
            return json.end().map(|()| parsed).map_err(|error| Failure::field("body", error.to_string()));
        }
        Err(error) => error,
    };
    let field = match error.path().to_string() {
        path if path == "." => "body".to_owned(),
        path => path,
    };
    Err(Failure::field(field, error.into_inner().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{} x", "body"),
            ("{\"id\": 7, \"inputs\": []}", "id"),
            ("{\"inputs\": 7}", "inputs"),
            (
                "{\"inputs\": [{\"name\": \"x\", \"shape\": [1.5], \"datatype\": \"FP32\"}]}",
                "inputs[0].shape[0]",
            ),
            ("{\"inputs\": [], \"parameters\": {\"p\": []}}", "parameters.p"),
            ("{\"inputs\": [], \"outputs\": [{}]}", "outputs[0]"),
            (
                "{\"inputs\": [{\"name\": \"x\", \"shape\": [1], \"datatype\": \"FP32\", \"data\": 1}]}",
                "inputs[0].data",
            ),
        ] {
            let Err(Failure::Field(error)) = parse::<Head>(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(error.field, field, "{text}: {error}");
        }
        assert!(parse::<Head>(b"\xef\xbb\xbf{\"inputs\": []}").is_ok());
        assert!(parse::<Head>(b"{\"id\": null, \"inputs\": [], \"unknown\": {}} \n").unwrap().id.is_none());
        let deep = format!("{{\"inputs\": [], \"x\": {}", "[".repeat(1 << 20));
        assert!(parse::<Head>(deep.as_bytes()).is_err());
    }
}
