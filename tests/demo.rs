//! The demo, as the README shows it, without a terminal.

use system_tests::run;

#[test]
fn it_decides_everything_through_an_outage_and_says_so() {
    let ran = run("millgate-demo", &["--output", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    let number = |path: &str| {
        last.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("{path}: {last}"))
    };
    assert!(number("/samples") >= 200.0);
    assert_eq!(number("/decided"), number("/samples"));
    assert_eq!(number("/lost"), 0.0);
    for who in ["edge_only", "mixture", "cloud_only"] {
        assert!((0.5..=1.0).contains(&number(&format!("/accuracy/{who}"))), "{who}: {last}");
    }
    let share = number("/cloud_share");
    assert!(share > 0.0 && share < 1.0, "{share}");
    assert!(number("/uplink_bytes") > 0.0);
    assert!(number("/uplink_bytes") < number("/uplink_bytes_all_cloud"));
    assert!(number("/p50_ms") <= number("/p99_ms"));
    assert!(number("/outage/decided") > 0.0);
    assert!(number("/outage/provisional") > 0.0);
    assert!(number("/outage/p99_ms") > 0.0);
}
