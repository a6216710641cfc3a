//! What the relay's verdict on an attempt means for the retry rules, for the record and for metrics.

use crate::domain::delivery::breaker::Sign;
use crate::domain::delivery::{Answer, Attempt};
use crate::smtp::{Cause, Phase, Verdict};

/// Translates a verdict for the retry rules, and into what is written down.
pub(super) fn judged(verdict: Verdict) -> (Attempt, Option<Answer>) {
    let of = |phase: Phase, cause: Cause| {
        let reply = match cause {
            Cause::Reply(reply) => Some(reply),
            _ => None,
        };
        Some(Answer {
            phase: phase.as_str().to_owned(),
            cause: class(cause).to_owned(),
            code: reply.map(|reply| reply.code),
            enhanced: reply
                .and_then(|reply| reply.enhanced)
                .map(|e| e.to_string()),
        })
    };
    match verdict {
        Verdict::Sent { reply } => (Attempt::Sent, of(Phase::Dot, Cause::Reply(reply))),
        Verdict::Refused { phase, reply } | Verdict::Rejected { phase, reply } => {
            (Attempt::Failed, of(phase, Cause::Reply(reply)))
        }
        Verdict::Deferred { phase, cause } | Verdict::Misconfigured { phase, cause } => {
            (Attempt::Deferred, of(phase, cause))
        }
        Verdict::Ambiguous { cause } => (Attempt::Ambiguous, of(Phase::Dot, cause)),
        Verdict::Stopped => (Attempt::Stopped, None),
    }
}

/// Says what an attempt tells about the relay itself.
pub(super) fn sign_of(verdict: Verdict) -> Sign {
    match verdict {
        Verdict::Sent { .. } | Verdict::Refused { .. } | Verdict::Rejected { .. } => Sign::Works,
        // From RCPT on a policy may concern the one mail only: several in a row say more.
        Verdict::Misconfigured { phase, .. } if is_from_rcpt_on(phase) => Sign::Fails,
        Verdict::Misconfigured { .. } => Sign::Refuses,
        Verdict::Deferred {
            phase,
            cause: Cause::Reply(_),
        } if is_from_rcpt_on(phase) => Sign::Works,
        // A recipient's own server may be what keeps the relay silent there.
        Verdict::Deferred { phase, .. } if is_from_rcpt_on(phase) => Sign::Silent,
        Verdict::Deferred { .. } | Verdict::Ambiguous { .. } => Sign::Fails,
        Verdict::Stopped => Sign::Silent,
    }
}

/// Tells whether the time that an attempt took is the mail's, and not that of reaching the relay.
pub(super) fn is_about_the_mail(verdict: Verdict) -> bool {
    match verdict {
        // However short the timeout is: nobody answered.
        Verdict::Ambiguous {
            cause: Cause::Timeout,
        }
        | Verdict::Deferred {
            cause: Cause::Timeout,
            ..
        } => false,
        Verdict::Sent { .. } | Verdict::Ambiguous { .. } => true,
        Verdict::Refused { phase, .. }
        | Verdict::Rejected { phase, .. }
        | Verdict::Deferred { phase, .. }
        | Verdict::Misconfigured { phase, .. } => is_from_rcpt_on(phase),
        Verdict::Stopped => false,
    }
}

fn is_from_rcpt_on(phase: Phase) -> bool {
    matches!(phase, Phase::Rcpt | Phase::Data | Phase::Body | Phase::Dot)
}

/// Names the phase in which an attempt ended, for metrics.
pub(super) fn phase_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Refused { phase, .. }
        | Verdict::Rejected { phase, .. }
        | Verdict::Deferred { phase, .. }
        | Verdict::Misconfigured { phase, .. } => phase.as_str(),
        Verdict::Sent { .. } | Verdict::Ambiguous { .. } => Phase::Dot.as_str(),
        Verdict::Stopped => "none",
    }
}

/// Names the verdict, for metrics.
pub(super) fn class_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Sent { .. } => "sent",
        Verdict::Refused { .. } => "refused",
        Verdict::Rejected { .. } => "rejected",
        Verdict::Deferred { .. } => "deferred",
        Verdict::Misconfigured { .. } => "misconfigured",
        Verdict::Ambiguous { .. } => "ambiguous",
        Verdict::Stopped => "stopped",
    }
}

/// Names the cause, for what is written down.
fn class(cause: Cause) -> &'static str {
    match cause {
        Cause::Reply(_) => "reply",
        Cause::Timeout => "timeout",
        Cause::Closed => "closed",
        Cause::Io(_) => "io",
        Cause::Tls => "tls",
        Cause::NotOffered => "not_offered",
        Cause::NoAddress => "no_address",
        Cause::Malformed => "malformed",
    }
}
