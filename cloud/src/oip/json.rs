//! The protocol's messages as Triton writes them in JSON: every field under its own name, enumerations by name,
//! numbers as numbers.

use std::sync::LazyLock;

use millgate_shared::proto::FILE_DESCRIPTOR_SET;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage, Value as Field};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// `name` is the message's in the package `inference`.
pub(crate) fn of(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let unknown = || Failure::Model(format!("the message {name} is not known"));
    let kind = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&format!("inference.{name}")));
    let mut dynamic = DynamicMessage::new(kind.ok_or_else(unknown)?);
    dynamic.transcode_from(message).map_err(|error| Failure::Model(error.to_string()))?;
    Ok(object(&dynamic))
}

/// A message within, and the choice of a oneof, only where they are set.
fn object(message: &DynamicMessage) -> Value {
    let kind = message.descriptor();
    let fields = kind.fields().filter(|field| {
        let always = !field.supports_presence();
        always || message.has_field(field)
    });
    let members = fields.map(|field| {
        let value = message.get_field(&field);
        (field.name().to_owned(), value_of(&field.kind(), &value))
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn value_of(kind: &Kind, value: &Field) -> Value {
    match value {
        Field::Bool(value) => json!(value),
        Field::I32(value) => json!(value),
        Field::I64(value) => json!(value),
        Field::U32(value) => json!(value),
        Field::U64(value) => json!(value),
        Field::F32(value) => json!(value),
        Field::F64(value) => json!(value),
        Field::String(value) => json!(value),
        Field::Bytes(value) => json!(String::from_utf8_lossy(value)),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(kind) => {
                kind.get_value(*number).map_or_else(|| json!(number), |value| json!(value.name()))
            }
            _ => json!(number),
        },
        Field::Message(message) => object(message),
        Field::List(values) => values.iter().map(|value| value_of(kind, value)).collect(),
        Field::Map(entries) => {
            let kind = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let members = entries.iter().map(|(key, value)| (key_of(key), value_of(&kind, value)));
            Value::Object(members.collect())
        }
    }
}

fn key_of(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use millgate_shared::proto::inference as proto;

    use super::*;

    #[test]
    fn a_configuration_reads_as_triton_writes_it() {
        let input = proto::ModelInput {
            name: "x".to_owned(),
            data_type: 11,
            dims: vec![-1, 3],
            ..Default::default()
        };
        let mut config = proto::ModelConfig { max_batch_size: 8, input: vec![input], ..Default::default() };
        let parameter = proto::ModelParameter { string_value: "v".to_owned() };
        config.parameters.insert("k".to_owned(), parameter);
        let json = of("ModelConfig", &config).unwrap();
        assert_eq!(json["max_batch_size"], 8);
        assert_eq!(json["input"][0]["data_type"], "TYPE_FP32");
        assert_eq!(json["input"][0]["dims"], json!([-1, 3]));
        assert_eq!(json["parameters"]["k"]["string_value"], "v");
        assert_eq!((&json["platform"], json.get("dynamic_batching")), (&json!(""), None));
    }
}
