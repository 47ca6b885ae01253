//! Processes whose standard streams are not what they should be, or are looked at while they run.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::edge_process::until;
use system_tests::{Ran, binary, root};

/// Bytes that a pipe holds unless it is told otherwise: see pipe(7).
const PIPE: usize = 64 << 10;

/// Killed when it is dropped.
pub(super) struct Process {
    child: Option<Child>,
    /// What it said so far, unless the shell took that elsewhere.
    dir: tempfile::TempDir,
    /// The other end of a pipe that nobody reads.
    _unread: Option<std::io::PipeReader>,
}

impl Process {
    /// With `redirect`, in which 9 is a pipe that nobody reads and that is full.
    pub(super) fn in_shell(command: &[&str], redirect: &str) -> Self {
        let (unread, mut pipe) = std::io::pipe().unwrap();
        pipe.write_all(&[b'x'; PIPE]).unwrap();
        let mut shell = in_shell(command, &format!("9>&1 1>/dev/null {redirect}"), true);
        shell.env("MILLGATE_LOG", "trace").stdin(Stdio::null()).stdout(pipe).stderr(Stdio::null());
        let dir = tempfile::tempdir().unwrap();
        Self { child: Some(shell.spawn().unwrap()), dir, _unread: Some(unread) }
    }

    /// Standard output and standard error in files.
    pub(super) fn logged(name: &str, args: &[&str]) -> Self {
        Self::logged_with(name, args, &[])
    }

    pub(super) fn logged_with(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(dir.path().join(name)).unwrap();
        let mut command = Command::new(binary(name));
        command.args(args).envs(env.iter().copied()).current_dir(root()).stdin(Stdio::null());
        let child = command.stdout(file("out")).stderr(file("err")).spawn().unwrap();
        Self { child: Some(child), dir, _unread: None }
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// What it has said on standard error so far.
    pub(super) fn log(&self) -> String {
        self.read("err")
    }

    /// Waits for the end.
    pub(super) fn ended(mut self) -> Ran {
        let status = self.child.take().unwrap().wait().unwrap();
        let code = status.code().expect("it was not killed");
        Ran { code, stdout: self.read("out"), stderr: self.read("err") }
    }

    /// Sends a signal and waits for the end.
    pub(super) fn end(mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _already_gone = child.kill().is_err();
            let _already_gone = child.wait().is_err();
        }
    }
}

fn in_shell(command: &[&str], tail: &str, is_itself: bool) -> Command {
    let path: PathBuf = binary(command[0]);
    let exec = if is_itself { "exec " } else { "" };
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        .arg(format!("{exec}\"$0\" \"$@\" {tail}"))
        .arg(path)
        .args(&command[1..])
        .current_dir(root());
    shell
}

/// Runs a command with what a shell makes of `tail`.
pub(super) fn shell(command: &[&str], tail: &str) -> Ran {
    let output = in_shell(command, tail, false).output().unwrap();
    Ran {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One that was free a moment ago.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Head and body; `None`: nobody answers.
pub(super) fn http(port: u16, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    Some(text)
}

pub(super) fn wait_until_up(port: u16) {
    until("it is up", || http(port, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
}

/// The value of one series, named with its labels; 0 if it is not there.
pub(super) fn metric(port: u16, series: &str) -> f64 {
    let text = http(port, "/metrics").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}
