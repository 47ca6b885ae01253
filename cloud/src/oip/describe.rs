//! What clients are told of a model: metadata, configuration, statistics.

use std::sync::Arc;

use millgate_shared::array::Datatype;
use millgate_shared::engine::Port;
use millgate_shared::proto::inference::model_config::SchedulingChoice;
use millgate_shared::proto::inference::{self as proto, DataType};

use crate::failure::without_places;
use crate::serving::run::Deployed;
use crate::serving::served::Served;
use crate::serving::statistics::Total;

/// Triton's name for what runs ONNX files; clients look for it.
const PLATFORM: &str = "onnxruntime_onnx";
const BACKEND: &str = "onnxruntime";
/// Triton's name for the platform of models made of others.
const ENSEMBLE: &str = "ensemble";

fn platform(served: &Served) -> &'static str {
    if served.is_composite { ENSEMBLE } else { PLATFORM }
}

/// `versions`: all of the model that are ready.
pub(crate) fn metadata(served: &Served, versions: &[Arc<Deployed>]) -> proto::ModelMetadataResponse {
    let tensor = |port: &Port| proto::model_metadata_response::TensorMetadata {
        name: port.name.clone(),
        datatype: port.datatype.name().to_owned(),
        shape: port.wire_shape(),
    };
    proto::ModelMetadataResponse {
        name: served.name.clone(),
        versions: versions.iter().map(|version| version.version.to_string()).collect(),
        platform: platform(served).to_owned(),
        inputs: served.signature().inputs.iter().map(tensor).collect(),
        outputs: served.signature().outputs.iter().map(tensor).collect(),
    }
}

/// The model's own configuration, completed from its file as Triton does: where it does not say, a model whose rows are
/// independent takes batches, and its dims are those of a row. What the file says of itself stands among the parameters.
pub(crate) fn config(served: &Served) -> proto::ModelConfig {
    let mut config = served.traits.config.clone();
    config.name.clone_from(&served.name);
    platform(served).clone_into(&mut config.platform);
    if !served.is_composite {
        BACKEND.clone_into(&mut config.backend);
    }
    if config.version_policy.is_none() {
        let latest = proto::model_version_policy::Latest { num_versions: 1 };
        let choice = Some(proto::model_version_policy::PolicyChoice::Latest(latest));
        config.version_policy = Some(proto::ModelVersionPolicy { policy_choice: choice });
    }
    if config.max_batch_size == 0 {
        config.max_batch_size = served.most_rows().try_into().unwrap_or(i32::MAX);
    }
    if config.scheduling_choice.is_none() && served.rows_are_independent && !served.is_composite {
        config.scheduling_choice =
            Some(SchedulingChoice::DynamicBatching(proto::ModelDynamicBatching::default()));
    }
    let skipped = usize::from(config.max_batch_size > 0);
    let dims = |port: &Port| port.wire_shape().get(skipped..).unwrap_or(&[]).to_vec();
    if config.input.is_empty() {
        let input = |port: &Port| proto::ModelInput {
            name: port.name.clone(),
            data_type: data_type(port.datatype).into(),
            dims: dims(port),
            // Of a sample's modalities any may be absent.
            optional: served.is_composite,
            ..proto::ModelInput::default()
        };
        config.input = served.signature().inputs.iter().map(input).collect();
    }
    if config.output.is_empty() {
        let output = |port: &Port| proto::ModelOutput {
            name: port.name.clone(),
            data_type: data_type(port.datatype).into(),
            dims: dims(port),
            ..proto::ModelOutput::default()
        };
        config.output = served.signature().outputs.iter().map(output).collect();
    }
    if config.default_model_filename.is_empty() {
        "model.onnx".clone_into(&mut config.default_model_filename);
    }
    let signature = served.signature();
    let own = signature.properties.iter().map(|(name, value)| (format!("onnx.{name}"), value.clone()));
    let ours = [
        ("engine_reason", without_places(&served.choice.why)),
        ("batch_knee", served.knee.to_string()),
        ("rows_are_independent", served.rows_are_independent.to_string()),
        ("unproven", served.unproven.clone().unwrap_or_default()),
        ("left_out_outputs", signature.left_out.join(" ")),
        ("onnx.producer", signature.producer.clone()),
        ("onnx.description", signature.description.clone()),
    ];
    let ours = ours.into_iter().filter(|(_, value)| !value.is_empty());
    for (name, string_value) in own.chain(ours.map(|(name, value)| (name.to_owned(), value))) {
        config.parameters.entry(name).or_insert(proto::ModelParameter { string_value });
    }
    // A configuration may ask for one; this is what it got.
    let string_value = served.choice.name();
    config.parameters.insert("engine".to_owned(), proto::ModelParameter { string_value });
    config
}

pub(crate) fn statistics(served: &Served) -> proto::ModelStatistics {
    let counts = served.statistics.read();
    let duration = |total: Total| {
        Some(proto::StatisticDuration { count: total.count, ns: total.time.as_nanos() as u64 })
    };
    let batch = |(rows, total): (&usize, &Total)| proto::InferBatchStatistics {
        batch_size: *rows as u64,
        compute_infer: duration(*total),
        ..proto::InferBatchStatistics::default()
    };
    proto::ModelStatistics {
        name: served.name.clone(),
        version: served.version.to_string(),
        last_inference: counts.last,
        inference_count: counts.rows,
        execution_count: counts.batches,
        inference_stats: Some(proto::InferStatistics {
            success: duration(counts.success),
            fail: duration(counts.fail),
            queue: duration(counts.queue),
            compute_input: duration(counts.join),
            compute_infer: duration(counts.compute),
            compute_output: duration(counts.split),
            cache_hit: duration(counts.cache_hit),
            cache_miss: duration(counts.cache_miss),
        }),
        batch_stats: counts.by_batch.iter().map(batch).collect(),
        ..proto::ModelStatistics::default()
    }
}

pub(crate) fn data_type(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    }
}
