//! Somebody presses "confirm": each list that is still open becomes a confirmed subscription.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::view::{SignupView, look};
use super::work::{Work, blank};
use super::{Flows, mail};
use crate::clock::random;
use crate::domain::consent::Network;
use crate::domain::delivery::{About, MessageKind};
use crate::domain::event::Event;
use crate::domain::evidence::Part;
use crate::domain::id::SignupId;
use crate::domain::list::{ConfirmBy, ListId};
use crate::domain::signup::{Confirm, ListState, confirm as decide};
use crate::domain::subscription::Move;
use crate::domain::time::Timestamp;
use crate::store::signup::SignupList;
use crate::store::{Error, Tx};
use crate::token::{KeyId, Purpose};

/// Which lists are meant.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The only list that was offered; none if there are several.
    Only,
    /// Every list that was offered.
    All,
    /// These.
    Lists(BTreeSet<ListId>),
}

/// One press.
#[derive(Clone, Debug)]
pub struct Press {
    /// On the link of this signup.
    pub signup: SignupId,
    /// For these lists.
    pub choice: Choice,
    /// By the button, or by opening the link where the list allows it.
    pub by: ConfirmBy,
    /// The key that signed the link.
    pub key: KeyId,
    /// Where the press came from, as far as the policy keeps it.
    pub network: Network,
}

/// What a press did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The signup as it stands now; none if nothing is known of it.
    pub view: Option<SignupView>,
    /// The lists that this press confirmed.
    pub confirmed: Vec<ListId>,
}

/// Confirms in one transaction, in the order of the presses.
///
/// # Errors
/// When the database refuses; then nothing is confirmed.
pub async fn confirm(
    flows: Arc<Flows>,
    mut tx: Tx,
    batch: Arc<[Press]>,
) -> Result<Vec<Outcome>, Error> {
    let ids: Vec<SignupId> = batch.iter().map(|press| press.signup).collect();
    let mut work = Work::lock_signups(&flows, &mut tx, &ids).await?;
    let now = flows.clock.now();
    let mut outcomes = Vec::with_capacity(batch.len());
    for press in batch.iter() {
        let confirmed = one(&flows, &mut work, press, now)?;
        let view = look(&work, press.signup, now);
        outcomes.push(Outcome { view, confirmed });
    }
    work.commit(&flows, tx).await?;
    Ok(outcomes)
}

fn one(
    flows: &Flows,
    work: &mut Work,
    press: &Press,
    now: Timestamp,
) -> Result<Vec<ListId>, Error> {
    let mut confirmed = Vec::new();
    let Some(signup) = work.signup(press.signup).cloned() else {
        return Ok(confirmed);
    };
    let in_mail = |list: &&SignupList| {
        !matches!(
            list.state,
            ListState::Withheld | ListState::AlreadyConfirmed
        )
    };
    let offered = work.lists(signup.id).iter();
    let offered: Vec<_> = offered.filter(in_mail).cloned().collect();
    for list in &offered {
        let meant = match &press.choice {
            Choice::Only => offered.len() == 1,
            Choice::All => true,
            Choice::Lists(lists) => lists.contains(&list.list),
        };
        if !meant || work.in_force().is_closed(&list.list) {
            continue;
        }
        let standing = work.standing(&signup, list);
        match decide(standing, now) {
            // What renews a consent is an act, whatever the list chose.
            Confirm::Yes if standing.renews && press.by == ConfirmBy::Link => continue,
            Confirm::Yes => {}
            Confirm::Already => {
                work.end_as_confirmed(&signup, &list.list, now);
                continue;
            }
            _ => continue,
        }
        let facts = work.facts(list)?.clone();
        let revision = facts.list.revision;
        let subscription = blank(now, signup.subscriber, &list.list, &signup, revision);
        let by = match press.by {
            ConfirmBy::Button => "button",
            ConfirmBy::Link => "link opened; not proof of a human act",
        };
        work.move_subscription(flows, now, Move::Confirm, subscription, |mut event| {
            event.sender = Some(signup.sender.clone());
            let event = event
                .signup(signup.id)
                .with("by", by)
                .with("revision", revision);
            evidence(event, press, list)
        });
        work.end_list(signup.id, &list.list, ListState::Confirmed, None, now);
        if facts.list.welcome {
            work.mails.push(mail(
                MessageKind::Welcome,
                now,
                &signup.sender,
                signup.subscriber,
                signup.mailbox,
                Some(signup.id),
                vec![About {
                    list: list.list.clone(),
                    facts: list.facts,
                }],
            ));
        }
        confirmed.push(list.list.clone());
    }
    if !confirmed.is_empty() {
        work.change_ledger(signup.mailbox)
            .confirmed(&signup.sender, signup.id);
    }
    Ok(confirmed)
}

/// Keeps what the confirming request was.
fn evidence(event: Event, press: &Press, list: &SignupList) -> Event {
    let method = match press.by {
        ConfirmBy::Button => "POST",
        ConfirmBy::Link => "GET",
    };
    let request = json!({
        "method": method, "route": Purpose::Confirm.path(), "link_key": press.key.to_string(),
        "signup": list.signup, "facts": list.facts,
    });
    let event = event.evidence(Part::Request, random(), &request);
    match &press.network {
        nothing if *nothing == Network::default() => event,
        network => event.evidence(Part::Network, random(), network),
    }
}
