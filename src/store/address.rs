//! Mailboxes: the rows that order everything about an address.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::set::Set;
use super::types::{json, keyed};
use super::{Error, Tx};
use crate::domain::limits::Ledger;
use crate::domain::pepper::Keyed;

impl Tx {
    /// Locks mailboxes in the order of their keys, making those that are new, and reads their ledgers.
    pub async fn lock_or_make_mailboxes(
        &mut self,
        mailboxes: &BTreeSet<Keyed>,
    ) -> Result<BTreeMap<Keyed, Ledger>, Error> {
        const SQL: &str = "insert into address (mailbox, ledger)
            select mailbox, ledger from {set} where true order by n
            on conflict (mailbox) do update set ledger = address.ledger
            returning mailbox, ledger";
        let set = Set::new()
            .bytes("mailbox", mailboxes.iter().map(|m| m.0.to_vec()))
            .json(
                "ledger",
                mailboxes.iter().map(|_| Value::Object(Default::default())),
            );
        ledgers(self.rows(SQL, set).await?)
    }

    /// Locks known mailboxes in the order of their keys and reads their ledgers.
    pub async fn lock_mailboxes(
        &mut self,
        mailboxes: &BTreeSet<Keyed>,
    ) -> Result<BTreeMap<Keyed, Ledger>, Error> {
        const LOCK: &str = "select mailbox, ledger from address
            where mailbox in (select s.mailbox from {set}) order by mailbox for update";
        if let Tx::Sqlite(_) = self {
            // The transaction holds the one write lock that there is.
            return self.ledgers(mailboxes).await;
        }
        let set = Set::new().bytes("mailbox", mailboxes.iter().map(|m| m.0.to_vec()));
        ledgers(self.rows(LOCK, set).await?)
    }

    /// Reads the ledgers of mailboxes without locking them.
    pub async fn ledgers(
        &mut self,
        mailboxes: &BTreeSet<Keyed>,
    ) -> Result<BTreeMap<Keyed, Ledger>, Error> {
        const SQL: &str = "select mailbox, ledger from address
            where mailbox in (select s.mailbox from {set})";
        let set = Set::new().bytes("mailbox", mailboxes.iter().map(|m| m.0.to_vec()));
        ledgers(self.rows(SQL, set).await?)
    }

    /// Writes ledgers of mailboxes that this transaction has locked.
    pub async fn save_ledgers(&mut self, ledgers: &BTreeMap<Keyed, Ledger>) -> Result<(), Error> {
        if ledgers.is_empty() {
            return Ok(());
        }
        const SQL: &str = "update address set ledger = s.ledger from {set}
            where address.mailbox = s.mailbox";
        let document = |ledger| serde_json::to_value(ledger).unwrap_or_default();
        let set = Set::new()
            .bytes("mailbox", ledgers.keys().map(|m| m.0.to_vec()))
            .json("ledger", ledgers.values().map(document));
        self.write(SQL, set).await?;
        Ok(())
    }
}

fn ledgers(rows: Vec<(Vec<u8>, Value)>) -> Result<BTreeMap<Keyed, Ledger>, Error> {
    rows.into_iter()
        .map(|(mailbox, ledger)| Ok((keyed(mailbox)?, json(ledger)?)))
        .collect()
}
