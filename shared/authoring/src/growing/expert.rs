//! An ONNX file that is to be an expert: what it takes and gives, held against a bundle's modalities.

use millgate_base::digest::sha256_hex;
use millgate_engine::fixed::{FixedModel, FixedPort};
use millgate_engine::{Axis, OnnxFile, Tract};
use millgate_model::manifest::{EMBEDDING, InputKind, Manifest};
use toml_edit::{Array, ArrayOfTables, InlineTable, Table, Value, value};

use super::GrowError;
use crate::draft::{Draft, DraftError, lines};
use crate::onnx;

/// One input of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    pub(super) name: String,
    modality: String,
    kind: InputKind,
    /// Without the batch axis.
    pub(super) shape: Vec<usize>,
}

/// An expert's file, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Understood {
    pub(super) inputs: Vec<Input>,
    feature_dims: usize,
    macs: u64,
    /// How pictures are normalised, as the file says it: keys of `preprocess`.
    preprocess: Vec<(String, f64)>,
}

impl Understood {
    pub(super) fn ports(&self) -> Vec<FixedPort> {
        let port = |input: &Input| FixedPort {
            name: input.name.clone(),
            shape: [1].into_iter().chain(input.shape.iter().copied()).collect(),
        };
        self.inputs.iter().map(port).collect()
    }
}

/// Reads and checks an expert's file: its inputs are modalities of the bundle or their embeddings, its outputs `logits` with a
/// number for each label and `feat`.
pub(super) fn understand(
    file: &str,
    model: &[u8],
    labels: usize,
    manifest: &Manifest,
) -> Result<Understood, GrowError> {
    let refuse = |message: String| GrowError::Model { file: file.to_owned(), message };
    let proto = onnx::read(model).map_err(|error| refuse(error.to_string()))?;
    let opened = OnnxFile::read(bytes::Bytes::copy_from_slice(model), None);
    let opened = opened.map_err(|error| refuse(error.to_string()))?;
    let mut inputs = Vec::new();
    for port in &opened.signature.inputs {
        let (modality, kind) = input_of(&port.name, manifest).ok_or_else(|| {
            let mut known: Vec<String> = manifest.modalities.iter().map(|spec| spec.name.clone()).collect();
            known.extend(manifest.encoders.iter().map(|encoder| manifest.embedding_name(&encoder.modality)));
            refuse(format!(
                "input `{}` is nothing that this bundle has: it has {}; name the inputs so when you export the model",
                port.name,
                known.join(", ")
            ))
        })?;
        let axes = port.shape.as_deref().unwrap_or_default();
        let fixed = |axis: &Axis| match axis {
            Axis::Fixed(length) => Some(*length),
            Axis::Named(_) | Axis::Any => None,
        };
        let shape: Option<Vec<usize>> = axes.iter().skip(1).map(fixed).collect();
        let Some(shape) = shape.filter(|shape| !shape.is_empty()) else {
            let message = format!(
                "input `{}` has axes of no fixed length (beside the first): export it for one size",
                port.name
            );
            return Err(refuse(message));
        };
        inputs.push(Input { name: port.name.clone(), modality, kind, shape });
    }
    let understood = Understood {
        inputs,
        feature_dims: 0,
        macs: onnx::macs(&proto, 64).max(1),
        preprocess: preprocess(&proto),
    };
    let loaded =
        FixedModel::load(&Tract, model, &understood.ports()).map_err(|error| refuse(error.to_string()))?;
    let shape_of = |name: &str| loaded.output_index(name).map(|at| loaded.outputs()[at].shape.clone());
    match shape_of("logits").as_deref() {
        Some([1, count]) if *count == labels => {}
        Some(shape) => {
            let message = format!(
                "output `logits` is {shape:?}, and {labels} labels were given: it must be [N,{labels}]"
            );
            return Err(refuse(message));
        }
        None => return Err(refuse("has no output `logits`".to_owned())),
    }
    let Some([1, feature_dims]) =
        shape_of("feat").as_deref().map(|shape| <[usize; 2]>::try_from(shape).unwrap_or_default())
    else {
        return Err(refuse(
            "has no output `feat` of shape [N,features]: export the features before the head too".to_owned(),
        ));
    };
    Ok(Understood { feature_dims, ..understood })
}

/// The modality that an input is of.
fn input_of(name: &str, manifest: &Manifest) -> Option<(String, InputKind)> {
    let is_embedding = name == EMBEDDING || name.starts_with("embedding.");
    if is_embedding {
        let encoder =
            manifest.encoders.iter().find(|encoder| manifest.embedding_name(&encoder.modality) == name)?;
        return Some((encoder.modality.clone(), InputKind::Embedding));
    }
    manifest.modality_index(name)?;
    Some((name.to_owned(), InputKind::Value))
}

/// `mean` and `std` of the file's metadata, if they are numbers.
fn preprocess(proto: &millgate_engine::pb::ModelProto) -> Vec<(String, f64)> {
    let of = |key: &str| {
        let entry = proto.metadata_props.iter().find(|entry| entry.key == key)?;
        Some((key.to_owned(), entry.value.trim().parse().ok()?))
    };
    ["mean", "std"].into_iter().filter_map(of).collect()
}

/// What an expert's table in the manifest says.
pub(super) struct Described<'a> {
    pub(super) name: &'a str,
    pub(super) tier: &'a str,
    pub(super) task: &'a str,
    pub(super) labels: &'a [String],
}

/// Puts the expert's table behind those of the others. How a picture is normalised is what the file says of it, or else as
/// the first expert takes it that takes the same modality; gives a remark on what was assumed.
pub(super) fn describe(
    draft: &mut Draft,
    manifest: &Manifest,
    described: &Described<'_>,
    understood: &Understood,
) -> Result<Option<String>, DraftError> {
    let mut remark = None;
    let mut inputs = ArrayOfTables::new();
    for input in &understood.inputs {
        let mut table = Table::new();
        table.insert("modality", value(input.modality.as_str()));
        if input.kind == InputKind::Embedding {
            table.insert("kind", value(input.kind.as_str()));
        }
        table.insert("shape", value(input.shape.iter().map(|axis| *axis as i64).collect::<Array>()));
        if input.kind == InputKind::Value {
            let keys = if understood.preprocess.is_empty() {
                let (keys, whose) = as_others(manifest, &input.modality);
                remark = Some(format!(
                    "`{}` is prepared as for {whose}: the model says nothing of `mean` and `std`",
                    input.modality
                ));
                keys
            } else {
                let mut keys = InlineTable::new();
                for (key, number) in &understood.preprocess {
                    keys.insert(key, Value::from(*number));
                }
                keys
            };
            if !keys.is_empty() {
                table.insert("preprocess", value(keys));
            }
        }
        inputs.push(table);
    }
    let mut table = Table::new();
    table.insert("name", value(described.name));
    table.insert("tier", value(described.tier));
    table.insert("tasks", value(Array::from_iter([described.task])));
    table.insert("labels", value(lines(described.labels)));
    table.insert("feature_dims", value(understood.feature_dims as i64));
    table.insert("price", value(0.0));
    let mut cost = InlineTable::new();
    cost.insert("macs", Value::from(i64::try_from(understood.macs).unwrap_or(i64::MAX)));
    table.insert("cost", value(cost));
    let mut competence = InlineTable::new();
    for (key, number) in [("bias", 0.0), ("confidence", 1.0), ("gate", 1.0)] {
        competence.insert(key, Value::from(number));
    }
    table.insert("competence", value(competence));
    table.insert("inputs", toml_edit::Item::ArrayOfTables(inputs));
    draft.tables("experts")?.push(table);
    Ok(remark)
}

/// The keys by which another expert, or the encoder, prepares a modality, and whose they are.
fn as_others(manifest: &Manifest, modality: &str) -> (InlineTable, String) {
    let of_experts = manifest.experts.iter().find_map(|expert| {
        let mut inputs = expert.inputs.iter();
        let input = inputs.find(|input| input.modality == modality && input.kind == InputKind::Value)?;
        Some((&input.preprocess, expert.name.clone()))
    });
    let of_encoder = || {
        let encoder = manifest.encoders.iter().find(|encoder| encoder.modality == modality)?;
        Some((&encoder.preprocess, encoder.name.clone()))
    };
    let Some((keys, whose)) = of_experts.or_else(of_encoder) else {
        return (InlineTable::new(), "nobody".to_owned());
    };
    let mut table = InlineTable::new();
    for (key, value) in keys {
        if let Ok(value) = value.to_string().parse::<Value>() {
            table.insert(key, value);
        }
    }
    (table, format!("`{whose}`"))
}

/// A name for an expert that was given none: the product's, with part of the file's digest.
pub(super) fn name_of(product: &str, model: &[u8]) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let product: String = product.chars().map(plain).take(48).collect();
    format!("{product}-{}", &sha256_hex(model)[..6])
}
