//! A Python with the packages of `tritonclient/requirements.txt`, and the ONNX Runtime library that comes with them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::root;

/// Standard output and error of a command, whichever way it ended.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// The interpreter, or why there is none on this machine.
pub fn python() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

/// `libonnxruntime`, or why there is none on this machine.
pub fn onnxruntime_library() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find = || {
        let ask = "import onnxruntime, pathlib; print(pathlib.Path(onnxruntime.__file__).parent / 'capi')";
        let folder = PathBuf::from(run(Command::new(python()?).args(["-c", ask]))?.trim());
        let files = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut names =
            files.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let name = names.find(|name| name.starts_with("libonnxruntime.") && !name.contains("providers"));
        name.map(|name| folder.join(name)).ok_or_else(|| format!("no library in {}", folder.display()))
    };
    FOUND.get_or_init(find).clone()
}

/// Made once for these requirements, in the target directory.
fn make() -> Result<PathBuf, String> {
    let requirements = root().join("tests/tritonclient/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = test.ancestors().nth(3).ok_or("a test lies in <target>/<profile>/deps")?;
    let venv = target.join("tmp/tritonclient");
    let (python, made) = (venv.join("bin/python"), venv.join("made-for.txt"));
    if std::fs::read_to_string(&made).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(&requirements))?;
    std::fs::write(&made, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}
