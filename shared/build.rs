//! Compiles the protobuf files without protoc, and keeps their descriptors for gRPC reflection. Notes the day of the
//! build: no clock of a device can be right that is behind it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

const ROOT: &str = "../proto";
const FILES: [&str; 7] = [
    "inference/inference_service.proto",
    "inference/model_config.proto",
    "millgate/v1/sample.proto",
    "millgate/v1/decision.proto",
    "millgate/v1/inference_service.proto",
    "millgate/v1/expert_service.proto",
    "millgate/v1/enrollment_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={}", Path::new(ROOT).join(file).display());
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=MILLGATE_BUILT={}", built()?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, [ROOT])?;
    std::fs::write(out.join("millgate.bin"), descriptors.encode_to_vec())?;
    let build = tonic_prost_build::configure().bytes(".").codec_path("crate::wire::codec::BoundedCodec");
    build.compile_fds(descriptors)?;
    Ok(())
}

/// Seconds since 1970: of the source where a reproducible build names it, else now.
fn built() -> Result<u64, Box<dyn std::error::Error>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => Ok(seconds.parse()?),
        Err(_) => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs()),
    }
}
