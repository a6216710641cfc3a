//! What is known of one address at one sender.

use super::{Error, Keys};
use crate::domain::address::Address;
use crate::domain::eligibility::{Ineligible, Standing, eligible};
use crate::domain::event::Sequenced;
use crate::domain::ledger::Ledger;
use crate::domain::list::SenderId;
use crate::store::Pool;
use crate::store::message::Message;
use crate::store::signup::{Signup, SignupList};
use crate::store::subscriber::{Subscriber, Subscription};

/// Everything that is stored about a subscriber.
#[derive(Clone, Debug)]
pub struct Known {
    /// The subscriber.
    pub subscriber: Subscriber,
    /// States per list, each with whether it may be mailed now.
    pub subscriptions: Vec<(Subscription, Result<(), Ineligible>)>,
    /// Signups, oldest first, each with its lists.
    pub signups: Vec<(Signup, Vec<SignupList>)>,
    /// Mails, oldest first.
    pub messages: Vec<Message>,
    /// Sequenced events, oldest first.
    pub events: Vec<Sequenced>,
    /// What the limits remember of the mailbox.
    pub ledger: Ledger,
}

/// Reads what is known of an address at a sender.
///
/// # Errors
/// When the database cannot be read.
pub async fn show(
    pool: &Pool,
    keys: &Keys,
    sender: &SenderId,
    address: &Address,
) -> Result<Option<Known>, Error> {
    let mut tx = pool.read().await?;
    let identity = keys.pepper.identity(sender, address);
    let Some(subscriber) = tx.subscriber_at(sender, identity).await? else {
        return Ok(None);
    };
    let id = subscriber.id;
    let mut signups = Vec::new();
    for signup in tx.signups_of(id).await? {
        let lists = tx.signup_lists(&[signup.id]).await?;
        signups.push((signup, lists));
    }
    let mut subscriptions = Vec::new();
    let registered = tx.registered_lists().await?;
    let restored = !tx.open_windows().await?.is_empty();
    for subscription in tx.subscriptions_of(&[id]).await? {
        let list = registered.iter().find(|list| list.id == subscription.list);
        let standing = Standing {
            state: Some(subscription.state),
            restricted: subscription.restricted_at.is_some(),
            needs_renewal: list.is_some_and(|list| subscription.revision < list.material),
            list_closed: list.is_none_or(|list| list.closed_at.is_some()),
            restored,
        };
        subscriptions.push((subscription, eligible(standing)));
    }
    let mut ledgers = tx.ledgers(&[subscriber.mailbox].into()).await?;
    Ok(Some(Known {
        messages: tx.messages_to(id).await?,
        events: tx.events_of(id).await?,
        ledger: ledgers.remove(&subscriber.mailbox).unwrap_or_default(),
        subscriptions,
        signups,
        subscriber,
    }))
}
