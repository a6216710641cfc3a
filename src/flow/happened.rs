//! What follows when something is on stable storage: a line in the log, a number in the metrics, a ring.

use super::Flows;
use crate::domain::delivery::MessageKind;
use crate::domain::event::{Event, EventKind};
use crate::domain::limits::Withheld;
use crate::domain::list::{ListId, SenderId};
use crate::domain::signup::Decline;
use crate::telemetry::logs::field;

impl Flows {
    /// Says what happened, once it is on stable storage: a line each in the log, a number in the metrics, and a ring for
    /// those who number events and send mails.
    pub(super) fn happened(&self, events: &[Event]) {
        for event in events {
            tell(event);
            self.count(event);
        }
        if events.iter().any(|event| may_queue(event.kind)) {
            self.mail_waits.notify_one();
        }
        self.event_waits.notify_one();
        self.written.notify_one();
    }

    fn count(&self, event: &Event) {
        let how = |name: &str| event.data.get(name).and_then(|value| value.as_str());
        match event.kind {
            EventKind::SignupAccepted => {
                let sender = event.sender.as_ref().map_or("", SenderId::as_str);
                self.metrics.signup_accepted(sender);
            }
            EventKind::SignupWithheld => {
                let reason = how("reason").and_then(Withheld::from_name);
                self.metrics
                    .signup_withheld(reason.map_or("", Withheld::as_str));
            }
            EventKind::SignupDeclined => {
                let how = how("how").and_then(Decline::from_name);
                self.metrics.decline(how.map_or("", Decline::as_str));
            }
            kind if kind.is_confirm() => self.metrics.confirm(),
            EventKind::SubscriptionUnsubscribed => {
                let by_header = how("how") == Some("one_click");
                self.metrics
                    .unsubscribe(if by_header { "one_click" } else { "page" });
            }
            EventKind::UnsubscribeRepeated => self.metrics.unsubscribe_repeated(),
            EventKind::MessageSent
            | EventKind::MessageDeferred
            | EventKind::MessageFailed
            | EventKind::MessageUnknown
            | EventKind::MessageLate
            | EventKind::MessageQuarantined => {
                let kind = how("kind").and_then(MessageKind::from_name);
                let outcome = event.kind.as_str().trim_start_matches("message.");
                self.metrics
                    .message(kind.map_or("", MessageKind::as_str), outcome);
            }
            _ => {}
        }
    }
}

/// What becomes of a mail queues no other, and a further attempt has its own time.
fn may_queue(kind: EventKind) -> bool {
    use EventKind::*;
    !matches!(
        kind,
        MessageSent
            | MessageDeferred
            | MessageFailed
            | MessageUnknown
            | MessageLate
            | MessageQuarantined
            | SignupWithheld
    )
}

/// Logs one event; it holds nothing personal, so neither does the line.
fn tell(event: &Event) {
    let text = |name: &str| event.data.get(name).map(plain);
    tracing::info!(
        { field::SENDER } = event.sender.as_ref().map(SenderId::as_str),
        { field::LIST } = event.list.as_ref().map(ListId::as_str),
        lists = text("lists"),
        { field::SIGNUP } = event.signup.map(tracing::field::display),
        { field::SUBSCRIBER } = event.subscriber.map(tracing::field::display),
        { field::MESSAGE } = event.message.map(tracing::field::display),
        { field::KIND } = text("kind"),
        how = text("how"),
        by = text("by"),
        { field::REASON } = text("reason"),
        { field::ATTEMPTS } = text("attempt"),
        { field::PHASE } = text("phase"),
        { field::CLASS } = text("cause"),
        { field::SMTP_CODE } = text("code"),
        { field::SMTP_ENHANCED } = text("enhanced"),
        next = text("next"),
        "{}",
        event.kind.as_str()
    );
}

/// A fact of an event without the quotes of JSON.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
