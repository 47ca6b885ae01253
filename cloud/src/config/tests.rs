use super::*;

const SAMPLE: &str = include_str!("../../../deploy/cloud/cloud.toml");

fn parse(text: &str) -> Result<CloudConfig, TomlError> {
    toml_file::parse("cloud.toml", text)
}

#[test]
fn the_sample_file_states_the_defaults() {
    assert_eq!(parse(SAMPLE).unwrap(), CloudConfig::default());
    CloudConfig::default().check().unwrap();
}

#[test]
fn the_sample_file_names_every_key() {
    let config = format!("{:?}", CloudConfig::default());
    let keys = [
        "bundle",
        "model_repository",
        "node",
        "grpc",
        "http",
        "metrics",
        "plaintext_beyond_loopback",
        "threads",
        "queue",
        "max_connections",
    ]
    .into_iter()
    .chain(["max_streams", "max_in_flight_per_stream", "default_deadline_ms", "drain_grace_ms"])
    .chain(["triton_metrics", "bytes", "sample_ratio", "default", "execution_providers"])
    .chain([
        "state_dir",
        "previous_bundle_idle_ms",
        "client_ca",
        "names",
        "certificate_days",
        "renewal_grace_days",
        "loopback",
        "enabled",
    ])
    .chain(["allowed_hosts", "clones", "calls_per_caller", "stall_patience_ms"])
    .chain(["memory_mib", "load_limit_ms", "longest_run_ms"]);
    // `bundle` stands in the cache's table too, `memory_mib` in those of what callers and of what guests may hold.
    let mut count = 2;
    for key in keys {
        assert!(config.contains(&format!("{key}: ")), "{key}");
        assert!(SAMPLE.contains(&format!("\n{key} = ")), "{key}");
        count += 1;
    }
    // Keys that are absent by default are shown, commented out.
    for key in ["endpoint", "service_name", "enabled", "certificate", "key"] {
        assert!(
            config.contains(&format!("{key}: None")) && SAMPLE.contains(&format!("\n# {key} = ")),
            "{key}"
        );
    }
    assert_eq!(SAMPLE.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(), count);
}

#[test]
fn a_mistake_is_named_with_file_line_and_key() {
    let message = parse("node = \"a\"\nqeue = 3\n").unwrap_err().to_string();
    assert!(message.starts_with("cloud.toml") && message.contains("qeue"), "{message}");
    let message = parse("grpc = \"localhost\"\n").unwrap_err().to_string();
    assert!(message.starts_with("cloud.toml:1: `grpc`"), "{message}");
}

#[test]
fn beyond_loopback_there_is_tls_and_plain_text_must_be_asked_for() {
    let open = CloudConfig { grpc: "0.0.0.0:8001".parse().unwrap(), ..CloudConfig::default() };
    open.check().unwrap();
    assert!(open.has_tls(open.grpc) && !open.has_tls(open.http));
    let off = TlsConfig { enabled: Some(false), ..TlsConfig::default() };
    let message = CloudConfig { tls: off, ..open.clone() }.check().unwrap_err().to_string();
    assert!(message.contains("`grpc`") && message.contains("plaintext_beyond_loopback = true"), "{message}");
    let plain = CloudConfig { plaintext_beyond_loopback: true, ..open.clone() };
    plain.check().unwrap();
    assert!(!plain.has_tls(plain.grpc));
    let on = TlsConfig { enabled: Some(true), ..TlsConfig::default() };
    let on = CloudConfig { tls: on, ..plain };
    assert!(on.has_tls(on.grpc) && on.has_tls(on.http));
    let metrics = CloudConfig { metrics: "0.0.0.0:8002".parse().unwrap(), ..open };
    let message = metrics.check().unwrap_err().to_string();
    assert!(message.contains("`metrics`") && message.contains("no TLS"), "{message}");
}

#[test]
fn what_makes_no_sense_of_identity_is_refused_with_its_key() {
    for (text, key) in [
        ("[tls]\ncertificate = \"a.pem\"", "`tls.key`"),
        ("[tls]\nkey = \"a.key\"", "`tls.certificate`"),
        ("[tls]\nnames = [\"a b\"]", "`tls.names`"),
        ("[devices]\ncertificate_days = 0", "`devices.certificate_days`"),
        ("[[tenants]]\nname = \"a/b\"", "`tenants.name`"),
        ("[[tenants]]\nname = \"a\"\n[[tenants]]\nname = \"a\"", "`tenants.name`"),
        ("[[tenants]]\nname = \"a\"\n[[tenants.devices]]\nname = \"\"", "`tenants.devices.name`"),
        ("state_dir = \"\"", "`state_dir`"),
        ("allowed_hosts = [\"http://x\"]", "`allowed_hosts`"),
    ] {
        let message = parse(text).unwrap().check().unwrap_err().to_string();
        assert!(message.contains(key), "{text}: {message}");
    }
    assert!(parse("[access]\nloopback = \"none\"").unwrap_err().to_string().contains("access.loopback"));
}

fn traced(traces: TracesConfig) -> CloudConfig {
    CloudConfig { traces, ..CloudConfig::default() }
}

#[test]
fn empty_bounds_and_odd_names_are_refused() {
    for (config, key) in [
        (CloudConfig { queue: 0, ..CloudConfig::default() }, "`queue`"),
        (CloudConfig { max_in_flight_per_stream: 0, ..CloudConfig::default() }, "`max_in_flight_per_stream`"),
        (traced(TracesConfig { sample_ratio: 1.1, ..TracesConfig::default() }), "`traces.sample_ratio`"),
        (traced(TracesConfig { sample_ratio: f64::NAN, ..TracesConfig::default() }), "`traces.sample_ratio`"),
        (
            traced(TracesConfig { service_name: Some(String::new()), ..TracesConfig::default() }),
            "`traces.service_name`",
        ),
        (CloudConfig { node: "a b".to_owned(), ..CloudConfig::default() }, "`node`"),
        (CloudConfig { node: String::new(), ..CloudConfig::default() }, "`node`"),
    ] {
        assert!(config.check().unwrap_err().to_string().contains(key), "{key}");
    }
}
