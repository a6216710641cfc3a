//! The dialogue on one connection, each phase under its own timeout.
//!
//! A phase ends with the reply that it waits for or with a [`Fault`]. MAIL, RCPT and DATA are separate steps with
//! separate replies; a relay that offers PIPELINING could be sent the first two at once, if `wire` then allowed two
//! replies in one turn.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset},
        response::Response,
    },
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Cause, Phase, Reply, Timeouts, hello::Capabilities};

/// Bounds for courtesies, whose outcome changes nothing for a mail.
const RESET: Duration = Duration::from_secs(10);
const QUIT: Duration = Duration::from_secs(1);
/// Bytes of a message written at a time; a stall is counted from the last of them.
const CHUNK: usize = 16 * 1024;

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

/// A connection that is greeted, encrypted and logged in as the target asks for.
pub(super) struct Session {
    pub(super) connection: AsyncSmtpConnection,
    pub(super) capabilities: Capabilities,
    pub(super) timeouts: Timeouts,
    /// Mails begun.
    pub(super) begun: u32,
}

impl Session {
    /// MAIL: begins a transaction.
    pub(super) async fn mail(&mut self, from: &Address) -> Result<(), Fault> {
        self.begun += 1;
        let command = Mail::new(Some(from.clone()), Vec::new());
        let response = self
            .response(Phase::Mail, self.timeouts.mail, command)
            .await?;
        positive(Phase::Mail, Reply::from(&response)).map(drop)
    }

    pub(super) async fn rcpt(&mut self, to: &Address) -> Result<(), Fault> {
        let command = Rcpt::new(to.clone(), Vec::new());
        let response = self
            .response(Phase::Rcpt, self.timeouts.rcpt, command)
            .await?;
        positive(Phase::Rcpt, Reply::from(&response)).map(drop)
    }

    pub(super) async fn data(&mut self) -> Result<(), Fault> {
        let response = self.response(Phase::Data, self.timeouts.data, Data).await?;
        match Reply::from(&response).class() {
            3 => Ok(()),
            _ => Err(Fault {
                phase: Phase::Data,
                cause: Cause::Malformed,
            }),
        }
    }

    /// Writes the message and its dot. The fault's phase is [`Phase::Body`] only while the dot was certainly not
    /// begun.
    pub(super) async fn text(&mut self, bytes: &[u8]) -> Result<Reply, Fault> {
        let begin = |phase| (phase, Instant::now());
        let progress = Mutex::new(begin(Phase::Body));
        let now = || *progress.lock().unwrap_or_else(PoisonError::into_inner);
        // lettre ends every message with CRLF, so that one that has it would grow by an empty line
        let mut chunks = bytes.strip_suffix(b"\r\n").unwrap_or(bytes).chunks(CHUNK);
        // lettre asks for the next chunk when it has written the last, and for one too many before the dot
        let chunks = std::iter::from_fn(|| {
            let chunk = chunks.next();
            let phase = if chunk.is_some() {
                Phase::Body
            } else {
                Phase::Dot
            };
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = begin(phase);
            chunk
        });
        let limits = self.timeouts;
        let deadline = || match now() {
            (Phase::Body, since) => since + limits.body,
            (_, since) => since + limits.dot,
        };
        let result = before(deadline, self.connection.message_iter(chunks)).await;
        let cause = match result {
            Some(Ok(response)) => return positive(Phase::Dot, Reply::from(&response)),
            Some(Err(error)) => Cause::from(&error),
            None => Cause::Timeout,
        };
        Err(Fault {
            phase: now().0,
            cause,
        })
    }

    /// Ends a transaction without sending; false when the connection is of no more use.
    pub(super) async fn reset(&mut self) -> bool {
        let limit = self.timeouts.mail.min(RESET);
        let response = self.response(Phase::Mail, limit, Rset).await;
        response.is_ok_and(|response| Reply::from(&response).class() == 2)
    }

    /// Says goodbye and waits a second at most for the answer.
    pub(super) async fn quit(mut self) {
        let _ = timeout(QUIT, self.connection.quit()).await;
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn response(
        &mut self,
        phase: Phase,
        limit: Duration,
        command: impl std::fmt::Display,
    ) -> Result<Response, Fault> {
        match timeout(limit, self.connection.command(command)).await {
            Ok(response) => response.map_err(|error| Fault {
                phase,
                cause: Cause::from(&error),
            }),
            Err(_) => Err(Fault {
                phase,
                cause: Cause::Timeout,
            }),
        }
    }
}

/// Runs `step` until a deadline that moves as the step makes progress; `None` when the deadline came first.
async fn before<T>(deadline: impl Fn() -> Instant, step: impl Future<Output = T>) -> Option<T> {
    let mut step = pin!(step);
    let mut alarm = pin!(sleep_until(deadline()));
    poll_fn(|cx| {
        if let Poll::Ready(result) = step.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if alarm.deadline() != deadline() {
            alarm.as_mut().reset(deadline());
        }
        alarm.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A reply of class 2; 3 where 2 was due is out of step, and the rest is a refusal.
pub(super) fn positive(phase: Phase, reply: Reply) -> Result<Reply, Fault> {
    match reply.class() {
        2 => Ok(reply),
        3 => Err(Fault {
            phase,
            cause: Cause::Malformed,
        }),
        _ => Err(Fault {
            phase,
            cause: Cause::Reply(reply),
        }),
    }
}
