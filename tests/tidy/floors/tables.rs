//! The floors of this workspace.

use super::Floors;

/// The crates, from the ground up; each depends only on crates of a line before its own, but in its tests.
pub(super) const CRATES: &[&[&str]] = &[
    &["shared/array", "shared/rim"],
    &["shared/engine", "shared/sample", "shared/transport"],
    &["shared/identity", "shared/model"],
    &["shared/mixture", "shared/wire"],
    &["shared"],
    &["cloud", "edge"],
    &["deploy/demo"],
];

/// What a crate must be free of, however far down it comes from: none of the crates it stands on has it either.
pub(super) const KEPT_OUT: &[(&str, &[&str])] = &[
    ("shared/array", &["image", "tokio", "tonic", "tract-onnx"]),
    ("shared/sample", &["tokio", "tonic", "tract-onnx"]),
    ("shared/model", &["image", "millgate-engine", "tokio", "tonic", "tract-onnx"]),
    ("shared/mixture", &["tonic", "tract-onnx"]),
    ("shared/wire", &["tokio", "tract-onnx"]),
];

/// The rooms of each crate.
pub(super) const HOUSES: &[(&str, Floors)] = &[
    ("cloud", CLOUD),
    ("deploy/demo", DEMO),
    ("edge", EDGE),
    ("shared/engine", ENGINE),
    ("shared/identity", IDENTITY),
    ("shared/mixture", MIXTURE),
    ("shared/model", MODEL),
    ("shared/rim", RIM),
    ("shared/sample", SAMPLE),
    ("shared/transport", TRANSPORT),
    ("shared/wire", WIRE),
];

const CLOUD: Floors = &[
    &["door", "failure", "identity", "readiness", "scheduling", "trace"],
    &["access", "engines", "heavy"],
    &["serving"],
    &["config", "hosted", "oip"],
    &["mixture", "repository"],
    &["pool"],
    &["metrics", "switching"],
    &["admin", "api"],
    &["rest"],
    &["fuzzing", "server"],
    &["command"],
];

const DEMO: Floors = &[
    &["link", "poison", "samples"],
    &["stage"],
    &["reference"],
    &["replay"],
    &["tally"],
    &["report"],
    &["progress", "screen"],
];

const EDGE: Floors = &[
    &["backoff"],
    &["finding", "identity", "input", "joining", "journal", "settings"],
    &["crash", "record", "uplink"],
    &["agent", "sink", "source", "spool"],
    &["epochs", "outbox"],
    &["metrics"],
    &["admin", "api", "backlog"],
    &["config"],
    &["check", "service"],
    &["cli"],
];

const ENGINE: Floors = &[
    &["error", "graph", "port"],
    &["external", "onnx", "zipmap"],
    &["signature"],
    &["running"],
    &["fixed", "tract"],
];

const IDENTITY: Floors = &[
    &["clock", "name", "pem", "provider"],
    &["certificate"],
    &["held", "roots", "secret"],
    &["tls"],
    &["dial"],
];

const MIXTURE: Floors = &[&["embedding"], &["inputs"], &["runner"], &["local", "workers"], &["proof"]];

const MODEL: Floors = &[&["bundle"], &["competence"], &["combine"], &["decision"], &["gate"], &["deciding"]];

const RIM: Floors = &[
    &["digest", "files", "memory", "output", "panics", "shutdown", "text_file"],
    &["telemetry", "toml_file"],
    &["metrics"],
];

const SAMPLE: Floors = &[&["image", "index", "part"], &["modality"], &["sample"]];

const TRANSPORT: Floors = &[&["congestion", "tcp", "timeout"], &["quic"]];

const WIRE: Floors = &[&["code", "error", "proto"], &["codec", "decision", "tensor"], &["part"]];
