//! The screen of the agent: what it tells a browser, what it keeps of a person's word, and what it refuses. A real Chromium looks at
//! it where there is one; the checks are in `screen/look.mjs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use system_tests::edge_process::{EdgeProcess, EdgeToml, until};
use system_tests::python::run;
use system_tests::{recorded, root, skip};

/// All pictures are kept.
const KEEP_ALL: &str = "[labels]\nkeep_share = 1.0\n";
/// Names with markup and control codes in them, as a camera or an attacker may give.
const ODD_NAME: &str = "<img src=x onerror=alert(1)>\u{1b}[31m.png";

/// An agent that decides what lies in its folder, alone.
fn agent(dir: &Path) -> EdgeProcess {
    for folder in ["in", "state"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
    }
    EdgeProcess::start(&EdgeToml::new(dir).offload("mode = \"never\"").more(KEEP_ALL).write())
}

/// Puts a recorded picture of a label into the folder under another name.
fn put(dir: &Path, label: &str, name: &str) {
    let sample = recorded().into_iter().find(|sample| sample.label == label).unwrap();
    let aside = dir.join("aside");
    std::fs::copy(&sample.path, &aside).unwrap();
    std::fs::rename(&aside, dir.join("in").join(name)).unwrap();
}

fn connect(at: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// Status, head and body of what is answered.
fn ask(at: SocketAddr, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut socket = connect(at);
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    write!(
        socket,
        "{request} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = Vec::new();
    socket.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn line(at: SocketAddr) -> Value {
    serde_json::from_str(&ask(at, "GET /screen/line", "", "").2).unwrap()
}

/// Waits until so many were decided, and gives the ids of the last ones, the newest first.
fn decided(at: SocketAddr, count: usize) -> Vec<String> {
    let ids = |state: &Value| {
        let last = state["line"]["last"].as_array().unwrap();
        last.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("the decisions are shown", || ids(&line(at)).len() == count);
    ids(&line(at))
}

#[test]
fn the_line_is_shown_and_what_a_person_says_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let at = agent.admin.unwrap();
    let (status, head, page) = ask(at, "GET /", "", "");
    assert!(status == 200 && page.contains("<main id=\"line\">"), "{head}");
    assert!(
        head.contains("content-security-policy: default-src 'none'") && head.contains("nosniff"),
        "{head}"
    );
    assert_eq!(line(at)["line"]["last"], Value::Array(Vec::new()));

    // A page that looks on is told.
    let mut live = connect(at);
    write!(live, "GET /screen/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    put(dir.path(), "xsdd/red iron", "a.png");
    let told = BufReader::new(live).lines().map_while(Result::ok).filter_map(|line| {
        let data = line.strip_prefix("data: ")?;
        Some(serde_json::from_str::<Value>(data).unwrap())
    });
    let seen = told.take(50).find(|state| !state["line"]["last"].as_array().unwrap().is_empty()).unwrap();
    assert_eq!(seen["line"]["last"][0]["label"], "xsdd/red iron");
    assert_eq!(seen["line"]["tally"]["reject"], 1);
    assert_eq!(seen["agent"]["link"], "none");

    put(dir.path(), "deeppcb/normal", ODD_NAME);
    let ids = decided(at, 2);
    let decision = |id: &str| -> Value {
        serde_json::from_str(&ask(at, &format!("GET /screen/decisions/{id}"), "", "").2).unwrap()
    };
    let told = decision(&ids[1]);
    assert_eq!(told["decision"]["verdict"]["label"], "xsdd/red iron");
    assert!(told["labels"].as_array().unwrap().contains(&Value::from("xsdd/slag inclusion")));
    until("its picture is kept", || decision(&ids[1])["pictures"] == serde_json::json!(["image"]));
    let (status, head, _) = ask(at, &format!("GET /screen/pictures/{}/image", ids[1]), "", "");
    assert!(status == 200 && head.contains("content-type: image/png") && head.contains("no-store"), "{head}");
    assert_eq!(ask(at, &format!("GET /screen/pictures/{}/nothing", ids[1]), "", "").0, 400);
    assert_eq!(ask(at, "GET /screen/decisions/none", "", "").0, 404);

    let json = "Content-Type: application/json\r\n";
    let say =
        |label: &str| format!("{{\"id\": \"{}\", \"label\": \"{label}\", \"who\": \"screen\"}}", ids[1]);
    let (status, _, refused) = ask(at, "POST /screen/labels", json, &say("xsdd/nothing of the kind"));
    assert!(status == 400 && refused.starts_with("`label`: `xsdd/nothing of the kind`"), "{refused}");
    assert_eq!(ask(at, "POST /screen/labels", "Content-Type: text/html\r\n", &say("xsdd/red iron")).0, 415);
    assert_eq!(ask(at, "POST /screen/labels", json, &say("xsdd/slag inclusion")).0, 200);
    assert_eq!(decision(&ids[1])["said"][0]["label"], "xsdd/slag inclusion");
    assert_eq!(line(at)["line"]["last"][1]["said"], "xsdd/slag inclusion");
}

#[test]
fn a_page_of_somebody_else_neither_reads_nor_writes() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let at = agent.admin.unwrap();
    for path in ["/", "/screen/line", "/screen/live", "/screen/decisions/x", "/screen/pictures/x/image"] {
        assert_eq!(ask(at, &format!("GET {path}"), "Host: evil.example\r\n", "").0, 421, "{path}");
        assert_eq!(ask(at, &format!("GET {path}"), "Origin: http://evil.example\r\n", "").0, 403, "{path}");
    }
    let foreign = "Origin: http://evil.example\r\nContent-Type: application/json\r\n";
    assert_eq!(ask(at, "POST /screen/labels", foreign, "{}").0, 403);
}

#[test]
fn there_is_no_screen_beyond_loopback_or_where_it_is_off() {
    for (key, wanted) in
        [("plaintext_beyond_loopback = true\nlisten = \"0.0.0.0:0\"", 403), ("screen = false", 404)]
    {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let config = EdgeToml::new(dir.path()).offload("mode = \"never\"").write();
        let text = std::fs::read_to_string(&config).unwrap();
        let listen = "listen = \"127.0.0.1:0\"";
        let (before, admin) = text.split_once("[admin]\n").unwrap();
        let admin = if key.contains("listen") { admin.replacen(listen, "", 1) } else { admin.to_owned() };
        std::fs::write(&config, format!("{before}[admin]\n{key}\n{admin}")).unwrap();
        let agent = EdgeProcess::start(&config);
        let at = SocketAddr::from(([127, 0, 0, 1], agent.admin.unwrap().port()));
        assert_eq!(ask(at, "GET /", "", "").0, wanted, "{key}");
        assert_eq!(ask(at, "GET /screen/line", "", "").0, 404, "{key}");
    }
}

/// Where the packages of `screen/package.json` are, or why they cannot be had.
fn packages() -> Result<PathBuf, String> {
    let wanted = root().join("tests/screen");
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = test.ancestors().nth(3).ok_or("a test lies in <target>/<profile>/deps")?.join("tmp/screen");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "look.mjs"] {
        std::fs::copy(wanted.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    run(Command::new("chromium").arg("--version"))?;
    let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix"];
    run(Command::new("npm").args(install).arg(&folder))?;
    Ok(folder)
}

#[test]
fn a_real_browser_shows_it_to_everybody() {
    let folder = match packages() {
        Ok(folder) => folder,
        Err(reason) => return skip(&format!("no browser to look at the screen with: {reason}")),
    };
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path());
    let at = agent.admin.unwrap();
    for (number, label) in ["xsdd/red iron", "deeppcb/open", "xsdd/slag inclusion"].into_iter().enumerate() {
        put(dir.path(), label, &format!("{number}.png"));
    }
    put(dir.path(), "xsdd/surface scratch", ODD_NAME);
    decided(at, 4);
    let shots = folder.join("shots");
    std::fs::create_dir_all(&shots).unwrap();
    let mut look = Command::new("node");
    look.current_dir(&folder).arg("look.mjs").arg(format!("http://{at}")).arg(&shots);
    let report = run(&mut look).unwrap_or_else(|report| panic!("{report}"));
    assert!(report.contains(" checks, 0 failed"), "{report}");
}
