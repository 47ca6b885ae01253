//! Generated protobuf bindings. Only this crate and the gRPC services and clients at the rim name these types.

pub use generated::{inference, v1};

#[allow(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::all,
    clippy::use_self,
    unused_qualifications,
    unreachable_pub,
    missing_debug_implementations,
    elided_lifetimes_in_paths,
    reason = "generated code"
)]
mod generated {
    pub mod v1 {
        tonic::include_proto!("millgate.v1");
    }

    /// The Open Inference Protocol, version 2.
    pub mod inference {
        tonic::include_proto!("inference");
    }
}

/// Encoded `FileDescriptorSet` of both packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("millgate");

/// Largest gRPC message either side sends or accepts, in bytes. tonic's own default is 4 MiB, which a 640x640 FP32
/// colour tensor exceeds.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
