//! The boundary between the pool and the processes that models run in, without a pool: what comes through it, and what a
//! model can do to whoever runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_cloud::config::GuestsConfig;
use millgate_cloud::engines::guest;
use millgate_cloud::guests::Guests;
use millgate_shared::array::{Array, Values};
use millgate_shared::engine::{Cause, Doing, Engine, EngineError, Model, OnnxFile, Session, Shapes};
use system_tests::{PATIENCE, binary, onnx};

/// Memory of a worker here, in MiB: enough for the engine, and little enough to be asked for too much.
const MEMORY_MIB: u64 = 256;

fn guests(config: &GuestsConfig) -> Guests {
    Guests::new(Some(binary("millgate-cloud")), config)
}

fn small() -> GuestsConfig {
    GuestsConfig { memory_mib: MEMORY_MIB, ..GuestsConfig::default() }
}

fn file(bytes: Vec<u8>) -> OnnxFile {
    OnnxFile::read(bytes.into(), None).unwrap()
}

/// One model, in this process and in a worker.
fn both(guests: &Guests, bytes: Vec<u8>) -> [Arc<dyn Model>; 2] {
    let file = file(bytes);
    guest::both(guests, None).unwrap().map(|engine| engine.load(&file, Shapes::Any).unwrap())
}

fn sessions(models: &[Arc<dyn Model>; 2]) -> [Box<dyn Session>; 2] {
    [&models[0], &models[1]].map(|model| Arc::clone(model).session().unwrap())
}

fn ending(error: &EngineError) -> (&Cause, Doing) {
    match error {
        EngineError::Ended(ending) => (&ending.cause, ending.doing),
        other => panic!("{other}"),
    }
}

fn row(width: usize) -> Array {
    Array::new(vec![1, width], Values::Fp32((0..width).map(|at| (at % 13) as f32).collect())).unwrap()
}

fn length(length: i64) -> Array {
    Array::new(vec![1], Values::Int64(vec![length])).unwrap()
}

fn one() -> Array {
    Array::new(vec![1], Values::Fp32(vec![2.5])).unwrap()
}

#[test]
fn a_worker_answers_as_this_process_does() {
    let guests = guests(&GuestsConfig::default());
    // Inputs of any size: memory that both see grows, and is given back.
    let models = both(&guests, onnx::mean());
    let [mut here, mut apart] = sessions(&models);
    for width in [1, 1 << 10, 1 << 17, 5 << 20, 3] {
        let answers = [&mut here, &mut apart].map(|session| session.run(vec![row(width)]).unwrap());
        assert_eq!(answers[0], answers[1], "{width}");
    }
    // Outputs far larger than inputs.
    let models = both(&guests, onnx::expand());
    let [mut here, mut apart] = sessions(&models);
    for wanted in [4, 1 << 20] {
        let answers =
            [&mut here, &mut apart].map(|session| session.run(vec![one(), length(wanted)]).unwrap());
        assert_eq!((&answers[0], answers[0][0].shape()), (&answers[1], &[wanted as usize][..]));
    }
    // Errors keep their kind and their words.
    let models = both(&guests, onnx::tokens());
    let [mut here, mut apart] = sessions(&models);
    let ids = Array::new(vec![1, 6], Values::Int64(vec![0, 1, 2, 3, 4, 99])).unwrap();
    let errors = [&mut here, &mut apart].map(|session| session.run(vec![ids.clone()]).unwrap_err());
    assert_eq!(errors[0].to_string(), errors[1].to_string());
    assert!(matches!(errors[1], EngineError::Run(_)), "{}", errors[1]);
    let none = [&mut here, &mut apart].map(|session| session.run(Vec::new()).unwrap_err().to_string());
    assert_eq!(none[1], "got 0 inputs, needs 1");
    // What is no model is refused in the same words, shapes that are given alone are told back.
    let [here, apart] = guest::both(&guests, None).unwrap();
    let dense = file(onnx::dense(1, onnx::Axis::Any("N")));
    let shapes = [vec![3, 256]];
    let signatures = [&*here, &*apart]
        .map(|engine: &dyn Engine| engine.load(&dense, Shapes::Only(&shapes)).unwrap().signature().clone());
    assert_eq!(signatures[0], signatures[1]);
}

#[test]
fn every_thread_has_a_line_of_its_own() {
    let guests = guests(&GuestsConfig::default());
    let [here, apart] = both(&guests, onnx::mean());
    let expected = here.session().unwrap().run(vec![row(1000)]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = Arc::clone(&apart).session().unwrap();
                for _ in 0..50 {
                    assert_eq!(session.run(vec![row(1000)]).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn a_worker_that_is_ended_is_started_again_and_says_why_it_ended() {
    let guests = guests(&GuestsConfig::default());
    let [_, apart] = both(&guests, onnx::mean());
    let mut session = Arc::clone(&apart).session().unwrap();
    let expected = session.run(vec![row(10)]).unwrap();
    session.ender().unwrap().end("the test wants it".to_owned());
    // Either the run was inside when the worker ended, or the next worker has it already.
    match session.run(vec![row(10)]) {
        Ok(answer) => assert_eq!(answer, expected),
        Err(error) => {
            assert_eq!(ending(&error).0, &Cause::Ended("the test wants it".to_owned()));
            assert_eq!(session.run(vec![row(10)]).unwrap(), expected);
        }
    }
    // It comes back although nobody asks it for anything.
    let (before, started) = (guests.started(), Instant::now());
    session.ender().unwrap().end("once more".to_owned());
    while guests.started() == before {
        assert!(started.elapsed() < PATIENCE, "it is not started again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(session.run(vec![row(10)]).or_else(|_| session.run(vec![row(10)])).unwrap(), expected);
}

#[test]
fn memory_beyond_the_limit_costs_the_run_alone() {
    let guests = guests(&small());
    let [_, apart] = both(&guests, onnx::expand());
    let mut session = Arc::clone(&apart).session().unwrap();
    let before = session.run(vec![one(), length(8)]).unwrap();
    let too_many = (MEMORY_MIB << 20) as i64;
    let error = session.run(vec![one(), length(too_many)]).unwrap_err();
    // tract panics where it gets no memory for a tensor, and everything else in Rust ends its process.
    match &error {
        EngineError::Run(reason) => assert!(reason.contains("failed to allocate"), "{reason}"),
        error => assert_eq!(ending(error), (&Cause::Memory(MEMORY_MIB << 20), Doing::Running), "{error}"),
    }
    assert_eq!(session.run(vec![one(), length(8)]).unwrap(), before);
    // How much a run takes is measured where that is asked for.
    let (_, took) = session.run_measured(vec![one(), length(8 << 20)]).unwrap();
    let took = took.expect("Linux says");
    assert!(took.peak >= took.before + (32 << 20), "{took:?}");
}

#[test]
fn a_run_that_takes_too_long_is_ended_with_its_worker() {
    // The mean of a large row takes longer than the shortest limit that there is.
    let guests = guests(&GuestsConfig { longest_run_ms: 1, ..GuestsConfig::default() });
    let [_, apart] = both(&guests, onnx::mean());
    let mut session = Arc::clone(&apart).session().unwrap();
    let error = session.run(vec![row(8 << 20)]).unwrap_err();
    let (cause, doing) = ending(&error);
    assert_eq!((cause, doing), (&Cause::Ended("a run took more than 1 ms".to_owned()), Doing::Running));
}

#[test]
fn a_program_that_is_no_worker_is_an_error() {
    let guests = Guests::new(Some("/bin/true".into()), &GuestsConfig::default());
    let [_, apart] = guest::both(&guests, None).unwrap();
    let error = apart.load(&file(onnx::mean()), Shapes::Any).unwrap_err();
    assert_eq!(ending(&error), (&Cause::Exit(0), Doing::Loading), "{error}");
}
