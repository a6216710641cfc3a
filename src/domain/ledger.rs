//! What is remembered of a mailbox, and what of it the limits on confirmation mails allow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{MessageId, SignupId};
use super::limits::{Limits, Withheld};
use super::list::{ListId, SenderId};
use super::time::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is remembered of one mailbox to keep the limits; stored under a keyed hash, beside no address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Mails of the last 30 days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mails: Vec<Counted>,
    /// Until when confirmation mails of a sender are held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    holds: BTreeMap<SenderId, Timestamp>,
    /// Until when those of every sender are held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_everywhere: Option<Timestamp>,
    /// When each sender last answered "you are already subscribed".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notices: BTreeMap<SenderId, Timestamp>,
    /// The signup that the first mail answers, while that mail stands for a ledger that was never stored.
    #[serde(skip)]
    first: Option<SignupId>,
}

/// The first mail to a mailbox. Until more has to be remembered, what is known of it says what the ledger would.
pub struct First {
    /// Which.
    pub message: MessageId,
    /// By which sender.
    pub sender: SenderId,
    /// About which lists.
    pub lists: BTreeSet<ListId>,
    /// When it was handed to the relay or given up.
    pub settled: Option<Timestamp>,
    /// The signup that it answers.
    pub signup: Option<SignupId>,
    /// Something of that signup was confirmed.
    pub confirmed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counted {
    message: MessageId,
    sender: SenderId,
    lists: BTreeSet<ListId>,
    /// When it was handed to the relay or given up; not known of those that wait or are under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<Timestamp>,
    /// Asked for through a link from the mailbox itself: it has a budget of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own: bool,
    /// Before the last confirm at this sender: it no longer counts over the month.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    confirmed: bool,
}

impl Ledger {
    /// The ledger of a mailbox whose first mail was queued.
    pub fn first(mail: First) -> Self {
        Self {
            mails: vec![Counted {
                message: mail.message,
                sender: mail.sender,
                lists: mail.lists,
                settled: mail.settled,
                own: false,
                confirmed: mail.confirmed,
            }],
            first: mail.signup,
            ..Self::default()
        }
    }

    /// Decides which of the lists a confirmation mail may be sent for now.
    ///
    /// # Errors
    /// Why none.
    pub fn admit(
        &self,
        limits: &Limits,
        now: Timestamp,
        sender: &SenderId,
        lists: &[ListId],
        own: bool,
    ) -> Result<Vec<ListId>, Withheld> {
        let since = |span: Duration| {
            let mails = self.mails.iter();
            mails.filter(move |m| m.settled.is_none_or(|at| at > now - span))
        };
        let by_sender = |m: &&Counted| m.sender == *sender && m.own == own;

        if self.held_everywhere.is_some_and(|until| until > now) {
            return Err(Withheld::Installation);
        }
        if self.holds.get(sender).is_some_and(|until| *until > now) {
            return Err(Withheld::Hold);
        }
        if since(DAY).count() >= limits.per_installation_day {
            return Err(Withheld::Installation);
        }
        let month = since(MONTH).filter(by_sender).filter(|m| !m.confirmed);
        if since(DAY).filter(by_sender).count() >= limits.per_sender_day
            || month.count() >= limits.per_sender_month
        {
            return Err(Withheld::Sender);
        }
        let busy =
            |list: &ListId| since(limits.per_list).any(|m| m.lists.contains(list) && m.own == own);
        let free: Vec<_> = lists.iter().filter(|list| !busy(list)).cloned().collect();
        if free.is_empty() {
            return Err(Withheld::List);
        }
        Ok(free)
    }

    /// Counts a mail that waits or is about to be sent, and forgets those that were sent more than 30 days ago.
    pub fn count(
        &mut self,
        message: MessageId,
        now: Timestamp,
        sender: &SenderId,
        lists: &[ListId],
        own: bool,
    ) {
        self.forget(now);
        self.mails.push(Counted {
            message,
            sender: sender.clone(),
            lists: lists.iter().cloned().collect(),
            settled: None,
            own,
            confirmed: false,
        });
    }

    /// Takes a mail out of the count.
    pub fn discount(&mut self, message: MessageId) {
        self.mails.retain(|mail| mail.message != message);
    }

    /// Returns the counted mails that are not known to be settled.
    pub fn unsettled(&self) -> impl Iterator<Item = MessageId> {
        let unsettled = self.mails.iter().filter(|mail| mail.settled.is_none());
        unsettled.map(|mail| mail.message)
    }

    /// Notes when a counted mail was settled.
    pub fn settled(&mut self, message: MessageId, at: Timestamp) {
        for mail in &mut self.mails {
            if mail.message == message {
                mail.settled.get_or_insert(at);
            }
        }
    }

    /// Notes that the mailbox confirmed something of a signup at a sender. Of the first mail's own signup that is read with
    /// that mail: nothing has to be stored.
    pub fn confirmed(&mut self, sender: &SenderId, signup: SignupId) {
        if self.first == Some(signup) {
            return;
        }
        for mail in &mut self.mails {
            mail.confirmed |= mail.sender == *sender;
        }
    }

    /// Holds a sender's confirmation mails; returns whether that is new.
    pub fn hold(&mut self, sender: &SenderId, until: Timestamp) -> bool {
        self.holds.insert(sender.clone(), until).is_none()
    }

    /// Holds every sender's confirmation mails.
    pub fn hold_everywhere(&mut self, until: Timestamp) {
        self.held_everywhere = Some(until);
    }

    /// Lifts the hold for a sender, and the one for every sender.
    pub fn lift(&mut self, sender: &SenderId) {
        self.holds.remove(sender);
        self.held_everywhere = None;
    }

    /// Forgets the mails of a sender whose subscriber was erased; its hold stays.
    pub fn erase(&mut self, sender: &SenderId) {
        self.mails.retain(|mail| mail.sender != *sender);
        self.notices.remove(sender);
    }

    /// Tells whether nothing is remembered that still counts.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        let held = self.holds.values().any(|until| *until > now);
        self.mails.is_empty() && self.notices.is_empty() && !held && !self.is_held_everywhere(now)
    }

    /// Returns until when a sender's confirmation mails are held.
    pub fn held_until(&self, sender: &SenderId, now: Timestamp) -> Option<Timestamp> {
        let own = self.holds.get(sender).copied();
        own.max(self.held_everywhere).filter(|until| *until > now)
    }

    /// Tells whether the mails of every sender are held.
    pub fn is_held_everywhere(&self, now: Timestamp) -> bool {
        self.held_everywhere.is_some_and(|until| until > now)
    }

    /// Tells whether "you are already subscribed" may be said now, and remembers that it was.
    pub fn notice(&mut self, sender: &SenderId, now: Timestamp) -> bool {
        if self.notices.get(sender).is_some_and(|at| *at > now - DAY) {
            return false;
        }
        self.notices.insert(sender.clone(), now);
        true
    }

    fn forget(&mut self, now: Timestamp) {
        self.mails
            .retain(|m| m.settled.is_none_or(|at| at > now - MONTH));
        self.holds.retain(|_, until| *until > now);
        self.notices.retain(|_, at| *at > now - DAY);
        self.held_everywhere = self.held_everywhere.filter(|until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_list: Duration::from_secs(600),
        per_sender_day: 3,
        per_sender_month: 6,
        per_installation_day: 10,
        hold: MONTH,
    };

    fn message(n: u8) -> MessageId {
        MessageId::new(Timestamp::from_seconds(0), [n; 10])
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + minutes * 60)
    }

    struct Mailbox(Ledger, u8);

    impl Mailbox {
        /// Signs up, and has the mail sent at once.
        fn sign_up(&mut self, now: Timestamp, sender: &str, list: &str) -> Result<(), Withheld> {
            let (sender, list) = (sender.parse().unwrap(), list.parse().unwrap());
            let lists = self.0.admit(&LIMITS, now, &sender, &[list], false)?;
            self.1 += 1;
            self.0.count(message(self.1), now, &sender, &lists, false);
            self.0.settled(message(self.1), now);
            Ok(())
        }
    }

    #[test]
    fn one_mail_a_list_in_ten_minutes() {
        let mut mailbox = Mailbox(Ledger::default(), 0);
        assert_eq!(mailbox.sign_up(at(0), "acme", "weekly"), Ok(()));
        assert_eq!(
            mailbox.sign_up(at(9), "acme", "weekly"),
            Err(Withheld::List)
        );
        assert_eq!(mailbox.sign_up(at(9), "acme", "offers"), Ok(()));
        assert_eq!(mailbox.sign_up(at(10), "acme", "weekly"), Ok(()));
    }

    #[test]
    fn a_mail_not_yet_sent_keeps_its_list_however_old() {
        let (sender, list) = ("acme".parse().unwrap(), "weekly".parse().unwrap());
        let lists = std::slice::from_ref(&list);
        let mut ledger = Ledger::default();
        ledger.count(message(1), at(0), &sender, lists, false);
        let later = at(60 * 24 * 40);
        assert_eq!(
            ledger.admit(&LIMITS, later, &sender, lists, false),
            Err(Withheld::List)
        );
        ledger.settled(message(1), later);
        assert!(
            ledger
                .admit(&LIMITS, later + LIMITS.per_list, &sender, lists, false)
                .is_ok()
        );
    }

    #[test]
    fn three_a_day_and_six_a_month_until_a_confirm() {
        let mut mailbox = Mailbox(Ledger::default(), 0);
        let day = 24 * 60;
        for n in 0..3 {
            assert_eq!(mailbox.sign_up(at(n * 20), "acme", "weekly"), Ok(()));
        }
        assert_eq!(
            mailbox.sign_up(at(60), "acme", "weekly"),
            Err(Withheld::Sender)
        );
        for n in 0..3 {
            assert_eq!(
                mailbox.sign_up(at(2 * day + n * 20), "acme", "weekly"),
                Ok(())
            );
        }
        assert_eq!(
            mailbox.sign_up(at(4 * day), "acme", "weekly"),
            Err(Withheld::Sender)
        );
        let signup = SignupId::new(at(0), [0; 10]);
        mailbox.0.confirmed(&"acme".parse().unwrap(), signup);
        assert_eq!(mailbox.sign_up(at(4 * day), "acme", "weekly"), Ok(()));
    }

    #[test]
    fn ten_a_day_over_the_installation_without_naming_it() {
        let mut mailbox = Mailbox(Ledger::default(), 0);
        for n in 0..10 {
            assert_eq!(mailbox.sign_up(at(0), &format!("s{n}"), "weekly-x"), {
                // Lists are unique over the installation; each sender has its own.
                if n == 0 { Ok(()) } else { Err(Withheld::List) }
            });
        }
        let mut mailbox = Mailbox(Ledger::default(), 0);
        for n in 0..10 {
            let (sender, list) = (format!("s{n}"), format!("l{n}"));
            assert_eq!(mailbox.sign_up(at(0), &sender, &list), Ok(()));
        }
        let over = mailbox.sign_up(at(1), "s11", "l11").unwrap_err();
        assert_eq!((over, over.told()), (Withheld::Installation, None));
    }

    #[test]
    fn a_hold_keeps_one_sender_or_all_of_them() {
        let acme: SenderId = "acme".parse().unwrap();
        let mut mailbox = Mailbox(Ledger::default(), 0);
        mailbox.0.hold(&acme, at(0) + LIMITS.hold);
        assert_eq!(mailbox.sign_up(at(1), "acme", "a"), Err(Withheld::Hold));
        assert_eq!(mailbox.sign_up(at(1), "other", "b"), Ok(()));
        mailbox.0.hold_everywhere(at(0) + LIMITS.hold);
        assert_eq!(
            mailbox.sign_up(at(2), "other", "c"),
            Err(Withheld::Installation)
        );
        mailbox.0.lift(&acme);
        assert_eq!(mailbox.sign_up(at(3), "acme", "a"), Ok(()));
    }
}
