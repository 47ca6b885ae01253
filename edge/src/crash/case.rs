//! One sample of a source: how it is taken in hand, and what is learnt when it is let go.

use super::law::Item;
use super::{Hand, Held, Risk};

/// A sample on its way through the agent.
#[derive(Debug)]
pub(crate) struct Case {
    pub(super) hand: Hand,
    pub(super) item: Item,
    pub(super) risk: Option<Risk>,
}

impl Case {
    /// How many times the agent has died over it, if it is not to be tried again.
    pub(crate) fn is_aside(&self) -> Option<u32> {
        match self.risk {
            Some(Risk::Aside { deaths }) => Some(deaths),
            Some(Risk::Alone { .. }) | None => None,
        }
    }

    /// Takes it in hand: beside others, or where it is a risk with nothing else; `None` if there is always something else.
    pub(crate) async fn take(&self) -> Option<Held> {
        match self.risk {
            Some(Risk::Alone { .. }) => self.hand.take_alone(&self.item).await,
            _ => Some(self.hand.take(&self.item).await),
        }
    }

    /// Takes it in hand, with nothing else if that can be.
    pub(crate) async fn take_anyhow(&self) -> Held {
        match self.take().await {
            Some(held) => held,
            None => self.hand.take(&self.item).await,
        }
    }

    /// Says that it was a risk and has been lived through, or is another sample by now.
    pub(crate) async fn lived_through(&self) {
        if matches!(self.risk, Some(Risk::Alone { .. })) {
            self.acquit().await;
        }
    }

    /// Says that it was to be set aside, and that the journal says so now.
    pub(crate) async fn is_set_aside(&self) {
        if matches!(self.risk, Some(Risk::Aside { .. })) {
            self.acquit().await;
        }
    }

    async fn acquit(&self) {
        let (hand, item) = (self.hand.clone(), self.item.clone());
        // Writes a small file.
        if tokio::task::spawn_blocking(move || hand.acquit(&item)).await.is_err() {
            tracing::error!("the list of suspects cannot be written");
        }
    }
}
