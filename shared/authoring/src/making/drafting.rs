//! A new bundle put together: its models, their golden tensors, its manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use millgate_array::Array;
use millgate_engine::Tract;
use millgate_engine::fixed::{FixedModel, FixedPort};
use millgate_mixture::inputs::GATE_INPUTS;
use millgate_model::manifest::{EMBEDDING, golden_path, model_path};
use millgate_model::recipe::Disposition;
use safetensors::tensor::{Dtype, TensorView};
use toml_edit::{Array as List, ArrayOfTables, DocumentMut, InlineTable, Item as Toml, Table, Value, value};

use super::MakeError;
use super::extracting::{IMAGE, Reader, TEMPLATE};
use super::graphs::{self, Sized};
use crate::data::Item;
use crate::draft::Draft;
use crate::onnx;

/// Names of the encoder and of the gate.
pub(super) const ENCODER: &str = "image-encoder";
pub(super) const GATE: &str = "gate";
/// The task of a bundle that is made here.
pub(super) const TASK: &str = "inspect";
/// Rows of golden tensors.
const ROWS: usize = 4;

/// What a bundle is put together of.
#[derive(Debug, Clone)]
pub(super) struct Plan<'a> {
    pub(super) product: &'a str,
    pub(super) description: String,
    /// In the order of the expert's logits.
    pub(super) labels: Vec<String>,
    pub(super) dispositions: BTreeMap<String, Disposition>,
    pub(super) encoder: Sized<'a>,
    pub(super) expert: Expert<'a>,
    pub(super) with_template: bool,
    /// Pictures that golden tensors are made of.
    pub(super) samples: Vec<&'a Item>,
}

/// The one expert of a new bundle.
#[derive(Debug, Clone)]
pub(super) struct Expert<'a> {
    pub(super) name: String,
    pub(super) file: Vec<u8>,
    pub(super) feature_dims: usize,
    /// The backbone that it looks at pictures with; `None` of a head that takes the embedding.
    pub(super) looks: Option<Sized<'a>>,
}

/// Puts a bundle together. Its expert's competence is its own confidence, and nothing of it is certified.
pub(super) fn draft(plan: &Plan<'_>) -> Result<Draft, MakeError> {
    let encoder = plan.encoder.encoder()?;
    let modalities = if plan.with_template { 2 } else { 1 };
    let gate = graphs::gate(plan.encoder.dims(), modalities);
    let manifest = manifest(plan, &encoder, &gate)?;
    let mut draft = Draft { manifest, files: BTreeMap::new() };
    golden(plan, &encoder, &gate, &mut draft)?;
    draft.insert(model_path(ENCODER), encoder);
    draft.insert(model_path(GATE), gate);
    draft.insert(model_path(&plan.expert.name), plan.expert.file.clone());
    Ok(draft)
}

fn text(text: &str) -> Toml {
    value(text)
}

fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Toml {
    value(items.into_iter().collect::<List>())
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, Toml)>) -> Table {
    let mut table = Table::new();
    for (key, item) in entries {
        table.insert(key, item);
    }
    table
}

fn tables(tables: impl IntoIterator<Item = Table>) -> Toml {
    Toml::ArrayOfTables(tables.into_iter().collect::<ArrayOfTables>())
}

fn inline<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Toml {
    let mut table = InlineTable::new();
    for (key, item) in entries {
        table.insert(key, item);
    }
    value(table)
}

fn manifest(plan: &Plan<'_>, encoder: &[u8], gate: &[u8]) -> Result<DocumentMut, MakeError> {
    let backbone = plan.encoder.backbone;
    let mut document = DocumentMut::new();
    let licence = match &*backbone.licence {
        "" => "LicenseRef-unknown",
        licence => licence,
    };
    document.insert("format", value(2));
    document.insert("name", text(plan.product));
    document.insert("version", text("1.0.0"));
    document.insert("description", text(&plan.description));
    document.insert("licence", text(licence));

    let modality = |name: &str| {
        let unit = "grey level 0-255";
        table([
            ("name", text(name)),
            ("kind", text("image")),
            ("unit", text(unit)),
            ("channels", value(backbone.channels as i64)),
        ])
    };
    let mut image = modality(IMAGE);
    if plan.with_template {
        image.insert("reference", text(TEMPLATE));
    }
    let template = plan.with_template.then(|| modality(TEMPLATE));
    document.insert("modalities", tables([image].into_iter().chain(template)));
    let task =
        [("name", text(TASK)), ("k", value(2)), ("labels", list(plan.labels.iter().map(String::as_str)))];
    document.insert("tasks", tables([table(task)]));

    let numbers = |numbers: &[f32]| -> Value {
        // The shortest decimals of an FP32 number, so that nobody reads digits that are not there.
        let decimal = |number: &f32| number.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(*number));
        match numbers {
            [one] => decimal(one).into(),
            several => several.iter().map(decimal).collect::<List>().into(),
        }
    };
    let preprocess = || inline([("mean", numbers(&backbone.mean)), ("std", numbers(&backbone.std))]);
    let shape = |sized: &Sized<'_>| list([backbone.channels, sized.size, sized.size].map(|axis| axis as i64));
    let cost = |file: &[u8], size: usize| -> Result<Toml, MakeError> {
        let macs = onnx::read(file).map(|model| onnx::macs(&model, size));
        let macs = macs.map_err(|error| MakeError::Other(error.to_string()))?;
        Ok(inline([("macs", (macs.max(1) as i64).into())]))
    };
    let entries = [
        ("name", text(ENCODER)),
        ("modality", text(IMAGE)),
        ("dims", value(plan.encoder.dims() as i64)),
        ("shape", shape(&plan.encoder)),
        ("preprocess", preprocess()),
        ("cost", cost(encoder, plan.encoder.size)?),
    ];
    document.insert("encoders", tables([table(entries)]));
    document.insert("gate", Toml::Table(table([("name", text(GATE)), ("cost", cost(gate, 1)?)])));

    let inputs: Vec<Table> = match &plan.expert.looks {
        None => vec![table([
            ("modality", text(IMAGE)),
            ("kind", text("embedding")),
            ("shape", list([plan.encoder.dims() as i64])),
        ])],
        Some(sized) => super::extracting::inputs(plan.with_template)
            .into_iter()
            .map(|name| {
                table([("modality", text(name)), ("shape", shape(sized)), ("preprocess", preprocess())])
            })
            .collect(),
    };
    let size = plan.expert.looks.as_ref().map_or(1, |sized| sized.size);
    let competence = [("bias", 0.0), ("confidence", 1.0), ("gate", 0.0)];
    let expert = [
        ("name", text(&plan.expert.name)),
        ("tier", text("edge")),
        ("tasks", list([TASK])),
        ("labels", list(plan.labels.iter().map(String::as_str))),
        ("feature_dims", value(plan.expert.feature_dims as i64)),
        ("cost", cost(&plan.expert.file, size)?),
        ("competence", inline(competence.map(|(key, number)| (key, number.into())))),
        ("inputs", tables(inputs)),
    ];
    document.insert("experts", tables([table(expert)]));

    let mut product = table([("name", text(plan.product))]);
    if !plan.dispositions.is_empty() {
        let entries = plan.dispositions.iter();
        let entries = entries.map(|(label, disposition)| (label.as_str(), disposition.as_str().into()));
        product.insert("dispositions", inline(entries));
    }
    document.insert("products", tables([product]));
    let combine = [("k_min", value(1)), ("drop_below", value(0.25)), ("sharpness", value(1.0))];
    document.insert("combine", Toml::Table(table(combine)));
    let offload = [("default_risk", value(0.02)), ("delta", value(0.05))];
    document.insert("offload", Toml::Table(table(offload)));
    let golden = [("relative_tolerance", value(1e-3)), ("absolute_tolerance", value(1e-4))];
    document.insert("golden", Toml::Table(table(golden)));
    Ok(document)
}

/// Golden tensors of every model, of the plan's samples.
fn golden(plan: &Plan<'_>, encoder: &[u8], gate: &[u8], draft: &mut Draft) -> Result<(), MakeError> {
    let backbone = plan.encoder.backbone;
    let reader = Reader::new(backbone.channels, plan.with_template)?;
    let (mut pictures, mut looked_at) = (Vec::new(), Vec::new());
    for item in plan.samples.iter().take(ROWS) {
        let sample = reader.read(item)?;
        let prepared = |name: &str, size: usize| -> Result<Array, MakeError> {
            let at = reader.modalities.find_ix(|spec| spec.name == name);
            let value = at.and_then(|at| sample.value(at));
            let value =
                value.ok_or_else(|| MakeError::Other(format!("{}: `{name}` is absent", item.name)))?;
            let prepare = reader.prepare(name, size, backbone)?;
            prepare.prepare(value).map_err(|error| MakeError::Other(error.to_string()))
        };
        pictures.push(vec![prepared(IMAGE, plan.encoder.size)?]);
        if let Some(sized) = &plan.expert.looks {
            let inputs = super::extracting::inputs(plan.with_template);
            looked_at
                .push(inputs.iter().map(|name| prepared(name, sized.size)).collect::<Result<Vec<_>, _>>()?);
        }
    }
    let (file, outputs) = golden_of(encoder, &[IMAGE], &pictures)?;
    draft.insert(golden_path(ENCODER), file);
    let array = |shape: Vec<usize>, values: Vec<f32>| {
        Array::new(shape, values.into()).map_err(|error| MakeError::Other(error.to_string()))
    };
    let embeddings: Vec<Vec<f32>> =
        outputs.iter().map(|row| row[0].as_fp32().map(<[f32]>::to_vec).unwrap_or_default()).collect();
    let dims = plan.encoder.dims();
    let modalities = reader.modalities.len();
    let gated = embeddings.iter().map(|embedding| {
        Ok(vec![
            array(vec![1, 1, dims], embedding.clone())?,
            array(vec![1, modalities], vec![1.0; modalities])?,
        ])
    });
    let gated = gated.collect::<Result<Vec<_>, MakeError>>()?;
    draft.insert(golden_path(GATE), golden_of(gate, &GATE_INPUTS, &gated)?.0);
    let of_expert = match plan.expert.looks {
        Some(_) => golden_of(&plan.expert.file, &super::extracting::inputs(plan.with_template), &looked_at)?,
        None => {
            let rows = embeddings.iter().map(|embedding| Ok(vec![array(vec![1, dims], embedding.clone())?]));
            golden_of(&plan.expert.file, &[EMBEDDING], &rows.collect::<Result<Vec<_>, MakeError>>()?)?
        }
    };
    draft.insert(golden_path(&plan.expert.name), of_expert.0);
    Ok(())
}

/// A model's golden file for these rows of inputs, and what it made of each row.
fn golden_of(
    file: &[u8],
    names: &[&str],
    rows: &[Vec<Array>],
) -> Result<(Vec<u8>, Vec<Vec<Array>>), MakeError> {
    let refuse = |error: &dyn std::fmt::Display| MakeError::Other(error.to_string());
    let first = rows.first().map_or(&[][..], |row| &row[..]);
    let ports = names.iter().zip(first);
    let ports =
        ports.map(|(name, array)| FixedPort { name: (*name).to_owned(), shape: array.shape().to_vec() });
    let model = FixedModel::load(&Tract, file, &ports.collect::<Vec<_>>()).map_err(|error| refuse(&error))?;
    let model = Arc::new(model);
    let mut session = model.session().map_err(|error| refuse(&error))?;
    let outputs = rows.iter().map(|row| session.run(row.clone()).map_err(|error| refuse(&error)));
    let outputs = outputs.collect::<Result<Vec<Vec<Array>>, MakeError>>()?;
    let mut tensors = BTreeMap::new();
    let inputs = names.iter().enumerate().map(|(at, name)| (format!("in.{name}"), at, rows));
    let named = model.outputs().iter().enumerate();
    let named = named.map(|(at, port)| (format!("out.{}", port.name), at, &outputs[..]));
    for (name, at, rows) in inputs.chain(named) {
        let of_port: Vec<&Array> = rows.iter().map(|row| &row[at]).collect();
        let joined = Array::join(&of_port).map_err(|error| refuse(&error))?;
        tensors.insert(name, (joined.shape().to_vec(), joined.values().to_raw()));
    }
    let views = tensors.iter().map(|(name, (shape, raw))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), raw).map_err(|error| refuse(&error))?;
        Ok((name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, MakeError>>()?;
    Ok((safetensors::serialize(views, None).map_err(|error| refuse(&error))?, outputs))
}
