//! The commands of `docs/own-product.md`, as they stand there, from a folder of pictures to a second bundle.

use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::edge_process::{EdgeProcess, until};
use system_tests::{binary, root};

use super::init::{Drawn, draw};

/// Names a folder with `images.tar` and `labels.jsonl` of the magnetic tiles, which are not in the repository.
const MAGTILE: &str = "MILLGATE_MAGTILE";
/// The command of the page that does not end by itself.
const RUN: &str = "millgate-edge run";

/// Language and text of each block of the page.
fn blocks() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(root().join("docs/own-product.md")).unwrap();
    let (mut blocks, mut open) = (Vec::new(), None::<(String, String)>);
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// What a block prints; it must succeed.
fn printed(dir: &Path, script: &str) -> String {
    let programs = binary("millgate-cloud").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let script = format!("set -euo pipefail\n{script}");
    let ran = Command::new("bash").args(["-c", &script]).current_dir(dir).env("PATH", path).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{script}\n{out}\n{error}");
    out.into_owned()
}

/// Ports that are free, and a log that can be read, which the page leaves as they are.
fn config(text: &str) -> String {
    let listen = "listen = \"127.0.0.1:0\"\n";
    format!("log.format = \"json\"\n{text}\n[api]\n{listen}[admin]\n{listen}")
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().matches('\n').count()
}

/// Follows the page in a folder that has the pictures; gives each block of commands with what it printed.
fn followed(dir: &Path) -> Vec<(String, String)> {
    std::os::unix::fs::symlink(root().join("models"), dir.join("models")).unwrap();
    let (mut agent, mut done) = (None, Vec::new());
    for (language, text) in blocks() {
        match &*language {
            "toml" => std::fs::write(dir.join("edge.toml"), config(&text)).unwrap(),
            "sh" if text.starts_with(RUN) => {
                assert_eq!(text, format!("{RUN} --config edge.toml\n"), "alone in its block");
                let mut command = Command::new(binary("millgate-edge"));
                command.current_dir(dir);
                agent = Some(EdgeProcess::start_by(command, Path::new("edge.toml")));
            }
            "sh" => {
                let out = printed(dir, &text);
                done.push((text, out));
                let pictures = std::fs::read_dir(dir.join("in")).map_or(0, Iterator::count);
                if agent.is_some() {
                    let decisions = dir.join("decisions.jsonl");
                    until("every picture is decided", || lines(&decisions) == pictures);
                }
            }
            _ => {}
        }
    }
    assert!(agent.is_some(), "the page runs the agent");
    done
}

/// What the block with a command printed.
fn of<'a>(done: &'a [(String, String)], command: &str) -> &'a str {
    &done.iter().find(|(text, _)| text.contains(command)).unwrap_or_else(|| panic!("no {command}")).1
}

/// What is no part at all.
fn odd(dir: &Path) {
    std::fs::create_dir(dir.join("odd")).unwrap();
    image::GrayImage::new(120, 120).save(dir.join("odd/black.png")).unwrap();
}

#[test]
fn the_page_works_on_a_product_that_nobody_has_heard_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let classes = [("good", Drawn::Nothing), ("smeared", Drawn::Stripes), ("spotted", Drawn::Disc)];
    for (class, drawn) in classes {
        draw(&dir.join("caps"), class, drawn, 0..40);
        draw(&dir.join("held-out"), class, drawn, 500..515);
    }
    draw(dir, "line", Drawn::Stripes, 900..906);
    odd(dir);
    let done = followed(dir);
    let verdict = of(&done, "odd/black.png");
    assert!(verdict.contains("unknown"), "{verdict}");
    let page = std::fs::read_to_string(dir.join("caps.html")).unwrap();
    assert!(page.contains("cap/smeared") && !page.contains("<script"), "labels and no script");
    let records = std::fs::read_to_string(dir.join("decisions.jsonl")).unwrap();
    let right = records.lines().filter(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["verdict"]["label"] == "cap/smeared" && record["disposition"] == "review"
    });
    assert!(right.count() >= 4, "{records}");
    assert_eq!(lines(&dir.join("labelled/labels.jsonl")), 1);
    assert!(of(&done, "bundle compare").contains("accuracy"));
}

/// Puts the first pictures of a class of the magnetic tiles where the page has its own.
fn tiles(unpacked: &[PathBuf], ids: &[String], dir: &Path, class: &str) {
    for (at, id) in ids.iter().take(61).enumerate() {
        let file = unpacked.iter().find(|file| file.file_stem().is_some_and(|stem| stem == &**id)).unwrap();
        let folder = match at {
            0..40 => dir.join("caps").join(class),
            40..55 => dir.join("held-out").join(class),
            _ if class == "smeared" => dir.join("line"),
            _ => continue,
        };
        std::fs::create_dir_all(&folder).unwrap();
        image::open(file).unwrap().save(folder.join(format!("{id}.png"))).unwrap();
    }
}

fn files_below(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, files) } else { files.push(path) }
    }
}

#[test]
fn the_page_works_on_magnetic_tiles_where_they_are_there() {
    // Not a test that is skipped on machines that lack something: the pictures are in no package.
    let Some(magtile) = std::env::var_os(MAGTILE).map(PathBuf::from) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (raw, dir) = (dir.path().join("raw"), dir.path().join("work"));
    std::fs::create_dir_all(&raw).unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(magtile.join("images.tar")).arg("-C").arg(&raw).status();
    assert!(tar.unwrap().success());
    let mut unpacked = Vec::new();
    files_below(&raw, &mut unpacked);
    let table = std::fs::read_to_string(magtile.join("labels.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        table.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (class, label) in [("good", "Free"), ("smeared", "Blowhole"), ("spotted", "Break")] {
        let of_class = rows.iter().filter(|row| row["label"] == label);
        let ids: Vec<String> = of_class.map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        assert!(ids.len() >= 61, "{} of {label}", ids.len());
        tiles(&unpacked, &ids, &dir, class);
    }
    odd(&dir);
    let done = followed(&dir);
    let verdict = of(&done, "odd/black.png");
    assert!(verdict.contains("unknown"), "{verdict}");
}
