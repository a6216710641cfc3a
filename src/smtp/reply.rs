//! What a relay answered, without its words: the text of a reply contains addresses.

use std::{error::Error as _, fmt, io};

use lettre::transport::smtp::{self, response::Response};

/// A step of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Connect,
    /// STARTTLS and the handshake.
    Tls,
    Greeting,
    Hello,
    Auth,
    Mail,
    Rcpt,
    /// The DATA command itself.
    Data,
    /// The text, up to but without the terminating dot.
    Body,
    /// From the terminating dot to its reply.
    Dot,
}

impl Phase {
    /// Names the phase in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Greeting => "greeting",
            Phase::Hello => "hello",
            Phase::Auth => "auth",
            Phase::Mail => "mail",
            Phase::Rcpt => "rcpt",
            Phase::Data => "data",
            Phase::Body => "body",
            Phase::Dot => "dot",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enhanced {
    pub class: u8,
    pub subject: u16,
    pub detail: u16,
}

impl Enhanced {
    /// Reads the code that a reply's text begins with. Its class must agree with the reply's (RFC 2034, section 4).
    fn parse(code: u16, text: &str) -> Option<Enhanced> {
        let number = |part: &str| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if digits {
                part.parse::<u16>().ok()
            } else {
                None
            }
        };
        let mut parts = text.split_whitespace().next()?.splitn(3, '.').map(number);
        let (class, subject, detail) = (parts.next()??, parts.next()??, parts.next()??);
        let class = u8::try_from(class)
            .ok()
            .filter(|c| u16::from(*c) == code / 100)?;
        Some(Enhanced {
            class,
            subject,
            detail,
        })
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The codes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
}

impl Reply {
    /// Keeps the codes and forgets the text.
    pub(super) fn new(code: u16, text: &str) -> Reply {
        Reply {
            code,
            enhanced: Enhanced::parse(code, text),
        }
    }

    /// The first digit of the code.
    pub(super) fn class(self) -> u16 {
        self.code / 100
    }
}

impl From<&Response> for Reply {
    fn from(response: &Response) -> Reply {
        Reply::new(
            response.code().into(),
            response.first_line().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(enhanced) => write!(f, "{} {enhanced}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

/// The relay broke the protocol; carried inside [`io::Error`] so that it passes through lettre.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Garbled(pub(super) &'static str);

/// Why a phase did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The relay said no.
    Reply(Reply),
    Timeout,
    /// The relay's name has no address.
    NoAddress,
    /// The relay closed the connection.
    Closed,
    Io(io::ErrorKind),
    /// The TLS handshake failed, most often for the relay's certificate.
    Tls,
    /// The relay does not offer what the settings require: STARTTLS, or a way to log in.
    NotOffered,
    /// The relay's answer is not SMTP, too long, out of step, or not one that fits the command.
    Malformed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Reply(reply) => write!(f, "{reply}"),
            Cause::Timeout => f.write_str("timeout"),
            Cause::NoAddress => f.write_str("host name not found"),
            Cause::Closed => f.write_str("connection closed"),
            Cause::Io(kind) => write!(f, "{kind}"),
            Cause::Tls => f.write_str("TLS handshake failed"),
            Cause::NotOffered => f.write_str("not offered by the relay"),
            Cause::Malformed => f.write_str("malformed answer"),
        }
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Cause {
        use io::ErrorKind::*;
        match error.get_ref() {
            Some(inner) if inner.is::<Garbled>() => return Cause::Malformed,
            Some(inner) if inner.is::<rustls::Error>() => return Cause::Tls,
            _ => {}
        }
        match error.kind() {
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected => {
                Cause::Closed
            }
            TimedOut => Cause::Timeout,
            kind => Cause::Io(kind),
        }
    }
}

impl From<&smtp::Error> for Cause {
    fn from(error: &smtp::Error) -> Cause {
        let source = error.source();
        if let Some(code) = error.status() {
            let text = source.map(ToString::to_string).unwrap_or_default();
            return Cause::Reply(Reply::new(code.into(), &text));
        }
        match source.and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(io) => Cause::from(io),
            None => Cause::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_are_read_only_where_they_belong() {
        let read = |code, text| Enhanced::parse(code, text).map(|e| e.to_string());
        assert_eq!(
            read(550, "5.1.1 <a@b.example> unknown").as_deref(),
            Some("5.1.1")
        );
        assert_eq!(read(550, "5.7.25").as_deref(), Some("5.7.25"));
        assert_eq!(read(250, "2.0.0").as_deref(), Some("2.0.0"));
        for text in [
            "",
            "no such user",
            "5.1",
            "5.1.1.1",
            "5.1.1x",
            "5.1.1234",
            "4.1.1 wrong class",
            "+5.1.1",
            "5..1",
        ] {
            assert_eq!(read(550, text), None, "{text:?}");
        }
    }

    #[test]
    fn a_reply_keeps_no_text() {
        let reply = Reply::new(550, "5.1.1 <someone@example.org> unknown");
        assert_eq!(format!("{reply} {reply:?}").find('@'), None);
        assert_eq!(Cause::Reply(reply).to_string(), "550 5.1.1");
    }
}
