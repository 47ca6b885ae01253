//! What it costs that models run in worker processes: the same model beside itself in this process, one run at a time and
//! with every core busy.
//!
//! `cargo bench -p system-tests --bench guests` prints medians and ratios for `docs/benchmarks.md`; with
//! `MILLGATE_ONNXRUNTIME=libonnxruntime.so` for ONNX Runtime as well.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millgate_cloud::config::GuestsConfig;
use millgate_cloud::engines::guest;
use millgate_cloud::guests::Guests;
use millgate_cloud::worker;
use millgate_shared::array::{Array, Values};
use millgate_shared::engine::{Axis, Model, OnnxFile, Shapes};
use system_tests::{onnx, root};

/// Alternating runs of each.
const RUNS: usize = 2_000;
/// Alternating windows of each in which every core runs the model.
const WINDOWS: usize = 6;
const WINDOW: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    if let Some(code) = worker::asked() {
        return code;
    }
    let library = std::env::var_os("MILLGATE_ONNXRUNTIME").map(PathBuf::from);
    let guests = Guests::new(Some(PathBuf::from(worker::THIS_PROGRAM)), &GuestsConfig::default());
    let factory = |name: &str| {
        let path = root().join(format!("models/factory/{name}/1/model.onnx"));
        std::fs::read(path).expect("the repository's model")
    };
    let cases = [
        ("mean of 16 KiB", onnx::mean(), 4 << 10),
        ("mean of 600 KiB", onnx::mean(), 150 << 10),
        ("image-encoder", factory("image-encoder"), 1),
        ("pcb-s", factory("pcb-s"), 1),
        ("pcb-l", factory("pcb-l"), 1),
    ];
    let mut out = std::io::stdout().lock();
    for library in [None, library.as_deref()]
        .into_iter()
        .enumerate()
        .filter_map(|(at, library)| (at == 0 || library.is_some()).then_some(library))
    {
        for (name, file, free) in &cases {
            writeln!(out, "{}", case(&guests, library, name, file, *free)).expect("standard output");
        }
    }
    ExitCode::SUCCESS
}

/// `free`: length of axes that the file leaves open, but the first.
fn case(guests: &Guests, library: Option<&Path>, name: &str, file: &[u8], free: usize) -> String {
    let file = OnnxFile::read(file.to_vec().into(), None).expect("an ONNX file");
    let engines = guest::both(guests, library).expect("the engine");
    let [here, apart] = engines.map(|engine| engine.load(&file, Shapes::Any).expect("a model"));
    let inputs: Vec<Array> = file
        .signature
        .inputs
        .iter()
        .map(|port| {
            let axes = port.shape.as_ref().expect("a rank").iter().enumerate();
            let length = |(at, axis): (usize, &Axis)| match axis {
                Axis::Fixed(length) => *length,
                Axis::Named(_) | Axis::Any if at == 0 => 1,
                Axis::Named(_) | Axis::Any => free,
            };
            let shape: Vec<usize> = axes.map(length).collect();
            let count = shape.iter().product();
            Array::new(shape, Values::Fp32((0..count).map(|at: usize| (at % 7) as f32).collect()))
                .expect("an array")
        })
        .collect();
    let bytes: usize = inputs.iter().map(|input| input.values().size()).sum();
    let (mut alone_here, mut alone_apart) = (Vec::new(), Vec::new());
    let mut sessions = [&here, &apart].map(|model| Arc::clone(model).session().expect("a session"));
    let expected = sessions[0].run(inputs.clone()).expect("a run");
    assert_eq!(sessions[1].run(inputs.clone()).expect("a run"), expected, "{name}");
    let started = Instant::now();
    for run in 0..RUNS {
        for (session, times) in sessions.iter_mut().zip([&mut alone_here, &mut alone_apart]) {
            let inputs = inputs.clone();
            let began = Instant::now();
            session.run(inputs).expect("a run");
            times.push(began.elapsed());
        }
        if run > 100 && started.elapsed() > Duration::from_secs(6) {
            break;
        }
    }
    let (alone_here, alone_apart) = (median(alone_here), median(alone_apart));
    let (mut busy_here, mut busy_apart) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        busy_here.push(busy(&here, &inputs));
        busy_apart.push(busy(&apart, &inputs));
    }
    let best = |rates: Vec<f64>| rates.into_iter().fold(0.0, f64::max);
    let (busy_here, busy_apart) = (best(busy_here), best(busy_apart));
    format!(
        "{} {name} ({} KiB): alone {alone_here:.0} us here, {alone_apart:.0} us apart, added {:.0} us; busy {busy_here:.0}/s here, {busy_apart:.0}/s apart, ratio {:.3}",
        here.engine(),
        bytes >> 10,
        alone_apart - alone_here,
        busy_apart / busy_here,
    )
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Runs a second with every core busy.
fn busy(model: &Arc<dyn Model>, inputs: &[Array]) -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let mut session = Arc::clone(model).session().expect("a session");
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    session.run(inputs.to_vec()).expect("a run");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(WINDOW);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}
