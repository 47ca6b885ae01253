//! A source and a sink of which the agent knows no more than a line each: messages of a broker, and a shelf.

use super::*;
use millgate_shared::part::Part;

use crate::input::Input;
use crate::journal::Key;
use crate::sink::memory::{Shelf, shelf};
use crate::source::memory::broker;

/// With these and nothing else, by their names in the file.
fn config(name: &str, dir: &Path) -> EdgeConfig {
    config_with("", name, dir)
}

fn config_with(more: &str, name: &str, dir: &Path) -> EdgeConfig {
    let text = format!(
        "[[sources]]\ntype = \"memory\"\nname = \"{name}\"\n{more}\n[[sinks]]\ntype = \"memory\"\nname = \"{name}\"\n"
    );
    let mut config = EdgeConfig::parse("edge.toml", &text).unwrap();
    config.bundle = bundle();
    config.state_dir = dir.to_path_buf();
    config.threads = 1;
    config.offload.deadline = Duration::from_secs(20);
    config.drain_grace = Duration::from_millis(300);
    config.api.enabled = false;
    config.admin.enabled = false;
    config
}

fn message(name: &str) -> Input {
    let part_id = Some("part-7".to_owned());
    Input { part_id, parts: vec![Part::file("image", golden(name))], ..Input::default() }
}

async fn lines(shelf: &std::sync::Mutex<Shelf>, count: usize) -> Vec<serde_json::Value> {
    let seen = async {
        while shelf.lock().unwrap().lines.len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
    shelf.lock().unwrap().lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_once_the_outbox_holds_its_decision_though_sinks_stand_still() {
    let dir = tempfile::tempdir().unwrap();
    let (config, broker, shelf) = (config("still", dir.path()), broker("still"), shelf("still"));
    shelf.lock().unwrap().is_shut = true;
    let running = Service::start(config.clone()).await.unwrap();
    for (key, name) in [(&b"line/1"[..], "steel-red-iron.png"), (b"line/\xff", "steel-slag-inclusion.png")] {
        broker.publish(Key::new(key), message(name));
    }
    let mut acknowledged = broker.acknowledged(2).await;
    acknowledged.sort();
    assert_eq!(acknowledged, [Key::new("line/1"), Key::new(*b"line/\xff")]);
    assert_eq!(shelf.lock().unwrap().lines.len(), 0);
    running.drain().await;

    shelf.lock().unwrap().is_shut = false;
    // One that the broker brings again, since it was killed in the middle of the acknowledgement: it is known.
    broker.publish(Key::new("line/1"), message("steel-red-iron.png"));
    let running = Service::start(config).await.unwrap();
    let records = lines(&shelf, 2).await;
    let paths: std::collections::BTreeSet<&str> =
        records.iter().map(|record| record["sample"]["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["still/0x6c696e652fff", "still/line/1"].into());
    let one = records.iter().find(|record| record["sample"]["path"] == "still/line/1").unwrap();
    assert_eq!(one["verdict"]["label"], "xsdd/red iron");
    assert_eq!((&one["sample"]["part_id"], &one["sample"]["source"]), (&"part-7".into(), &"still".into()));
    assert_eq!(broker.acknowledged(3).await.len(), 3);
    running.drain().await;
    assert_eq!(shelf.lock().unwrap().lines.len(), 2, "it was decided once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_decided_is_recorded_acknowledged_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, shelf) = (broker("bad"), shelf("bad"));
    let running = Service::start(config("bad", dir.path())).await.unwrap();
    let parts = vec![Part::file("image", b"no image".to_vec())];
    broker.publish(Key::new("1"), Input { parts, ..Input::default() });
    assert_eq!(lines(&shelf, 1).await[0]["error"]["code"], "not_an_image");
    assert_eq!(broker.acknowledged(1).await, [Key::new("1")]);
    let metrics = running.metrics().sources.of("bad");
    running.drain().await;
    assert_eq!(metrics.done.get(), 1);
}

fn part(id: &str, modality: &str, name: &str) -> Input {
    let parts = vec![Part::file(modality, golden(name))];
    Input { part_id: Some(id.to_owned()), parts, ..Input::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_arrive_apart_are_one_decision_and_what_is_missing_or_late_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, shelf) = (broker("parts"), shelf("parts"));
    let join = "join = { by = \"part_id\", needs = [\"image\", \"template\"], wait = \"300ms\" }";
    let running = Service::start(config_with(join, "parts", dir.path())).await.unwrap();
    broker.publish(Key::new("1/template"), part("1", "template", "pcb-open.template.png"));
    broker.publish(Key::new("1/image"), part("1", "image", "pcb-open.png"));
    let records = lines(&shelf, 1).await;
    assert_eq!(records[0]["sample"]["modalities"], serde_json::json!(["image", "template"]));
    assert_eq!(records[0]["sample"]["path"], "parts/1/image");
    assert_eq!(broker.acknowledged(2).await.len(), 2);

    broker.publish(Key::new("2/image"), part("2", "image", "pcb-open.png"));
    let records = lines(&shelf, 2).await;
    let note = &records[1]["sample"]["notes"][0];
    assert_eq!((&note["modality"], &note["code"]), (&"template".into(), &"late".into()));
    broker.publish(Key::new("2/template"), part("2", "template", "pcb-open.template.png"));
    broker.publish(Key::new("smell"), part("2", "smell", "pcb-open.png"));
    let records = lines(&shelf, 4).await;
    let codes: std::collections::BTreeSet<&str> =
        records[2..].iter().map(|record| record["error"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["late_part", "unwanted_part"].into());
    assert_eq!(broker.acknowledged(5).await.len(), 5, "none of them comes again");
    running.drain().await;
}

#[test]
fn a_join_that_makes_no_sense_is_refused_with_its_key() {
    for (join, key) in [
        ("by = \"part_id\", needs = [\"image\"]", "`sources[0].join.needs`"),
        ("by = \"part_id\", needs = [\"image\", \"image\"]", "`sources[0].join.needs`"),
        ("by = \"time\", needs = [\"a\", \"b\"], wait = \"0s\"", "`sources[0].join.wait`"),
        ("by = \"time\", needs = [\"a\", \"b\"], most = 0", "`sources[0].join.most`"),
        ("by = \"chance\", needs = [\"a\", \"b\"]", "chance"),
    ] {
        let text = format!("[[sources]]\ntype = \"memory\"\nname = \"a\"\njoin = {{ {join} }}\n");
        let refused = EdgeConfig::parse("edge.toml", &text).unwrap_err().to_string();
        assert!(refused.contains(key), "{join}: {refused}");
    }
}
