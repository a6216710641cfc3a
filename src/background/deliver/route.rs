//! Which relay takes which mail: the first in the order of its sender that is not stuck.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::task::JoinSet;

use super::lane::{Lane, Refusal};
use crate::domain::list::SenderId;
use crate::domain::time::Timestamp;
use crate::flow::Flows;
use crate::smtp::{Relay, SettingsError};

/// What delivery is told of one relay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is and how to speak to it.
    pub smtp: crate::smtp::Settings,
    /// Mails a second at most.
    pub rate: Option<u32>,
}

/// The names of the relays that take a sender's mails, in their order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Where the sender does not say.
    pub usual: Vec<String>,
    /// Where it does.
    pub of_sender: BTreeMap<SenderId, Vec<String>>,
}

/// All relays.
pub struct Routes {
    lanes: Vec<Arc<Lane>>,
    order: RwLock<Order>,
}

impl Routes {
    /// Prepares the relays; connects to none.
    ///
    /// # Errors
    /// When a setting cannot be used; the message names it.
    pub fn new(
        flows: &Arc<Flows>,
        settings: Vec<Settings>,
        order: Order,
    ) -> Result<Self, SettingsError> {
        let mut lanes = Vec::with_capacity(settings.len());
        for one in settings {
            let sessions = one.smtp.sessions;
            let relay = Relay::new(one.smtp)?;
            lanes.push(Arc::new(Lane::new(
                flows.clone(),
                one.name,
                relay,
                sessions,
                one.rate,
            )));
        }
        Ok(Self {
            lanes,
            order: RwLock::new(order),
        })
    }

    /// Returns the name of a relay in an order that was not configured when the process started.
    pub fn lacking<'o>(&self, order: &'o Order) -> Option<&'o str> {
        let named = order.of_sender.values().flatten().chain(&order.usual);
        let mut lacking = named.filter(|name| !self.lanes.iter().any(|lane| lane.name() == *name));
        lacking.next().map(String::as_str)
    }

    /// Puts another order in force.
    pub fn set_order(&self, order: Order) {
        *self.order.write().unwrap_or_else(PoisonError::into_inner) = order;
    }

    /// Returns how many sessions there are with all relays together.
    pub(super) fn sessions(&self) -> usize {
        self.lanes.iter().map(|lane| lane.sessions()).sum()
    }

    /// Returns every relay.
    pub(super) fn lanes(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// Knocks at relays that were left alone long enough; returns whether there was any.
    pub(super) fn knock(&self, now: Timestamp, sending: &mut JoinSet<()>) -> bool {
        let knocking = self.lanes.iter().filter_map(|lane| lane.knock(now));
        let before = sending.len();
        knocking.for_each(|knock| drop(sending.spawn(knock)));
        sending.len() > before
    }

    /// Returns how many mails may be claimed now: as many as the relays take that are next for some sender.
    pub(super) fn room(&self, now: Timestamp) -> usize {
        let order = self.order();
        let orders = order.of_sender.values().chain([&order.usual]);
        let next = orders.filter_map(|names| {
            self.of(names)
                .find_map(|lane| lane.room(now).map(|room| (lane.name(), room)))
        });
        let rooms: BTreeMap<_, _> = next.collect();
        rooms.into_values().fold(0, usize::saturating_add)
    }

    /// Takes the first relay for a mail of this sender to this domain that is not stuck.
    ///
    /// # Errors
    /// When there is none, or its cap is reached: the time at which to try again.
    pub(super) fn take(
        &self,
        sender: &SenderId,
        domain: &str,
        now: Timestamp,
    ) -> Result<Arc<Lane>, Timestamp> {
        let order = self.order();
        let names = order.of_sender.get(sender).unwrap_or(&order.usual);
        let mut later = None::<Timestamp>;
        for lane in self.of(names) {
            match lane.take(domain, now, self.lanes.len() > 1) {
                Ok(()) => return Ok(lane.clone()),
                // A cap would hold for nobody if what is over it went another way.
                Err(Refusal::Capped(at)) => return Err(at),
                Err(Refusal::Stuck(at)) => {
                    later = Some(later.map_or(at, |soonest| soonest.min(at)));
                }
            }
        }
        Err(later.unwrap_or(now))
    }

    /// Returns the relays of these names, in their order.
    fn of(&self, names: &[String]) -> impl Iterator<Item = &Arc<Lane>> {
        let named = |name| self.lanes.iter().find(move |lane| lane.name() == name);
        names.iter().filter_map(named)
    }

    fn order(&self) -> RwLockReadGuard<'_, Order> {
        self.order.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many mails wait for others of a domain that is not known to be quick.
    pub(super) fn held_back(&self) -> usize {
        self.lanes.iter().map(|lane| lane.held_back()).sum()
    }

    /// Lets nobody begin any more.
    pub(super) fn close(&self) {
        self.lanes.iter().for_each(|lane| lane.close());
    }

    /// Says goodbye to the relays on connections that are not in use.
    pub(super) async fn rest(&self) {
        for lane in &self.lanes {
            lane.relay().close().await;
        }
    }
}
