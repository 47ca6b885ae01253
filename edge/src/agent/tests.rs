use std::path::Path;
use std::sync::Arc;

use millgate_shared::array::Array;
use millgate_shared::engine::{Engine, EngineError, Model, OnnxFile, Session, Shapes, Signature, Tract};

use super::*;

/// Another engine, as far as anyone can see.
#[derive(Debug)]
struct Renamed;

#[derive(Debug)]
struct RenamedModel(Arc<dyn Model>);

struct RenamedSession(Box<dyn Session>);

const NAME: &str = "renamed";

impl Engine for Renamed {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, file: &OnnxFile, shapes: Shapes<'_>) -> Result<Arc<dyn Model>, EngineError> {
        Ok(Arc::new(RenamedModel(Tract.load(file, shapes)?)))
    }
}

impl Model for RenamedModel {
    fn engine(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn session(self: Arc<Self>) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(RenamedSession(Arc::clone(&self.0).session()?)))
    }
}

impl Session for RenamedSession {
    fn run(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, EngineError> {
        self.0.run(inputs)
    }
}

fn config(engine: &'static dyn Engine) -> AgentConfig {
    AgentConfig {
        bundle: PathBuf::from("../models/factory"),
        cloud: None,
        task: "inspect".to_owned(),
        mode: Mode::Never,
        risk: None,
        deadline: Duration::from_secs(60),
        grace: Duration::ZERO,
        threads: 1,
        queue: 4,
        bytes: BytesConfig::default(),
        bit_depths: BTreeMap::new(),
        wishes: Default::default(),
        engine,
    }
}

#[tokio::test]
async fn an_answer_says_which_engine_ran_it() {
    for (engine, name) in [(&Renamed as &'static dyn Engine, NAME), (crate::engines::usual(), Tract::NAME)] {
        let tasks = Tasks::new();
        let agent = Agent::start(config(engine), &tasks).unwrap();
        let picture = Path::new("../models/factory/golden/steel-red-iron.png");
        let input = Input::from_file(picture, &agent.naming(), &[], None).unwrap();
        let decision = agent.decide(input, Ask::default()).await.unwrap();
        assert!(!decision.experts.is_empty());
        assert!(decision.experts.iter().all(|expert| expert.engine == name), "{:?}", decision.experts);
    }
}
