//! What the relay's verdict on an attempt means for the retry rules, for the record and for metrics.

use crate::domain::delivery::breaker::Sign;
use crate::domain::delivery::{Answer, Attempt};
use crate::smtp::{Cause, Phase, Reply, Verdict};

/// Whom the relay's answer concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concerns {
    /// Every mail: the relay itself, or our name, login or encryption.
    All,
    /// Those of one sender.
    Sender,
    /// Perhaps one alone.
    Mail,
}

/// Translates a verdict for the retry rules, and into what is written down; none where the mail was stopped.
pub(super) fn judged(verdict: Verdict) -> Option<(Attempt, Answer)> {
    let (attempt, phase, cause) = match verdict {
        Verdict::Sent { reply } => (Attempt::Sent, Phase::Dot, Cause::Reply(reply)),
        Verdict::Refused { phase, reply } | Verdict::Rejected { phase, reply } => {
            (Attempt::Failed, phase, Cause::Reply(reply))
        }
        Verdict::Deferred { phase, cause } | Verdict::Misconfigured { phase, cause } => {
            (Attempt::Deferred, phase, cause)
        }
        Verdict::Ambiguous { cause } => (Attempt::Ambiguous, Phase::Dot, cause),
        Verdict::Stopped => return None,
    };
    let reply = match cause {
        Cause::Reply(reply) => Some(reply),
        _ => None,
    };
    let answer = Answer {
        phase: phase.as_str().to_owned(),
        cause: class(cause).to_owned(),
        code: reply.map(|reply| reply.code),
        enhanced: reply
            .and_then(|reply| reply.enhanced)
            .map(|e| e.to_string()),
    };
    Some((attempt, answer))
}

/// Says what an attempt tells about the relay itself.
pub(super) fn sign_of(verdict: Verdict) -> Sign {
    match verdict {
        Verdict::Sent { .. } | Verdict::Refused { .. } | Verdict::Rejected { .. } => Sign::Works,
        // The mail waits by itself: left alone, the relay would keep others waiting whom this does not concern.
        Verdict::Misconfigured { phase, cause } | Verdict::Deferred { phase, cause }
            if matches!(cause, Cause::Reply(_)) && concerns(phase, cause) != Concerns::All =>
        {
            Sign::Works
        }
        Verdict::Misconfigured { .. } => Sign::Refuses,
        // A recipient's own server may be what keeps the relay silent there.
        Verdict::Deferred { phase, .. } if is_from_rcpt_on(phase) => Sign::Silent,
        Verdict::Deferred { .. } | Verdict::Ambiguous { .. } => Sign::Fails,
        Verdict::Stopped => Sign::Silent,
    }
}

/// Says whom an answer concerns that did not take a mail.
pub(super) fn concerns(phase: Phase, cause: Cause) -> Concerns {
    match (phase, cause) {
        (Phase::Mail, Cause::Reply(reply)) if is_about_the_sender(reply) => Concerns::Sender,
        _ if is_from_rcpt_on(phase) => Concerns::Mail,
        _ => Concerns::All,
    }
}

/// Tells whether an answer to MAIL is about its sender. A 5xx is, unless it has us log in or encrypt first (RFC 4954,
/// section 6; RFC 3207, section 4); a 4xx only where it says so: a relay that is full or too busy says that there.
fn is_about_the_sender(reply: Reply) -> bool {
    match (reply.code, reply.enhanced.map(|e| (e.subject, e.detail))) {
        (421 | 530 | 534 | 535 | 538, _) | (_, Some((7, 8 | 9 | 11))) => false,
        (400..=499, enhanced) => matches!(enhanced, Some((1 | 7, _))),
        _ => true,
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
