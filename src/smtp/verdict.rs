//! What became of a mail, and the table that decides it.

use super::reply::{Cause, Phase, Reply};

/// What became of one mail, and so what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The relay took the mail: a 2xx to the dot, nothing less.
    Sent { reply: Reply },
    /// This recipient is refused for good.
    Refused { phase: Phase, reply: Reply },
    /// This message is refused for good, and not because of its recipient.
    Rejected { phase: Phase, reply: Reply },
    /// The relay certainly does not have the mail; try again later.
    Deferred { phase: Phase, cause: Cause },
    /// The relay, its policy or our settings are wrong: try again later and raise an alarm; no recipient is at fault.
    ///
    /// Before [`Phase::Mail`] it concerns every mail; at MAIL perhaps one sender's, and from RCPT on perhaps this one only.
    Misconfigured { phase: Phase, cause: Cause },
    /// The dot was, or may have been, sent and no final reply came: the mail may or may not arrive (RFC 1047).
    Ambiguous { cause: Cause },
    /// `before_data` said no; nothing was sent.
    Stopped,
}

impl Verdict {
    /// Judges a phase that did not succeed. Rules in this order:
    ///
    /// * no usable reply: ambiguous after the dot; configuration where the handshake failed or something required is
    ///   not offered; else again later;
    /// * 4xx: again later, at any phase;
    /// * 5xx before RCPT: configuration;
    /// * 5xx from RCPT on: see `refusal`.
    pub(super) fn judge(phase: Phase, cause: Cause) -> Verdict {
        match cause {
            Cause::Reply(reply) if reply.class() == 5 => refusal(phase, reply),
            Cause::Reply(reply) if reply.class() == 4 => Verdict::Deferred { phase, cause },
            _ if phase == Phase::Dot => Verdict::Ambiguous { cause },
            Cause::NotOffered => Verdict::Misconfigured { phase, cause },
            Cause::Tls if phase == Phase::Tls => Verdict::Misconfigured { phase, cause },
            _ => Verdict::Deferred { phase, cause },
        }
    }
}

/// Who is at fault for a 5xx?
///
/// At RCPT the recipient is, unless the codes say otherwise: many relays hold back until RCPT what they dislike about
/// the client, its greeting or the sender (Postfix: `smtpd_delay_reject`). After the dot the message is, unless the
/// codes name the recipient. To the DATA command nobody is known to be: the relay has not seen the message, and 503 or
/// a bare 554 tell of the dialogue (RFC 5321, section 4.3.2); trying again until the mail expires harms nobody.
fn refusal(phase: Phase, reply: Reply) -> Verdict {
    let cause = Cause::Reply(reply);
    match (phase, blame(reply)) {
        // "too many recipients" in the code that older relays give it (RFC 5321, section 4.5.3.1.10)
        (Phase::Rcpt, _) if reply.code == 552 => Verdict::Deferred { phase, cause },
        (Phase::Rcpt | Phase::Data | Phase::Dot, Blame::Relay) => {
            Verdict::Misconfigured { phase, cause }
        }
        (Phase::Rcpt | Phase::Data | Phase::Dot, Blame::Recipient) => {
            Verdict::Refused { phase, reply }
        }
        (Phase::Rcpt, Blame::Passing) => Verdict::Deferred { phase, cause },
        (Phase::Rcpt, Blame::Nobody) => Verdict::Refused { phase, reply },
        (Phase::Data, _) => Verdict::Deferred { phase, cause },
        (Phase::Dot, _) => Verdict::Rejected { phase, reply },
        _ => Verdict::Misconfigured { phase, cause },
    }
}

enum Blame {
    Recipient,
    /// The relay's rules, our credentials, greeting or sender address.
    Relay,
    /// A permanent code for something that passes.
    Passing,
    Nobody,
}

/// Reads the blame from the enhanced code, or without one from the basic code (RFC 3463, RFC 5321, RFC 4954).
fn blame(reply: Reply) -> Blame {
    match (reply.enhanced.map(|e| (e.subject, e.detail)), reply.code) {
        // the sender's address or domain is what is wrong
        (Some((1, 7 | 8)), _) => Blame::Relay,
        (Some((1 | 2, _)), _) => Blame::Recipient,
        // the relay's own state: full, too busy, wrongly set up
        (Some((3, _)), _) => Blame::Passing,
        // protocol, such as a refused EHLO name; security and policy, such as relaying denied
        (Some((5 | 7, _)), _) => Blame::Relay,
        (Some(_), _) => Blame::Nobody,
        // authentication and encryption required; a command, its order or its parameters not understood
        (None, 530..=539 | 500 | 502..=504 | 555) => Blame::Relay,
        (None, _) => Blame::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::*;

    /// One letter a verdict: the table stays readable.
    fn letter(phase: Phase, cause: Cause) -> char {
        match Verdict::judge(phase, cause) {
            Verdict::Sent { .. } => 'S',
            Verdict::Refused { .. } => 'R',
            Verdict::Rejected { .. } => 'J',
            Verdict::Deferred { .. } => 'D',
            Verdict::Misconfigured { .. } => 'M',
            Verdict::Ambiguous { .. } => 'A',
            Verdict::Stopped => '-',
        }
    }

    const PHASES: [Phase; 10] = [
        Connect, Tls, Greeting, Hello, Auth, Mail, Rcpt, Data, Body, Dot,
    ];

    fn row(cause: Cause) -> String {
        PHASES.iter().map(|&phase| letter(phase, cause)).collect()
    }

    #[test]
    #[rustfmt::skip]
    fn causes_without_a_reply() {
        //                                                       CTGHAMRDBd
        assert_eq!(row(Cause::Timeout),                         "DDDDDDDDDA");
        assert_eq!(letter(Connect, Cause::NoAddress), 'D');
        assert_eq!(row(Cause::Closed),                          "DDDDDDDDDA");
        assert_eq!(row(Cause::Io(std::io::ErrorKind::Other)),   "DDDDDDDDDA");
        assert_eq!(row(Cause::Malformed),                       "DDDDDDDDDA");
        assert_eq!(row(Cause::Tls),                             "DMDDDDDDDA");
        assert_eq!(row(Cause::NotOffered)[..5],                 *"MMMMM");
    }

    #[test]
    #[rustfmt::skip]
    fn replies() {
        for (reply, expected) in [
            //                            TGHAMRDd
            ("421 4.3.2 closing",        "DDDDDDDD"),
            ("450 greylisted",           "DDDDDDDD"),
            ("451 4.7.1 greylisted",     "DDDDDDDD"),
            ("452 4.2.2 full",           "DDDDDDDD"),
            ("454 4.7.0 later",          "DDDDDDDD"),
            ("550 no such user",         "MMMMMRDJ"),
            ("550 5.0.0 no",             "MMMMMRDJ"),
            ("550 5.1.1 unknown",        "MMMMMRRR"),
            ("550 5.1.7 sender",         "MMMMMMMM"),
            ("553 5.1.8 sender domain",  "MMMMMMMM"),
            ("550 5.2.1 disabled",       "MMMMMRRR"),
            ("552 5.2.2 full",           "MMMMMDRR"),
            ("552 too many",             "MMMMMDDJ"),
            ("554 5.3.0 broken",         "MMMMMDDJ"),
            ("550 5.4.1 unroutable",     "MMMMMRDJ"),
            ("504 5.5.2 helo",           "MMMMMMMM"),
            ("550 5.7.1 relaying",       "MMMMMMMM"),
            ("550 5.6.0 content",        "MMMMMRDJ"),
            ("554 5.6.0 content",        "MMMMMRDJ"),
            ("554 no",                   "MMMMMRDJ"),
            ("501 bad address",          "MMMMMRDJ"),
            ("503 order",                "MMMMMMMM"),
            ("530 log in",               "MMMMMMMM"),
            ("535 wrong password",       "MMMMMMMM"),
        ] {
            let reply = Reply::new(reply[..3].parse().unwrap(), &reply[4..]);
            let phases = [Tls, Greeting, Hello, Auth, Mail, Rcpt, Data, Dot];
            let row: String = phases.iter().map(|&phase| letter(phase, Cause::Reply(reply))).collect();
            assert_eq!(row, expected, "{reply}");
        }
    }
}
