//! Lists that another process has brought into force, when this one was not reloaded yet.
//!
//! What the database says of them is in force. Their links work here; their mails wait for a process that knows them, and
//! with them their sender's relays and their languages.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Flows, InForce};
use crate::domain::delivery::retry::LIFE;
use crate::domain::list::{Facts, ListId};
use crate::domain::time::Timestamp;
use crate::store::message::Message;
use crate::store::{self, Tx};
use crate::telemetry::logs::field;

/// How long their mails are left to others.
const WAIT: Duration = Duration::from_secs(60);

impl Flows {
    /// Returns what is in force for these lists: what is known here, and of those that are not open here what is registered.
    pub(super) async fn in_force_for(
        &self,
        tx: &mut Tx,
        lists: impl IntoIterator<Item = &ListId>,
    ) -> Result<Arc<InForce>, store::Error> {
        let here = self.in_force();
        if !lists.into_iter().any(|list| here.is_closed(list)) {
            return Ok(here);
        }
        let mut everywhere = InForce::clone(&here);
        for list in tx.registered_lists().await? {
            if here.is_closed(&list.id) {
                let facts = self.facts(tx, list.facts).await?;
                let closed = list.closed_at.is_some();
                everywhere.catalog.add(Facts::clone(&facts), closed);
                everywhere.material.insert(list.id, list.material);
            }
        }
        Ok(Arc::new(everywhere))
    }

    /// Returns until when a mail is left to another process, if only others know its lists. No longer than any mail is tried:
    /// then the facts that were kept must do.
    pub(super) fn leave(
        &self,
        message: &Message,
        in_force: &InForce,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let here = self.in_force();
        let mut lists = message.lists.iter().map(|about| &about.list);
        let list = lists.find(|list| here.is_closed(list) && !in_force.is_closed(list))?;
        let told = self.told.lock();
        if told
            .unwrap_or_else(PoisonError::into_inner)
            .insert(list.clone())
        {
            tracing::warn!(
                { field::LIST } = list.as_str(),
                "another process has this list and this one does not: its mails are left to others; give this one the same configuration and reload it"
            );
        }
        (now < message.created_at + LIFE).then_some(now + WAIT)
    }
}
