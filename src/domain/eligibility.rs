//! Whether an address may be mailed for a list now: the one function that decides it.

use super::subscription::State;

/// What eligibility rests on.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The state of the subscription, if there is one.
    pub state: Option<State>,
    /// Kept, but not to be used (GDPR, article 18).
    pub restricted: bool,
    /// The words changed materially since the person agreed.
    pub needs_renewal: bool,
    /// The list was taken out of the configuration.
    pub list_closed: bool,
    /// The database was restored, and who left in the time that it lost is not known yet.
    pub restored: bool,
}

/// Why an address may not be mailed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// Nothing is known, or nothing is confirmed.
    NotSubscribed,
    /// The subscription is in this state.
    State(State),
    /// Processing is restricted.
    Restricted,
    /// The person must agree to the new words first.
    NeedsRenewal,
    /// The list is closed.
    ListClosed,
    /// A backup was restored: who left since is not known yet.
    Restored,
}

impl Ineligible {
    /// Returns the reason as the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ineligible::NotSubscribed => "not_subscribed",
            Ineligible::State(state) => state.as_str(),
            Ineligible::Restricted => "restricted",
            Ineligible::NeedsRenewal => "needs_renewal",
            Ineligible::ListClosed => "list_closed",
            Ineligible::Restored => "restored",
        }
    }
}

/// Decides whether an address may be mailed for a list now.
///
/// # Errors
/// The first reason why not.
pub fn eligible(standing: Standing) -> Result<(), Ineligible> {
    match standing.state {
        // Before everything else: what is said of anybody may have changed.
        _ if standing.restored => Err(Ineligible::Restored),
        _ if standing.list_closed => Err(Ineligible::ListClosed),
        None => Err(Ineligible::NotSubscribed),
        Some(State::Confirmed | State::Attested) if standing.restricted => {
            Err(Ineligible::Restricted)
        }
        Some(State::Confirmed | State::Attested) if standing.needs_renewal => {
            Err(Ineligible::NeedsRenewal)
        }
        Some(State::Confirmed | State::Attested) => Ok(()),
        Some(state) => Err(Ineligible::State(state)),
    }
}
