//! A source without files, for tests: messages of a broker in memory, which keeps each until it is acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::watch;

use super::{Body, JoinConfig, Outcome, Receipt, SourceSettings, Starting, Taken};
use crate::input::Input;
use crate::journal::{Key, Mark};

/// `type = "memory"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// The broker's too: [`broker`].
    pub name: String,
    /// Each message is a part of a sample.
    #[serde(default)]
    pub join: Option<JoinConfig>,
}

/// Brokers by name; each test has one of its own.
static BROKERS: Mutex<BTreeMap<String, Arc<Broker>>> = Mutex::new(BTreeMap::new());

/// Gives the broker of this name.
pub(crate) fn broker(name: &str) -> Arc<Broker> {
    Arc::clone(BROKERS.lock().unwrap().entry(name.to_owned()).or_default())
}

/// Keeps messages until they are acknowledged.
#[derive(Debug)]
pub(crate) struct Broker(watch::Sender<Messages>);

#[derive(Debug, Clone, Default)]
pub(crate) struct Messages {
    pub(crate) waiting: BTreeMap<Key, Input>,
    /// Keys, in the order of their acknowledgements.
    pub(crate) acknowledged: Vec<Key>,
}

impl Default for Broker {
    fn default() -> Self {
        Self(watch::channel(Messages::default()).0)
    }
}

impl Broker {
    pub(crate) fn publish(&self, key: Key, input: Input) {
        self.0.send_modify(|messages| drop(messages.waiting.insert(key, input)));
    }

    fn acknowledge(&self, key: &Key) {
        self.0.send_modify(|messages| {
            if messages.waiting.remove(key).is_some() {
                messages.acknowledged.push(key.clone());
            }
        });
    }

    /// Waits until so many were acknowledged.
    pub(crate) async fn acknowledged(&self, count: usize) -> Vec<Key> {
        let mut messages = self.0.subscribe();
        messages.wait_for(|messages| messages.acknowledged.len() >= count).await.unwrap().acknowledged.clone()
    }
}

impl SourceSettings for MemoryConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn join(&self) -> Option<&JoinConfig> {
        self.join.as_ref()
    }

    fn start(&self, starting: Starting) {
        let (name, broker) = (Arc::<str>::from(&*self.name), broker(&self.name));
        let Starting { left, turn, out, metrics, tasks, .. } = starting;
        turn.listed();
        // Decided, and killed before it was acknowledged.
        left.known.iter().for_each(|known| broker.acknowledge(&known.key));
        let token = tasks.token().clone();
        let hand_out = async move {
            let (mut messages, mut handed) = (broker.0.subscribe(), std::collections::BTreeSet::new());
            loop {
                let waiting = messages.borrow_and_update().waiting.clone();
                for (key, input) in waiting {
                    if !handed.insert(key.clone()) {
                        continue;
                    }
                    let receipt =
                        Message { key: key.clone(), broker: Arc::clone(&broker), metrics: metrics.clone() };
                    let taken = Taken {
                        source: Arc::clone(&name),
                        path: format!("{name}/{key}"),
                        risk: left.risks.get(&key).map(|(_, risk)| *risk),
                        key,
                        face: Mark::default(),
                        born: 1_700_000_000_000,
                        body: Body::Here(input),
                        others: Vec::new(),
                        receipt: Box::new(receipt),
                    };
                    if out.send(taken).await.is_err() {
                        return;
                    }
                }
                if messages.changed().await.is_err() {
                    return;
                }
            }
        };
        tasks.spawn(async move {
            let _stopped = token.run_until_cancelled(hand_out).await;
        });
    }
}

struct Message {
    key: Key,
    broker: Arc<Broker>,
    metrics: super::SourceMetrics,
}

impl Receipt for Message {
    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.broker.acknowledge(&self.key) })
    }

    fn end(self: Box<Self>, outcome: Outcome) -> BoxFuture<'static, ()> {
        self.metrics.count(outcome);
        Box::pin(std::future::ready(()))
    }
}
