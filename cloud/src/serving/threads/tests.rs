//! Real threads with a model that does not end unless it is ended. What is decided stands in `watch/tests.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use millgate_shared::array::Datatype;
use millgate_shared::array::{Array, Values};
use millgate_shared::engine::{Cause, Doing, Ender, Ending, EngineError, Model, Port, Session, Signature};

use super::super::config::CacheConfig;
use super::super::run::Deployed;
use super::super::served::Traits;
use super::super::{Batching, Serving};
use super::*;
use crate::engines::appetite::Appetite;
use crate::engines::choice::Choice;
use crate::engines::trial::Trial;
use crate::engines::{Engines, EnginesConfig, Loaded};
use crate::guests::{Guests, GuestsConfig};
use crate::principal::Standing;
use crate::strikes::Strikes;

/// Enough on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A model whose runs wait until they are ended, where their input is not 0.
#[derive(Debug)]
struct Stuck {
    signature: Signature,
    ended: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lane {
    why: Mutex<Option<String>>,
    told: Condvar,
}

impl Ender for Lane {
    fn end(&self, why: String) {
        *self.why.lock().unwrap() = Some(why);
        self.told.notify_all();
    }
}

struct StuckSession(Arc<Stuck>, Arc<Lane>);

impl Session for StuckSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        if inputs[0].as_fp32().is_ok_and(|values| values[0] == 0.0) {
            return Ok(inputs);
        }
        let mut why = self.1.why.lock().unwrap_or_else(PoisonError::into_inner);
        let why = loop {
            match why.take() {
                Some(why) => break why,
                None => why = self.1.told.wait(why).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let process = self.0.ended.fetch_add(1, Ordering::Relaxed) as u64 + 1;
        Err(EngineError::Ended(Ending::new(Cause::Ended(why), Doing::Running, process)))
    }

    fn ender(&self) -> Option<Arc<dyn Ender>> {
        Some(Arc::<Lane>::clone(&self.1))
    }
}

impl Model for Stuck {
    fn engine(&self) -> &'static str {
        "stuck"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(StuckSession(self, Arc::default())))
    }
}

fn serving() -> (Serving, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let guests = Guests::new(None, &GuestsConfig::default());
    let config = EnginesConfig { onnxruntime_library: Some(std::path::PathBuf::new()), ..Default::default() };
    let engines = Engines::start(&config, state.path(), 2, &guests).unwrap();
    let serving =
        Serving::start((2, 64), engines, &CacheConfig::default(), Duration::ZERO, Strikes::default());
    (serving, state)
}

fn serve(serving: &Serving, name: &str) -> (Arc<Deployed>, Arc<Stuck>) {
    let port = |name: &str| Port { name: name.to_owned(), datatype: Datatype::Fp32, shape: None };
    let signature = Signature { inputs: vec![port("x")], outputs: vec![port("y")], ..Signature::default() };
    let model = Arc::new(Stuck { signature, ended: AtomicUsize::new(0) });
    let trial = Trial {
        times: vec![(1, Duration::from_millis(1))],
        rows_are_independent: false,
        fit: None,
        samples: Vec::new(),
        unproven: None,
    };
    let loaded = Loaded {
        model: Arc::<Stuck>::clone(&model),
        trial,
        choice: Choice::whole("stuck"),
        appetite: Appetite::default(),
    };
    let record = serving.strikes().record(name, "face");
    (serving.adopt(name, 1, loaded, Traits::default(), Batching::default(), record), model)
}

async fn ask(
    serving: &Serving,
    model: &Arc<Deployed>,
    value: f32,
    patience: Duration,
) -> Result<(), Failure> {
    let input = Array::new(vec![1], Values::Fp32(vec![value])).unwrap();
    let now = Instant::now();
    let call = Call::new(Arc::new(Standing::local()), now, now + patience);
    serving.compute(model, vec![input], String::new(), call).await.map(|_| ())
}

#[tokio::test]
async fn stuck_runs_are_stood_in_for_and_ended_and_their_model_is_set_aside() {
    let (serving, _state) = serving();
    let ((bad, stuck), (good, _)) = (serve(&serving, "bad"), serve(&serving, "good"));
    let begun = Instant::now();
    while bad.record.aside().is_none() {
        assert!(begun.elapsed() < PATIENCE, "{stuck:?}");
        // As many as there are threads; a run that nobody waits for is ended after a while.
        let short = Duration::from_millis(100);
        let (one, two) = tokio::join!(ask(&serving, &bad, 1.0, short), ask(&serving, &bad, 1.0, short));
        assert!(one.is_err() && two.is_err());
        ask(&serving, &good, 0.0, PATIENCE).await.unwrap();
    }
    assert!(stuck.ended.load(Ordering::Relaxed) >= 3);
    let refused = ask(&serving, &bad, 0.0, PATIENCE).await.unwrap_err();
    assert!(
        matches!(&refused, Failure::NotReady { reason, .. } if reason.starts_with("set aside")),
        "{refused}"
    );
    ask(&serving, &good, 0.0, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn work_that_waits_while_none_gets_finished_makes_the_pool_unready_until_some_is() {
    let readiness = Readiness::default();
    let times = Times { longest_run: PATIENCE, patience: Duration::from_millis(200) };
    let threads = Threads::start(1, 16, times, &readiness);
    let now = Instant::now();
    let call = Call::new(Arc::new(Standing::local()), now, now + PATIENCE);
    let (free, held) = sync_channel::<()>(1);
    let (blocks, blocked) = super::super::job::job(move || Ok(held.recv().is_ok()));
    let (waits, waited) = super::super::job::job(|| Ok(()));
    threads.submit_job(&call, 0, blocks).unwrap();
    threads.submit_job(&call, 0, waits).unwrap();
    assert!(!readiness.changed(true).await);
    let (more, _never) = super::super::job::job(|| Ok(()));
    assert!(matches!(threads.submit_job(&call, 0, more), Err(Failure::Stalled)));
    free.send(()).unwrap();
    assert!(readiness.changed(false).await);
    assert!(blocked.await.unwrap().unwrap());
    waited.await.unwrap().unwrap();
}
