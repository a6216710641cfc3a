//! How many confirmation mails one mailbox may be made to receive, and why one is kept back.

use std::time::Duration;

/// The limits in force; confirmation mails that a third person can cause count against them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Least time between two mails to one address for one list.
    pub per_list: Duration,
    /// Mails to one address by one sender in 24 hours.
    pub per_sender_day: usize,
    /// Mails to one address by one sender in 30 days without a confirm.
    pub per_sender_month: usize,
    /// Mails to one address over the whole installation in 24 hours.
    pub per_installation_day: usize,
    /// How long "that was not me" holds further confirmation mails.
    pub hold: Duration,
}

/// Why a mail is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The mailbox said "that was not me" to this sender.
    Hold,
    /// Every list had a mail within its interval, or has one that is not yet sent.
    List,
    /// The sender's limit.
    Sender,
    /// The list was taken out of the configuration before its mail could leave.
    Closed,
    /// The installation's limit, or a hold for every sender: no sender is told.
    Installation,
    /// The person left the list, objected, or was erased after asking: the link would no longer work.
    Left,
}

impl Withheld {
    /// Returns the reason for the sender's eyes; none where it must not learn it.
    pub fn told(self) -> Option<&'static str> {
        match self {
            Withheld::Hold => Some("hold"),
            Withheld::List => Some("list_limit"),
            Withheld::Sender => Some("sender_limit"),
            Withheld::Closed => Some("list_closed"),
            Withheld::Installation => None,
            Withheld::Left => Some("left"),
        }
    }

    /// Returns the reason for the operator's logs.
    pub fn as_str(self) -> &'static str {
        self.told().unwrap_or("installation_limit")
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        use Withheld::*;
        [Hold, List, Sender, Closed, Left, Installation]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}
