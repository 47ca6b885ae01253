use super::*;
use crate::settings::shipped;

const SHIPPED: &str = include_str!("../../../deploy/edge/edge.toml");

fn refused(text: &str) -> String {
    EdgeConfig::parse("edge.toml", text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(EdgeConfig::parse("edge.toml", "").unwrap(), EdgeConfig::default());
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(EdgeConfig::parse("edge.toml", SHIPPED).unwrap(), EdgeConfig::default());
}

/// Each kind of source and sink tests that its example shows every key with its default.
#[test]
fn the_shipped_examples_can_be_used_as_they_are() {
    let config = EdgeConfig::parse("edge.toml", &shipped()).unwrap();
    assert!(!config.sources.is_empty() && !config.sinks.is_empty());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(refused("thread = 2").contains("thread"));
    assert!(refused("[offload]\ndeadlin = \"1s\"").contains("deadlin"));
    let source = "[[sources]]\ntype = \"folder\"\nname = \"a\"\npath = \"b\"\n";
    assert!(refused(&format!("{source}settel = \"1s\"")).contains("settel"));
    let depth = refused(&format!("{source}bit_depth = 24"));
    assert!(depth.contains("sources[0].bit_depth") && depth.contains("8 to 16"), "{depth}");
    assert!(refused("[[sinks]]\ntype = \"mqtt\"").contains("mqtt"));
    assert!(refused("[offload]\ndeadline = 5").contains("offload.deadline"));
    assert!(refused("[recipe.labels]\n\"a/b\" = \"scrap\"").contains("recipe.labels"));
    assert!(refused("[recipe]\ncosts = { escape = 1.0 }").contains("recipe.costs"));
    assert!(refused("[offload.budget]\nper_day = -1").contains("offload.budget.per_day"));
    assert!(refused("[offload.send]\ndefault = \"pixels\"").contains("offload.send.default"));
    assert!(refused("[offload.send]\ndatatype = \"fp64\"").contains("offload.send.datatype"));
    assert!(refused("[offload.send]\nimage = \"raw\"").contains("image"));
    assert!(refused("[offload.send.modality]\nimage = \"rare\"").contains("offload.send.modality.image"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    let source =
        |more: &str| format!("[[sources]]\ntype = \"folder\"\nname = \"a\"\npath = \"in\"\n{more}\n");
    for (text, key) in [
        ("queue = 0", "`queue`"),
        ("[offload]\nmode = \"sometimes\"", "`offload.mode`"),
        ("[offload]\nmode = \"pinned\"", "`offload.pinned`"),
        ("[offload]\npinned = [\"a\"]", "`offload.pinned`"),
        ("[offload]\nrisk = 1.5", "`offload.risk`"),
        ("[offload]\nrisk = nan", "`offload.risk`"),
        ("[offload]\ndeadline = \"0s\"", "`offload.deadline`"),
        ("[offload.budget]\nper_hour = 10", "`offload.budget.per_hour`"),
        ("[offload.budget]\nper_day = 1023", "`offload.budget.per_day`"),
        ("[offload.budget]\nper_hour = 5000\nper_day = 4000", "`offload.budget.per_hour`"),
        ("[offload.send.modality]\n\"\" = \"raw\"", "`offload.send.modality`"),
        ("[offload]\ncloud = \"pool:8001\"", "`offload.cloud`"),
        ("[offload]\ncloud = \"http://pool\"", "`offload.cloud`"),
        ("[offload]\ncloud = \"http://10.0.0.5:8001\"", "`offload.cloud`"),
        ("[offload]\ncloud = [\"https://a:1\", \"https://a:1\"]", "`offload.cloud`"),
        ("[offload]\ncloud = \"http://127.0.0.1:1\"\ntransport = \"quic\"", "`offload.transport`"),
        ("[offload]\nproxy = \"proxy:3128\"", "`offload.proxy`"),
        ("[recipe.labels]\nunknown = \"reject\"", "`recipe.labels.unknown`"),
        ("[recipe]\ncosts = { escape = -1.0, false_reject = 1.0 }", "`recipe.costs.escape`"),
        ("[recipe]\nfalse_alarms = 1.0", "`recipe.false_alarms`"),
        (&*source("risk = 0.0"), "`sources[0].risk`"),
        (&*source("false_alarms = -0.1"), "`sources[0].false_alarms`"),
        (&*source("task = \"\""), "`sources[0].task`"),
        ("[spool]\nmax_bytes = 10", "`spool.max_bytes`"),
        ("[spool]\nmax_age = \"0s\"", "`spool.max_age`"),
        ("[spool]\nparallel = 0", "`spool.parallel`"),
        ("[spool]\nparallel = 5", "takes 1 to 4"),
        ("[api]\nlisten = \"0.0.0.0:8011\"", "`api.listen`"),
        ("[admin]\nlisten = \"[::]:8012\"", "`admin.listen`"),
        ("[admin]\nallowed_hosts = [\"http://x\"]", "`admin.allowed_hosts`"),
        ("[admin]\nlisten = \"127.0.0.1:8011\"", "`admin.listen`"),
        (&*source("settle = \"0s\""), "`sources[0].settle`"),
        (&*source("patterns = []"), "`sources[0].patterns`"),
        (&*source("after = \"move:in/done\""), "`sources[0].after`"),
        (&*format!("{}{}", source(""), source("")), "`sources[1].name`"),
        ("[[sinks]]\ntype = \"webhook\"\nurl = \"ftp://x\"", "`sinks[0].url`"),
        ("[[sinks]]\ntype = \"stdout\"\n[[sinks]]\ntype = \"stdout\"", "`sinks[1].type`"),
    ] {
        let message = refused(text);
        assert!(message.starts_with("edge.toml: ") && message.contains(key), "{text}: {message}");
    }
}

#[test]
fn beyond_loopback_must_be_meant() {
    let text = "[api]\nlisten = \"0.0.0.0:8011\"\nplaintext_beyond_loopback = true";
    assert!(EdgeConfig::parse("edge.toml", text).is_ok());
}

#[test]
fn a_pool_may_stand_alone_and_several_in_a_list() {
    for (text, count) in [("\"https://a:1\"", 1), ("[\"https://a:1\", \"https://b:1\"]", 2), ("[]", 0)] {
        let config = EdgeConfig::parse("edge.toml", &format!("[offload]\ncloud = {text}")).unwrap();
        assert_eq!(config.offload.cloud.len(), count);
    }
    assert!(refused("[offload]\ncloud = 5").contains("list"));
    let text = "[offload]\ncloud = \"http://10.0.0.5:8001\"\nplaintext_beyond_loopback = true";
    assert!(EdgeConfig::parse("edge.toml", text).is_ok());
}
