//! Mails: queued by flows, claimed under a lease, settled by whoever holds the claim.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::types::Json;
use uuid::Uuid;

use super::address::{ledgers, reading};
use super::set::{Rows, Set};
use super::signup::{WithAll, with_all};
use super::subscriber::{Subscriber, subscribers};
use super::types::{document, keyed, named, parsed};
use super::{Error, Tx, on};
use crate::domain::delivery::{About, Answer, MessageKind, MessageState, Pinned};
use crate::domain::id::{MessageId, SignupId, SubscriberId};
use crate::domain::ledger::Ledger;
use crate::domain::list::SenderId;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

/// One mail that must be sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Why it is sent.
    pub kind: MessageKind,
    /// Its state.
    pub state: MessageState,
    /// By which sender.
    pub sender: SenderId,
    /// To whom.
    pub subscriber: SubscriberId,
    /// The mailbox, for locks and limits.
    pub mailbox: Keyed,
    /// For which signup.
    pub signup: Option<SignupId>,
    /// What it is about.
    pub lists: Vec<About>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it is to be tried.
    pub due_at: Timestamp,
    /// How many attempts reached the relay.
    pub attempts: i64,
    /// How many of these had no answer to the dot.
    pub ambiguous: i64,
    /// How many claims in a row ended without an outcome.
    pub lost: i64,
    /// What makes its bytes, once claimed.
    pub pinned: Option<Pinned>,
    /// What the relay answered last.
    pub outcome: Option<Answer>,
    /// When it ended.
    pub settled_at: Option<Timestamp>,
}

pub(super) type MessageRow = (
    Uuid,
    String,
    String,
    String,
    Uuid,
    Vec<u8>,
    Option<Uuid>,
    Json<Vec<About>>,
    Timestamp,
    Timestamp,
    i64,
    i64,
    i64,
    Option<Json<Pinned>>,
    Option<Json<Answer>>,
    Option<Timestamp>,
);

impl Message {
    pub(super) fn read(row: MessageRow) -> Result<Self, Error> {
        Ok(Self {
            id: MessageId(row.0),
            kind: named(&row.1, MessageKind::from_name)?,
            state: named(&row.2, MessageState::from_name)?,
            sender: parsed(&row.3)?,
            subscriber: SubscriberId(row.4),
            mailbox: keyed(row.5)?,
            signup: row.6.map(SignupId),
            lists: row.7.0,
            created_at: row.8,
            due_at: row.9,
            attempts: row.10,
            ambiguous: row.11,
            lost: row.12,
            pinned: row.13.map(|pinned| pinned.0),
            outcome: row.14.map(|outcome| outcome.0),
            settled_at: row.15,
        })
    }

    pub(super) fn read_all(rows: &Rows) -> Result<Vec<Self>, Error> {
        rows.read()?.into_iter().map(Self::read).collect()
    }
}

/// The token and end of a claim.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Random, new for each claim: whoever does not know it cannot settle.
    pub token: Uuid,
    /// When others may claim.
    pub lease_until: Timestamp,
}

/// How a claimed mail ends or goes on.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Which mail.
    pub id: MessageId,
    /// Under which claim.
    pub claim: Uuid,
    /// The state that follows.
    pub state: MessageState,
    /// When to try again, if it is queued.
    pub due_at: Timestamp,
    /// Attempts so far.
    pub attempts: i64,
    /// Of these, without an answer to the dot.
    pub ambiguous: i64,
    /// What the relay answered.
    pub outcome: Option<Answer>,
    /// When.
    pub at: Timestamp,
}

/// What deciding about picked mails rests on.
pub struct Picked {
    /// The ledgers of the mailboxes that were locked.
    pub ledgers: BTreeMap<Keyed, Ledger>,
    /// The signups that they answer.
    pub signups: WithAll,
    /// To whom those go that are not confirmations: of these the signup says it.
    pub people: Vec<Subscriber>,
}

fn set_of(claims: &[(MessageId, Uuid)]) -> Set {
    Set::new()
        .uuid("id", claims.iter().map(|(id, _)| id.0))
        .uuid("claim", claims.iter().map(|(_, claim)| *claim))
}

impl Tx {
    /// Queues mails.
    pub async fn queue(&mut self, rows: &[Message]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str = "insert into message (id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at)
            select id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at from {set} order by n";
        let set = Set::new()
            .uuid("id", rows.iter().map(|m| m.id.0))
            .text("kind", rows.iter().map(|m| m.kind.as_str().to_owned()))
            .text("state", rows.iter().map(|m| m.state.as_str().to_owned()))
            .text("sender", rows.iter().map(|m| m.sender.to_string()))
            .uuid("subscriber", rows.iter().map(|m| m.subscriber.0))
            .bytes("mailbox", rows.iter().map(|m| m.mailbox.0.to_vec()))
            .uuid("signup", rows.iter().map(|m| m.signup.map(|id| id.0)))
            .json("lists", rows.iter().map(|m| document(&m.lists)))
            .time("created_at", rows.iter().map(|m| m.created_at))
            .time("due_at", rows.iter().map(|m| m.due_at));
        self.write(SQL, set).await
    }

    /// Returns the time by which leases are judged: of all replicas one clock, the server's; the only process's own, which no
    /// step of the machine's clock may move, is `steady`.
    pub async fn lease_clock(&mut self, steady: Timestamp) -> Result<Timestamp, Error> {
        Ok(self.server_clock().await?.unwrap_or(steady))
    }

    /// Locks the mailboxes of mails that answer signups, in the order of their keys, and returns all that deciding about
    /// picked mails rests on.
    pub async fn lock_picked(&mut self, picked: &[Message]) -> Result<Picked, Error> {
        let of_signups = picked.iter().filter(|message| message.signup.is_some());
        let mailboxes = of_signups.map(|message| message.mailbox).collect();
        self.hold_mailboxes(&mailboxes).await?;
        let signups: Vec<_> = picked.iter().filter_map(|m| m.signup).collect();
        let others = picked
            .iter()
            .filter(|m| m.kind != MessageKind::Confirmation);
        let people: Vec<_> = others.map(|m| m.subscriber).collect();
        let [signups, lists, subscriptions] = with_all(&signups);
        let asked = [
            reading(&mailboxes),
            signups,
            lists,
            subscriptions,
            subscribers(&people),
        ];
        let [locked, signups, lists, subscriptions, people] = self.ask(asked).await?;
        Ok(Picked {
            ledgers: ledgers(&locked)?,
            signups: WithAll::read([signups, lists, subscriptions])?,
            people: Subscriber::read_all(&people)?,
        })
    }

    /// Claims picked mails and pins what makes their bytes.
    pub async fn claim(&mut self, rows: &[&Message], claim: Claim) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str =
            "update message set state = 'claimed', claim = s.claim, lease_until = s.lease_until,
              kind = s.kind,
              claims = message.claims + 1, lists = s.lists, pinned = s.pinned
            from {set} where message.id = s.id";
        let pinned = |m: &&Message| m.pinned.as_ref().and_then(document);
        let set = Set::new()
            .uuid("id", rows.iter().map(|m| m.id.0))
            .uuid("claim", rows.iter().map(|_| claim.token))
            .time("lease_until", rows.iter().map(|_| claim.lease_until))
            .text("kind", rows.iter().map(|m| m.kind.as_str().to_owned()))
            .json("lists", rows.iter().map(|m| document(&m.lists)))
            .json("pinned", rows.iter().map(pinned));
        self.write(SQL, set).await
    }

    /// Returns the claims that still hold and whose leases reach so far.
    pub async fn held(
        &mut self,
        claims: &[(MessageId, Uuid)],
        until: Timestamp,
    ) -> Result<Vec<(MessageId, Uuid)>, Error> {
        const SQL: &str = "select message.id, message.claim from {set}
            join message on message.id = s.id and message.claim = s.claim and message.lease_until >= s.until";
        let set = set_of(claims).time("until", claims.iter().map(|_| until));
        self.claims(SQL, set).await
    }

    /// Moves the end of leases, never backwards, and returns the claims that still hold.
    pub async fn renew(
        &mut self,
        claims: &[(MessageId, Uuid)],
        lease_until: Timestamp,
    ) -> Result<Vec<(MessageId, Uuid)>, Error> {
        const SQL: &str = "update message set lease_until =
              case when message.lease_until > s.lease_until then message.lease_until else s.lease_until end
            from {set} where message.id = s.id and message.claim = s.claim
            returning message.id, message.claim";
        let set = set_of(claims).time("lease_until", claims.iter().map(|_| lease_until));
        self.claims(SQL, set).await
    }

    async fn claims(
        &mut self,
        sql: &'static str,
        set: Set,
    ) -> Result<Vec<(MessageId, Uuid)>, Error> {
        let rows: Vec<(Uuid, Uuid)> = self.rows(sql, set).await?;
        let claims = rows.into_iter().map(|(id, claim)| (MessageId(id), claim));
        Ok(claims.collect())
    }

    /// Ends mails that were picked and are not to be sent.
    pub async fn end_picked(
        &mut self,
        rows: &[(MessageId, MessageState)],
        at: Timestamp,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str = "update message set state = s.state, settled_at = s.at
            from {set} where message.id = s.id";
        let set = Set::new()
            .uuid("id", rows.iter().map(|(id, _)| id.0))
            .text(
                "state",
                rows.iter().map(|(_, state)| state.as_str().to_owned()),
            )
            .time("at", rows.iter().map(|_| at));
        self.write(SQL, set).await
    }

    /// Settles claimed mails and returns those whose claim still held; for the others it is too late.
    pub async fn settle(&mut self, rows: &[&Settlement]) -> Result<Vec<MessageId>, Error> {
        const SQL: &str = "update message set state = s.state, due_at = s.due_at, attempts = s.attempts,
              ambiguous = s.ambiguous, outcome = s.outcome, settled_at = s.settled_at, claim = null, lease_until = null, lost = 0
            from {set} where message.id = s.id and message.claim = s.claim
            returning message.id";
        let outcome = |s: &&Settlement| s.outcome.as_ref().and_then(document);
        let settled = |s: &&Settlement| (s.state != MessageState::Queued).then_some(s.at);
        let set = Set::new()
            .uuid("id", rows.iter().map(|s| s.id.0))
            .uuid("claim", rows.iter().map(|s| s.claim))
            .text("state", rows.iter().map(|s| s.state.as_str().to_owned()))
            .time("due_at", rows.iter().map(|s| s.due_at))
            .int("attempts", rows.iter().map(|s| s.attempts))
            .int("ambiguous", rows.iter().map(|s| s.ambiguous))
            .json("outcome", rows.iter().map(outcome))
            .time("settled_at", rows.iter().map(settled));
        let rows: Vec<(Uuid,)> = self.rows(SQL, set).await?;
        Ok(rows.into_iter().map(|(id,)| MessageId(id)).collect())
    }

    /// Returns when these mails have ended, if they have; those that were erased are left out.
    pub async fn settled_at(
        &mut self,
        ids: &BTreeSet<MessageId>,
    ) -> Result<BTreeMap<MessageId, Option<Timestamp>>, Error> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        const SQL: &str = "select message.id, message.settled_at from {set}
            join message on message.id = s.id";
        let set = Set::new().uuid("id", ids.iter().map(|id| id.0));
        let rows: Vec<(Uuid, Option<Timestamp>)> = self.rows(SQL, set).await?;
        Ok(rows
            .into_iter()
            .map(|(id, at)| (MessageId(id), at))
            .collect())
    }

    /// Returns the mails to a subscriber, oldest first.
    pub async fn messages_to(&mut self, id: SubscriberId) -> Result<Vec<Message>, Error> {
        const SQL: &str = "select id, kind, state, sender, subscriber, mailbox, signup, lists, created_at, due_at,
              attempts, ambiguous, lost, pinned, outcome, settled_at
            from message where subscriber = $1 order by created_at, id";
        let rows: Vec<MessageRow> = on!(self, |conn| sqlx::query_as(SQL)
            .bind(id.0)
            .fetch_all(conn)
            .await?);
        rows.into_iter().map(Message::read).collect()
    }
}
