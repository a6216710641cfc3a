//! The dialogue on one connection, each phase under its own timeout.
//!
//! MAIL, RCPT and DATA are each answered, and each answer is judged; a relay that offers PIPELINING (RFC 2920) is sent
//! all three in one write. A phase ends with the reply that it waits for or with a [`Fault`].

use std::{future::Future, sync::atomic::Ordering, time::Duration};

use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt, Rset};
use memchr::memmem::find_iter;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{Cause, Outgoing, Phase, Reply, Timeouts, hello::Capabilities, wire::Wire};

/// Bounds for courtesies, whose outcome changes nothing for a mail.
const RESET: Duration = Duration::from_secs(10);
const QUIT: Duration = Duration::from_secs(1);
/// Bytes of a text written at a time; a stall is counted from the last of them.
const CHUNK: usize = 16 * 1024;
/// What ends a text, after its last CRLF.
const DOT: &str = ".\r\n";

/// A phase that did not succeed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) phase: Phase,
    pub(super) cause: Cause,
}

impl Fault {
    /// The relay refused and waits for the next command: the connection is in step.
    pub(super) fn leaves_connection(self) -> bool {
        matches!(self.cause, Cause::Reply(reply) if reply.code != 421)
    }
}

/// How a transaction without a fault ended.
pub(super) enum Outcome {
    Sent(Reply),
    Stopped,
}

/// One command, and how long its reply may take.
struct Command {
    phase: Phase,
    limit: Duration,
    line: String,
}

/// A connection that is greeted, encrypted and logged in as the target asks for.
pub(super) struct Session {
    wire: Wire,
    pub(super) capabilities: Capabilities,
    timeouts: Timeouts,
    /// Mails begun.
    pub(super) begun: u32,
    /// MAIL was said, and neither a dot nor RSET has ended what it began.
    transaction: bool,
    /// Replies are due that were not heard.
    owed: bool,
}

impl Session {
    pub(super) fn new(wire: Wire, capabilities: Capabilities, timeouts: Timeouts) -> Session {
        Session {
            wire,
            capabilities,
            timeouts,
            begun: 0,
            transaction: false,
            owed: false,
        }
    }

    /// Hands over one mail; `look` has a last word before the write that carries DATA.
    pub(super) async fn send<F, R>(
        &mut self,
        mail: Outgoing<'_>,
        look: &mut F,
    ) -> Result<Outcome, Fault>
    where
        F: FnMut() -> R,
        R: Future<Output = bool>,
    {
        self.begun += 1;
        let command = |phase, limit, line| Command { phase, limit, line };
        let (from, to) = (Some(mail.from.clone()), mail.to.clone());
        let (from, to) = (Mail::new(from, Vec::new()), Rcpt::new(to, Vec::new()));
        let commands = [
            command(Phase::Mail, self.timeouts.mail, from.to_string()),
            command(Phase::Rcpt, self.timeouts.rcpt, to.to_string()),
            command(Phase::Data, self.timeouts.data, Data.to_string()),
        ];
        let at_once = if self.capabilities.pipelining { 3 } else { 1 };
        for group in commands.chunks(at_once) {
            let starts = group.iter().any(|command| command.phase == Phase::Data);
            if starts && !look().await {
                return Ok(Outcome::Stopped);
            }
            self.ask(group).await?;
        }
        self.text(mail).await.map(Outcome::Sent)
    }

    /// Writes commands at once and hears a reply to each. The first refusal counts; the others follow from it.
    async fn ask(&mut self, group: &[Command]) -> Result<(), Fault> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        (self.transaction, self.owed) = (true, true);
        let lines: String = group.iter().map(|command| &*command.line).collect();
        within(first.limit, first.phase, self.wire.say(&lines)).await?;
        let mut refusal = None;
        for Command { phase, limit, .. } in group {
            let heard = within(*limit, *phase, self.wire.hear()).await;
            match (heard.and_then(|reply| accept(*phase, reply)), refusal) {
                (Err(fault), _) if !fault.leaves_connection() => {
                    return Err(refusal.unwrap_or(fault));
                }
                (Err(fault), None) => refusal = Some(fault),
                (Ok(_), Some(fault)) if *phase == Phase::Data => return self.nothing(fault).await,
                _ => {}
            }
        }
        self.owed = false;
        refusal.map_or(Ok(()), Err)
    }

    /// Ends a transaction whose recipient was refused and for which the relay wants a text all the same: the dot alone
    /// (RFC 2920, section 3.1). Where it refused MAIL, it may have taken the recipient, and even that could arrive.
    async fn nothing(&mut self, refusal: Fault) -> Result<(), Fault> {
        let answer = async { self.wire.ask(DOT).await };
        if refusal.phase == Phase::Rcpt && matches!(timeout(RESET, answer).await, Ok(Ok(_))) {
            (self.transaction, self.owed) = (false, false);
        }
        Err(refusal)
    }

    /// Writes the message and its dot. The fault's phase is [`Phase::Body`] only while the dot was certainly not
    /// begun.
    async fn text(&mut self, mail: Outgoing<'_>) -> Result<Reply, Fault> {
        let (text, limits) = (transparent(mail.bytes), self.timeouts);
        let dot = text.len() - DOT.len();
        self.owed = true;
        within(limits.body, Phase::Body, self.wire.turn()).await?;
        let mut written = 0;
        while written < text.len() {
            // the dot goes with the last of the text, and whole
            let end = match text.len() - written <= CHUNK {
                true => text.len(),
                false => dot.min(written + CHUNK),
            };
            if end > dot {
                mail.dot.store(true, Ordering::Relaxed);
            }
            let write = timeout(limits.body, self.wire.write(&text[written..end])).await;
            let (phase, cause) = match write {
                Ok(Ok(n)) if n > 0 => {
                    written += n;
                    continue;
                }
                Ok(Ok(_)) => (Phase::Body, Cause::Closed),
                Ok(Err(error)) if end > dot => (Phase::Dot, Cause::from(&error)),
                Ok(Err(error)) => (Phase::Body, Cause::from(&error)),
                // nothing of this write was taken
                Err(_) => (Phase::Body, Cause::Timeout),
            };
            return Err(Fault { phase, cause });
        }
        let answer = async {
            self.wire.flush().await?;
            self.wire.hear().await
        };
        let reply = within(limits.dot, Phase::Dot, answer).await?;
        (self.transaction, self.owed) = (false, false);
        accept(Phase::Dot, reply)
    }

    /// Ends a transaction without sending; false when the connection is of no more use.
    pub(super) async fn reset(&mut self) -> bool {
        if self.owed {
            return false;
        }
        if !self.transaction {
            return true;
        }
        let limit = self.timeouts.mail.min(RESET);
        let reply = timeout(limit, self.wire.ask(&Rset.to_string())).await;
        self.transaction = false;
        matches!(reply, Ok(Ok(reply)) if reply.class() == 2)
    }

    /// Says goodbye and waits a second at most for the answer.
    pub(super) async fn quit(mut self) {
        let _ = timeout(QUIT, self.wire.ask(&Quit.to_string())).await;
    }
}

/// The message as it goes over the wire: a dot more before each line that begins with one, and the dot that ends it
/// (RFC 5321, section 4.5.2).
fn transparent(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + message.len() / 32 + 8);
    let first = message.starts_with(b".").then_some(0);
    let others = find_iter(message, b"\r\n.").map(|end| end + 2);
    let mut copied = 0;
    for dot in first.into_iter().chain(others) {
        text.extend_from_slice(&message[copied..dot]);
        text.push(b'.');
        copied = dot;
    }
    text.extend_from_slice(&message[copied..]);
    if !text.ends_with(b"\r\n") {
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(DOT.as_bytes());
    text
}

/// Bounds one step of a phase.
pub(super) async fn within<T>(
    limit: Duration,
    phase: Phase,
    step: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Fault> {
    let cause = match timeout(limit, step).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => Cause::from(&error),
        Err(_) => Cause::Timeout,
    };
    Err(Fault { phase, cause })
}

/// A reply of class 3 to DATA, of class 2 to everything else; one where the other was due is out of step, and the rest
/// is a refusal.
pub(super) fn accept(phase: Phase, reply: Reply) -> Result<Reply, Fault> {
    let due = if phase == Phase::Data { 3 } else { 2 };
    let cause = match reply.class() {
        class if class == due => return Ok(reply),
        2 | 3 => Cause::Malformed,
        _ => Cause::Reply(reply),
    };
    Err(Fault { phase, cause })
}

#[cfg(test)]
mod tests {
    use super::transparent;

    #[test]
    fn dots_are_doubled_at_the_beginning_of_lines_alone() {
        for (message, text) in [
            ("", "\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a.\r\n.b\r\n..\r\n", "a.\r\n..b\r\n...\r\n.\r\n"),
            ("a\r\n\r\n.\r\n\r\n", "a\r\n\r\n..\r\n\r\n.\r\n"),
            // a bare line feed ends no line of SMTP
            ("a\n.b\r\n", "a\n.b\r\n.\r\n"),
            ("\n.\r\n", "\n.\r\n.\r\n"),
        ] {
            let made = String::from_utf8(transparent(message.as_bytes())).unwrap();
            assert_eq!(made, text, "{message:?}");
        }
    }
}
