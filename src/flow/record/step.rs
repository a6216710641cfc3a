//! What an event makes of a consent, in the words of DPV.

use super::description::{Step, Validity};
use super::opened::Opened;
use crate::domain::event::EventKind;

const UNTIL_ANSWERED: Validity = Validity {
    kind: "dpv:UntilEventDuration",
    until: "confirmed, declined or expired",
};
const UNTIL_WITHDRAWN: Validity = Validity {
    kind: "dpv:UntilEventDuration",
    until: "withdrawal, or an end by the controller",
};
const UNTIL_GIVEN_AGAIN: Validity = Validity {
    kind: "dpv:UntilEventDuration",
    until: "consent is given again",
};

/// Returns what an event makes of the consent; none if it leaves it as it was.
pub fn step(event: &Opened) -> Option<Step> {
    use EventKind::*;
    let how = event.data("how");
    let by_subject = |how: Option<&str>| match how {
        Some("one_click") => "one-click",
        Some("page" | "no" | "not_me") => "POST button",
        Some("mailto") => "mailto",
        _ => "request",
    };
    let (state, by, method, valid_for) = match event.leaf.kind {
        SignupAccepted => ("dpv:ConsentRequested", "subject", "signup", UNTIL_ANSWERED),
        SignupExpired => (
            "dpv:ConsentRequested",
            "processor",
            "link expired",
            UNTIL_GIVEN_AGAIN,
        ),
        SignupDeclined => (
            "dpv:ConsentRefused",
            "subject",
            by_subject(how),
            UNTIL_GIVEN_AGAIN,
        ),
        SubscriptionConfirmed => {
            let method = match event.data("by") {
                Some("button") => "POST button",
                _ => "GET of the link; not proof of a human act",
            };
            ("dpv:ConsentGiven", "subject", method, UNTIL_WITHDRAWN)
        }
        SubscriptionRenewed => (
            "dpv:RenewedConsentGiven",
            "subject",
            "POST button",
            UNTIL_WITHDRAWN,
        ),
        // An import without evidence says that it knows nothing.
        SubscriptionAttested if event.leaf.evidence.is_empty() => (
            "dpv:ConsentUnknown",
            "controller",
            "import",
            UNTIL_GIVEN_AGAIN,
        ),
        SubscriptionAttested => (
            "dpv:ConsentGiven",
            "subject",
            "attested by the controller",
            UNTIL_WITHDRAWN,
        ),
        SubscriptionUnsubscribed | SubscriptionObjected => (
            "dpv:ConsentWithdrawn",
            "subject",
            by_subject(how),
            UNTIL_GIVEN_AGAIN,
        ),
        SubscriptionUndeliverable => (
            "dpv:ConsentRevoked",
            "controller",
            "hard bounce",
            UNTIL_GIVEN_AGAIN,
        ),
        SubscriptionLapsed => (
            "dpv:ConsentExpired",
            "controller",
            "time is over",
            UNTIL_GIVEN_AGAIN,
        ),
        _ => return None,
    };
    Some(Step {
        id: event.leaf.id,
        time: event.leaf.time,
        state,
        kind: "dpv:ExpressedConsent",
        by,
        method: method.to_owned(),
        valid_for,
    })
}
