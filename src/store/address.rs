//! Mailboxes: the rows that order everything about an address.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::types::Json;
use uuid::Uuid;

use super::set::{Rows, Set};
use super::subscriber::Subscriber;
use super::types::{document, keyed, parsed};
use super::{Error, Tx};
use crate::domain::delivery::About;
use crate::domain::id::{MessageId, SignupId, SubscriptionId};
use crate::domain::ledger::{First, Ledger};
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;

/// Returns the statement that locks mailboxes in the order of their keys, making those that are new, for [`Tx::ask`]: of each
/// that is made the mail is the first. Claiming it has nothing to write here then.
pub(super) fn locking_or_making(mailboxes: &BTreeMap<Keyed, MessageId>) -> (&'static str, Set) {
    const SQL: &str = "insert into address (mailbox, first_mail)
        select mailbox, first_mail from {set} where true order by n
        on conflict (mailbox) do update set ledger = address.ledger";
    let set = Set::new()
        .bytes("mailbox", mailboxes.keys().map(|m| m.0.to_vec()))
        .uuid("first_mail", mailboxes.values().map(|mail| mail.0));
    (SQL, set)
}

/// The text that reads these mailboxes; [`ledgers`] reads its rows.
macro_rules! ledgers_of {
    ($mailboxes:literal) => {
        concat!(
            "select a.mailbox, a.ledger, m.id, m.sender, m.lists, m.settled_at, m.signup,
              exists (select 1 from signup_list l where l.signup = m.signup and l.state = 'confirmed')
            from address a left join message m on m.id = a.first_mail
            where a.mailbox in (", $mailboxes, ")"
        )
    };
}

/// Returns the statement that reads mailboxes, for [`Tx::ask`].
pub(super) fn reading(mailboxes: &BTreeSet<Keyed>) -> (&'static str, Set) {
    const SQL: &str = ledgers_of!("select s.mailbox from {set}");
    (SQL, set_of(mailboxes))
}

/// Returns the statement that reads the mailboxes of signups, for [`Tx::ask`].
pub(super) fn reading_of_signups(ids: &[SignupId]) -> (&'static str, Set) {
    const SQL: &str =
        ledgers_of!("select signup.mailbox from {set} join signup on signup.id = s.id");
    (SQL, Set::new().uuid("id", ids.iter().map(|id| id.0)))
}

fn set_of(mailboxes: &BTreeSet<Keyed>) -> Set {
    Set::new().bytes("mailbox", mailboxes.iter().map(|m| m.0.to_vec()))
}

/// The texts that lock mailboxes, and that make and lock those which are not there: an erasure has forgotten them, while
/// another spelling of the address goes on.
macro_rules! holding {
    ($mailboxes:literal) => {
        [
            concat!(
                "select mailbox from (",
                $mailboxes,
                ") wanted except select mailbox from
                  (select mailbox from address where mailbox in (",
                $mailboxes,
                ") order by mailbox for update) held"
            ),
            concat!(
                "insert into address (mailbox, ledger) select distinct mailbox, '{}'::jsonb from (",
                $mailboxes,
                ") wanted
                order by mailbox on conflict (mailbox) do update set ledger = address.ledger"
            ),
        ]
    };
}

/// On PostgreSQL a statement that waits for a lock sees all but the locked rows as they were before. So mailboxes are locked
/// first, and what a decision rests on is read by the next statement. On SQLite the transaction holds the one write lock
/// that there is.
impl Tx {
    /// Locks the mailboxes of subscribers in the order of their keys and reads their ledgers.
    pub async fn lock_mailboxes(
        &mut self,
        people: &[Subscriber],
    ) -> Result<BTreeMap<Keyed, Ledger>, Error> {
        self.hold_mailboxes_of(people).await?;
        let mailboxes = people.iter().map(|person| person.mailbox).collect();
        self.ledgers(&mailboxes).await
    }

    /// Locks the mailboxes of subscribers in the order of their keys, whatever their ledgers say.
    pub async fn hold_mailboxes_of(&mut self, people: &[Subscriber]) -> Result<(), Error> {
        const SQL: [&str; 2] =
            holding!("select p.mailbox from {set} join subscriber p on p.id = s.id");
        let set = || Set::new().uuid("id", people.iter().map(|person| person.id.0));
        self.hold(SQL, set).await
    }

    /// Locks the mailboxes of mails that this transaction has locked, in the order of their keys.
    pub async fn hold_mailboxes(&mut self, mailboxes: &BTreeSet<Keyed>) -> Result<(), Error> {
        const SQL: [&str; 2] = holding!("select s.mailbox from {set}");
        self.hold(SQL, || set_of(mailboxes)).await
    }

    /// Locks the mailboxes of signups in the order of their keys.
    pub(super) async fn hold_mailboxes_of_signups(
        &mut self,
        ids: &[SignupId],
    ) -> Result<(), Error> {
        const SQL: [&str; 2] =
            holding!("select signup.mailbox from {set} join signup on signup.id = s.id");
        let set = || Set::new().uuid("id", ids.iter().map(|id| id.0));
        self.hold(SQL, set).await
    }

    /// Locks the mailboxes of subscriptions, of erased ones those of the same addresses, in the order of their keys.
    pub async fn lock_mailboxes_of_subscriptions(
        &mut self,
        ids: &[SubscriptionId],
    ) -> Result<(), Error> {
        const SQL: [&str; 2] = holding!(
            "select p.mailbox from {set} join subscription n on n.id = s.id join subscriber p on p.id = n.subscriber
            union all select p.mailbox from {set} join tombstone t on t.subscription = s.id
              join subscriber p on p.sender = t.sender and p.identity = t.identity"
        );
        let set = || Set::new().uuid("id", ids.iter().map(|id| id.0));
        self.hold(SQL, set).await
    }

    async fn hold(
        &mut self,
        [lock, make]: [&'static str; 2],
        set: impl Fn() -> Set,
    ) -> Result<(), Error> {
        if let Tx::Postgres(_) = self {
            let missing: Vec<(Vec<u8>,)> = self.rows(lock, set()).await?;
            if !missing.is_empty() {
                self.write(make, set()).await?;
            }
        }
        Ok(())
    }

    /// Reads the ledgers of mailboxes without locking them.
    pub async fn ledgers(
        &mut self,
        mailboxes: &BTreeSet<Keyed>,
    ) -> Result<BTreeMap<Keyed, Ledger>, Error> {
        let [rows] = self.ask([reading(mailboxes)]).await?;
        ledgers(&rows)
    }

    /// Writes ledgers of mailboxes that this transaction has locked, also of those that were forgotten.
    pub async fn save_ledgers(&mut self, ledgers: &BTreeMap<Keyed, Ledger>) -> Result<(), Error> {
        if ledgers.is_empty() {
            return Ok(());
        }
        const SQL: &str = "insert into address (mailbox, ledger)
            select mailbox, ledger from {set} where true order by n
            on conflict (mailbox) do update set ledger = excluded.ledger, first_mail = null";
        let set = Set::new()
            .bytes("mailbox", ledgers.keys().map(|m| m.0.to_vec()))
            .json("ledger", ledgers.values().map(document));
        self.write(SQL, set).await
    }
}

/// A mailbox, and either its ledger or its first mail, unless that was erased.
type Row = (
    Vec<u8>,
    Option<Json<Ledger>>,
    Option<Uuid>,
    Option<String>,
    Option<Json<Vec<About>>>,
    Option<Timestamp>,
    Option<Uuid>,
    bool,
);

fn read(row: Row) -> Result<(Keyed, Ledger), Error> {
    let (mailbox, ledger, mail, sender, lists, settled, signup, confirmed) = row;
    let ledger = match (ledger, mail, sender, lists) {
        (Some(ledger), ..) => ledger.0,
        (None, Some(mail), Some(sender), Some(lists)) => Ledger::first(First {
            message: MessageId(mail),
            sender: parsed(&sender)?,
            lists: lists.0.into_iter().map(|about| about.list).collect(),
            settled,
            signup: signup.map(SignupId),
            confirmed,
        }),
        _ => Ledger::default(),
    };
    Ok((keyed(mailbox)?, ledger))
}

/// Reads mailboxes with their ledgers.
pub(super) fn ledgers(rows: &Rows) -> Result<BTreeMap<Keyed, Ledger>, Error> {
    rows.read()?.into_iter().map(read).collect()
}
