//! The floors of this workspace.

use super::Floors;

/// The crates, from the ground up; each depends only on crates of a line before its own, but in its tests.
pub(super) const CRATES: &[&[&str]] = &[
    &["shared/array", "shared/base"],
    &["shared/engine", "shared/rim", "shared/sample"],
    &["shared/model", "shared/transport"],
    &["shared/bundle", "shared/identity", "shared/wire"],
    &["shared/door", "shared/mixture"],
    &["shared", "shared/authoring"],
    &["cloud", "edge"],
    &["deploy/demo"],
];

/// What a crate is to be had without: neither it nor any crate of ours that it stands on depends on these.
pub(super) const KEPT_OUT: &[(&str, &[&str])] = &[
    ("shared/base", &["tokio"]),
    ("shared/engine", &["image", "tokio", "tonic"]),
    ("shared/model", &["millgate-engine", "prost", "tokio", "tonic", "tract-onnx"]),
    ("shared/bundle", &["millgate-engine", "prost", "tokio", "tonic", "tract-onnx"]),
    ("shared/mixture", &["tonic"]),
    ("shared/wire", &["millgate-engine", "tokio", "tract-onnx"]),
];

/// The rooms of each crate. `shared/array` and `shared/bundle` are one room each.
pub(super) const HOUSES: &[(&str, Floors)] = &[
    ("cloud", CLOUD),
    ("deploy/demo", DEMO),
    ("edge", EDGE),
    ("shared/authoring", AUTHORING),
    ("shared/base", BASE),
    ("shared/door", DOOR),
    ("shared/engine", ENGINE),
    ("shared/identity", IDENTITY),
    ("shared/mixture", MIXTURE),
    ("shared/model", MODEL),
    ("shared/rim", RIM),
    ("shared/sample", SAMPLE),
    ("shared/transport", TRANSPORT),
    ("shared/wire", WIRE),
];

const AUTHORING: Floors = &[
    &["data", "draft", "linear", "onnx", "progress"],
    &["features"],
    &["calibration"],
    &["certifying", "evaluation"],
    &["growing", "making"],
    &["improving"],
];

const BASE: Floors = &[
    &["bounded", "digest", "files", "memory", "panics", "tarball", "trouble"],
    &["text_file"],
    &["toml_file"],
];

const CLOUD: Floors = &[
    &["principal"],
    &["door", "failure", "guests", "identity", "readiness", "scheduling", "strikes", "trace"],
    &["access", "engines", "heavy"],
    &["holding", "serving"],
    &["config", "hosted", "oip", "worker"],
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

const DOOR: Floors = &[
    &["counts", "holder", "origin"],
    &["knocks", "places"],
    &["seats"],
    &["descriptors", "peer"],
    &["incoming", "quic"],
    &["http1"],
];

const EDGE: Floors = &[
    &["backoff", "drift", "recent"],
    &["engines", "finding", "identity", "input", "joining", "journal", "settings"],
    &["crash", "labels", "record", "uplink", "wishes"],
    &["agent", "sink", "source", "spool"],
    &["audit", "epochs", "outbox"],
    &["metrics"],
    &["admin", "api", "backlog"],
    &["config"],
    &["check", "service"],
    &["cli"],
];

const ENGINE: Floors = &[
    &["ending"],
    &["error", "graph", "port"],
    &["external", "sizes", "unfolded"],
    &["onnx", "zipmap"],
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

const MIXTURE: Floors = &[
    &["driver", "embedding"],
    &["inputs", "looks", "novelty"],
    &["runner"],
    &["local", "workers"],
    &["proof"],
];

const MODEL: Floors = &[
    &["digest", "novelty", "recipe"],
    &["manifest"],
    &["competence", "scope"],
    &["combine"],
    &["decision"],
    &["gate"],
    &["deciding"],
];

const RIM: Floors = &[&["output", "quiet", "shutdown", "telemetry"], &["metrics"]];

const SAMPLE: Floors = &[&["image", "index", "part"], &["modality"], &["sample"]];

const TRANSPORT: Floors = &[&["congestion", "tcp", "timeout"], &["quic"]];

const WIRE: Floors = &[&["code", "error", "proto"], &["codec", "decision", "tensor", "wish"], &["part"]];
