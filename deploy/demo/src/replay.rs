//! The run: every sample once, paced, the cloud cut in the middle third; each sample measured where it happens.
//!
//! Samples go one at a time, and what is asked for comparison is asked after the timed decision, so that the three do
//! not compete for the processor.

use std::ops::Range;
use std::time::{Duration, Instant};

use millgate_edge::agent::Ask;
use millgate_edge::uplink::session::LinkState;
use millgate_shared::decision::Decision;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};

use crate::poison::Poison;
use crate::reference::CloudOnly;
use crate::samples::Sample;
use crate::stage::Stage;

/// Events that wait for the audience. When it is slow the replay waits, between samples.
const EVENTS: usize = 64;
const COMMANDS: usize = 16;
/// A decision this long after its deadline counts as lost.
const LATENESS: Duration = Duration::from_secs(2);
/// How often the agent's line is looked at after the cable is back, and for how long at the most.
const LINE_LOOK: Duration = Duration::from_millis(5);
const LINE_LIMIT: Duration = Duration::from_secs(15);

/// When what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// From the start of one sample to the next, if the machine keeps up.
    pub pace: Duration,
    /// Samples without a cloud, by position.
    pub cut: Range<usize>,
}

impl Plan {
    /// The middle third is cut.
    pub fn new(samples: usize, pace: Duration) -> Self {
        Self { pace, cut: samples / 3..samples * 2 / 3 }
    }
}

/// What the audience may do. The first [`Command::ToggleCloud`] ends the plan's own cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    ToggleCloud,
    Poison,
    TogglePause,
}

/// What happened, in order.
#[derive(Debug)]
pub enum Event {
    Measured(Box<Measured>),
    /// The agent's answer to a broken file: an error, unless something is wrong.
    Poisoned {
        path: &'static str,
        answer: Result<String, String>,
    },
    Cut {
        at: Instant,
    },
    Restored {
        at: Instant,
    },
    /// The agent has a line to the pool again, this long after the cable was back.
    Recovered {
        after: Duration,
    },
    Paused(bool),
    /// Bytes that the link passed up in the whole run, HTTP/2 and keep-alives included.
    Finished {
        wire_bytes: u64,
    },
}

/// One sample.
#[derive(Debug)]
pub struct Measured {
    pub path: String,
    pub truth: String,
    pub decision: Result<Decision, String>,
    /// Time that [`millgate_edge::agent::Agent::decide`] took, from outside.
    pub latency: Duration,
    /// Whether the cable was cut when the decision began, or when it ended.
    pub in_outage: bool,
    pub edge_only: Result<String, String>,
    pub cloud_only: CloudOnly,
}

/// Where events come out and commands go in.
#[derive(Debug)]
pub struct Audience {
    pub events: mpsc::Receiver<Event>,
    pub commands: mpsc::Sender<Command>,
}

/// A run that goes on by itself.
#[derive(Debug)]
pub struct Performance {
    replay: JoinHandle<Stage>,
    stop: tokio_util::sync::CancellationToken,
}

impl Performance {
    /// Ends the run where it is, and takes the stage down.
    pub async fn close(self) {
        self.stop.cancel();
        match self.replay.await {
            Ok(stage) => stage.drain().await,
            Err(error) => tracing::error!(%error, "the replay broke off"),
        }
    }
}

/// Begins the run.
pub fn start(stage: Stage, samples: Vec<Sample>, plan: Plan) -> (Performance, Audience) {
    let (events, events_out) = mpsc::channel(EVENTS);
    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (tasks, stop) = (stage.tasks().clone(), stage.tasks().token().child_token());
    let replay = Replay {
        stage,
        samples,
        plan,
        commands,
        events,
        stop: stop.clone(),
        is_by_hand: false,
        is_paused: false,
        poisons: 0,
    };
    let performance = Performance { replay: tasks.spawn(replay.run()), stop };
    (performance, Audience { events: events_out, commands: commands_in })
}

/// Nobody watches any more, or it is time to stop.
struct Over;

struct Replay {
    stage: Stage,
    samples: Vec<Sample>,
    plan: Plan,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    stop: tokio_util::sync::CancellationToken,
    /// Cuts are the audience's from its first one on.
    is_by_hand: bool,
    is_paused: bool,
    /// Broken files sent.
    poisons: usize,
}

impl Replay {
    async fn run(mut self) -> Stage {
        // That it is over is told by the end of the events.
        let _over = self.play().await.is_err();
        self.stage
    }

    async fn play(&mut self) -> Result<(), Over> {
        for at in 0..self.samples.len() {
            let next = Instant::now() + self.plan.pace;
            if !self.is_by_hand {
                self.set_cut(self.plan.cut.contains(&at)).await?;
            }
            let measured = self.measure(at).await;
            self.tell(Event::Measured(Box::new(measured))).await?;
            self.attend_until(next).await?;
        }
        self.tell(Event::Finished { wire_bytes: self.stage.link.bytes_up() }).await
    }

    async fn measure(&self, at: usize) -> Measured {
        let Sample { input, label } = self.samples[at].clone();
        let (path, again, once_more) = (input.path.clone(), input.clone(), input.clone());
        let limit = self.stage.agent.epoch().policy().deadline + LATENESS;
        let was_cut = self.stage.link.is_cut();
        let started = Instant::now();
        let decided = timeout(limit, self.stage.agent.decide(input, Ask::default())).await;
        let latency = started.elapsed();
        let in_outage = was_cut || self.stage.link.is_cut();
        let decision = match decided {
            Ok(decision) => decision.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no decision within {} ms", limit.as_millis())),
        };
        let edge_only = self.stage.edge_only(again).await;
        let cloud_only = self.stage.cloud_only(once_more).await;
        Measured { path, truth: label, decision, latency, in_outage, edge_only, cloud_only }
    }

    /// Does what the audience wants until it is time for the next sample.
    async fn attend_until(&mut self, next: Instant) -> Result<(), Over> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Over),
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await?,
                    None => return Err(Over),
                },
                () = sleep_until(next.into()), if !self.is_paused => return Ok(()),
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Over> {
        match command {
            Command::ToggleCloud => {
                self.is_by_hand = true;
                self.set_cut(!self.stage.link.is_cut()).await
            }
            Command::Poison => {
                let poison = Poison::ALL[self.poisons % Poison::ALL.len()];
                let input = poison.spoil(&self.samples[self.poisons % self.samples.len()].input);
                self.poisons += 1;
                let answer = self.stage.agent.decide(input, Ask::default()).await;
                let answer = answer.map(|decision| decision.verdict.label);
                let answer = answer.map_err(|error| error.to_string());
                self.tell(Event::Poisoned { path: poison.file_name(), answer }).await
            }
            Command::TogglePause => {
                self.is_paused = !self.is_paused;
                self.tell(Event::Paused(self.is_paused)).await
            }
        }
    }

    async fn set_cut(&mut self, cut: bool) -> Result<(), Over> {
        if cut == self.stage.link.is_cut() {
            return Ok(());
        }
        let at = Instant::now();
        if cut {
            self.stage.link.cut();
            return self.tell(Event::Cut { at }).await;
        }
        self.stage.link.restore();
        self.tell(Event::Restored { at }).await?;
        self.watch_recovery(at);
        Ok(())
    }

    fn watch_recovery(&self, since: Instant) {
        let (agent, link) = (self.stage.agent.clone(), self.stage.link.clone());
        let (events, stop) = (self.events.clone(), self.stop.clone());
        let watch = async move {
            while !link.is_cut() && !stop.is_cancelled() && since.elapsed() < LINE_LIMIT {
                if agent.link() == LinkState::Up {
                    // If nobody listens, nobody has to know.
                    let _unheard = events.send(Event::Recovered { after: since.elapsed() }).await.is_err();
                    return;
                }
                sleep(LINE_LOOK).await;
            }
        };
        drop(self.stage.tasks().spawn(watch));
    }

    async fn tell(&self, event: Event) -> Result<(), Over> {
        self.events.send(event).await.map_err(|_| Over)
    }
}
