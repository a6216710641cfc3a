//! What a link shows: a signup or a subscription as it stands now. Reading changes nothing.

use std::sync::Arc;

use super::Flows;
use super::work::Work;
use crate::domain::delivery::MessageKind;
use crate::domain::eligibility::{self, eligible};
use crate::domain::id::{SignupId, SubscriptionId};
use crate::domain::list::{ConfirmBy, Facts, ListId};
use crate::domain::signup::{Confirm, ListState, Refuse, confirm, refuse};
use crate::domain::subscription::State;
use crate::domain::time::Timestamp;
use crate::store::signup::{Signup, SignupList};
use crate::store::subscriber::Subscription;
use crate::store::{self, Tx};

/// A signup as its links show it.
#[derive(Clone, Debug)]
pub struct SignupView {
    /// The signup.
    pub signup: Signup,
    /// Its lists, by name.
    pub lists: Vec<ListView>,
    /// Until when this sender's confirmation mails are held.
    pub held_until: Option<Timestamp>,
    /// Whether those of every sender are.
    pub held_everywhere: bool,
}

/// One list of a signup as its links show it.
#[derive(Clone, Debug)]
pub struct ListView {
    /// Its row.
    pub row: SignupList,
    /// What the list said at the signup.
    pub facts: Arc<Facts>,
    /// Whether the list has been taken out of the configuration.
    pub closed: bool,
    /// The subscription, if there is one.
    pub subscription: Option<Subscription>,
    /// Whether the person may be mailed for it now.
    pub eligible: bool,
    /// What pressing "confirm" does.
    pub confirm: Confirm,
    /// What pressing "no" does.
    pub refuse: Refuse,
}

impl ListView {
    /// Tells whether the person is subscribed, through whichever signup.
    pub fn is_subscribed(&self) -> bool {
        let state = self.subscription.as_ref().map(|s| s.state);
        matches!(state, Some(State::Confirmed | State::Attested))
    }
}

impl SignupView {
    /// Returns the lists that were in the mail.
    pub fn offered(&self) -> impl Iterator<Item = &ListView> {
        self.lists
            .iter()
            .filter(|list| list.row.state != ListState::Withheld)
    }

    /// Takes it that nobody may be mailed while what a restore lost is open.
    pub(super) async fn mind_a_restore(&mut self, tx: &mut Tx) -> Result<(), store::Error> {
        let any = self.lists.iter().any(|list| list.eligible);
        if any && !tx.open_windows().await?.is_empty() {
            self.lists.iter_mut().for_each(|list| list.eligible = false);
        }
        Ok(())
    }

    /// Returns the page where one signs up for the first of the lists that has one and still exists.
    pub fn signup_url(&self) -> Option<String> {
        let lists = self.lists.iter().filter(|list| !list.closed);
        lists
            .flat_map(|list| list.facts.list.signup_url.clone())
            .next()
    }
}

/// A subscription as its unsubscribe link shows it.
#[derive(Clone, Debug)]
pub struct SubscriptionView {
    /// The subscription.
    pub subscription: Subscription,
    /// The list as it is now, or was when it was closed.
    pub facts: Arc<Facts>,
    /// Whether the list has been taken out of the configuration.
    pub closed: bool,
}

/// Reads a signup.
///
/// # Errors
/// When the database cannot be read.
pub async fn signup(flows: &Flows, id: SignupId) -> Result<Option<SignupView>, super::Error> {
    let mut tx = flows.pool.read().await?;
    let mut work = Work::read_signups(flows, &mut tx, &[id]).await?;
    work.read_ledgers(&mut tx).await?;
    let mut view = look(&work, id, flows.clock.now());
    if let Some(view) = &mut view {
        view.mind_a_restore(&mut tx).await?;
    }
    Ok(view)
}

/// Returns the list that opening the confirm link confirms: the only one that the mail asked for, if it chose so.
///
/// # Errors
/// When the database cannot be read.
pub async fn confirmed_by_link(
    flows: &Flows,
    view: &SignupView,
) -> Result<Option<ListId>, super::Error> {
    let chose = |list: &&ListView| list.facts.list.confirm == ConfirmBy::Link;
    if !view.lists.iter().any(|list| chose(&list)) {
        return Ok(None);
    }
    let mut tx = flows.pool.read().await?;
    let mails = tx.messages_to(view.signup.subscriber).await?;
    // What became of the lists since does not change what the mail said.
    let mut asked = mails.iter().filter(|mail| {
        mail.kind == MessageKind::Confirmation && mail.signup == Some(view.signup.id)
    });
    let Some([only]) = asked.next().map(|mail| mail.lists.as_slice()) else {
        return Ok(None);
    };
    let mut lists = view.lists.iter().filter(chose);
    let list = lists.find(|list| list.row.list == only.list);
    Ok(list.map(|list| list.row.list.clone()))
}

/// Returns a signup as its links show it, from rows that were read.
pub(super) fn look(work: &Work, id: SignupId, now: Timestamp) -> Option<SignupView> {
    let signup = work.signup(id)?;
    let in_force = work.in_force();
    let lists = work.lists(id).iter().filter_map(|row| {
        let standing = work.standing(signup, row);
        let subscription = work.subscription(signup.subscriber, &row.list);
        let closed = in_force.is_closed(&row.list);
        let eligible = eligible(eligibility::Standing {
            state: standing.subscription,
            restricted: subscription.is_some_and(|s| s.restricted_at.is_some()),
            needs_renewal: subscription.is_some_and(|s| in_force.is_outdated(&s.list, s.revision)),
            list_closed: closed,
            restored: false,
        });
        Some(ListView {
            facts: work.facts(row).ok()?.clone(),
            closed,
            subscription: subscription.cloned(),
            eligible: eligible.is_ok(),
            confirm: confirm(standing, now),
            refuse: refuse(standing),
            row: row.clone(),
        })
    });
    let ledger = work.ledger(signup.mailbox);
    Some(SignupView {
        lists: lists.collect(),
        held_until: ledger.held_until(&signup.sender, now),
        held_everywhere: ledger.is_held_everywhere(now),
        signup: signup.clone(),
    })
}

/// Reads a subscription, or the one that the same address has now if it was erased.
///
/// # Errors
/// When the database cannot be read.
pub async fn subscription(
    flows: &Flows,
    id: SubscriptionId,
) -> Result<Option<SubscriptionView>, super::Error> {
    let mut tx = flows.pool.read().await?;
    let mut found = tx.subscriptions(&[id]).await?;
    if found.is_empty() {
        let now = tx.subscriptions_after_erasure(&[id]).await?;
        let ids: Vec<_> = now.into_iter().filter_map(|(_, now)| now).collect();
        found = tx.subscriptions(&ids).await?;
    }
    let Some(subscription) = found.pop() else {
        return Ok(None);
    };
    let in_force = flows.in_force_for(&mut tx, [&subscription.list]).await?;
    let entry = in_force.catalog.list(&subscription.list);
    Ok(entry.map(|entry| SubscriptionView {
        facts: entry.facts.clone(),
        closed: entry.closed,
        subscription,
    }))
}
