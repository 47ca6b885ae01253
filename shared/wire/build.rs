//! Compiles the protobuf files without protoc, and keeps their descriptors for gRPC reflection.

use std::path::{Path, PathBuf};

use prost::Message;

const ROOT: &str = "../../proto";
const FILES: [&str; 8] = [
    "inference/inference_service.proto",
    "inference/model_config.proto",
    "millgate/v1/sample.proto",
    "millgate/v1/decision.proto",
    "millgate/v1/inference_service.proto",
    "millgate/v1/expert_service.proto",
    "millgate/v1/enrollment_service.proto",
    "millgate/v1/label_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={}", Path::new(ROOT).join(file).display());
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, [ROOT])?;
    std::fs::write(out.join("millgate.bin"), descriptors.encode_to_vec())?;
    let build = tonic_prost_build::configure().bytes(".").codec_path("crate::codec::BoundedCodec");
    build.compile_fds(descriptors)?;
    Ok(())
}
