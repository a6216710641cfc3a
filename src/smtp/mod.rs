//! Hands mails to an SMTP relay, phase by phase, and says exactly what became of each.
//!
//! [`Relay`] keeps the connections, `open` makes them with lettre, `session` speaks the transactions, `wire` is the byte
//! stream beneath both (bounded, in step, plain or TLS), and [`Verdict`] is the table from "phase and cause" to "what to do
//! next".
#![expect(
    missing_docs,
    reason = "phases, timeouts and causes carry the names that RFC 5321 gives them"
)]

mod hello;
mod lent;
mod open;
mod reply;
mod session;
mod set;
mod tls;
mod verdict;
mod wire;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Duration};

use secrecy::SecretString;

pub use reply::{Cause, Enhanced, Phase, Reply};
pub use set::{Probe, Relay};
pub use tls::trusting;
pub use verdict::Verdict;

/// Where the relay is and how to speak to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A name or an IP address without brackets; also the name that the relay's certificate must carry.
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Logs in with AUTH PLAIN or LOGIN; set together with `password` or not at all.
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// PEM certificates that are trusted besides Mozilla's roots.
    pub ca_file: Option<PathBuf>,
    /// The name given in EHLO: a host name or an address literal (RFC 5321, section 4.1.3).
    pub hello: String,
    /// Connections open at once, at least 1.
    pub sessions: usize,
    /// An unused connection is closed after this time.
    pub idle: Duration,
    /// A connection is closed after this many mails, at least 1: many relays answer 421 to a longer run.
    pub messages_per_connection: u32,
    pub timeouts: Timeouts,
}

/// How the connection is encrypted. There is no fallback from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// In clear, the password too: for a relay on the same machine.
    None,
    /// Encrypted after STARTTLS (RFC 3207), which the relay must offer.
    Starttls,
    /// Encrypted from the first byte (RFC 8314, section 3.3).
    Implicit,
}

/// How long each step may take (RFC 5321, section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup and TCP connection, over all addresses together.
    pub connect: Duration,
    pub greeting: Duration,
    /// EHLO, STARTTLS, the TLS handshake and each step of AUTH, one by one.
    pub hello: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    /// The longest stall while the text is written.
    pub body: Duration,
    /// From the terminating dot to its reply. A short value makes duplicates (RFC 1047).
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(300),
            hello: Duration::from_secs(300),
            mail: Duration::from_secs(300),
            rcpt: Duration::from_secs(300),
            data: Duration::from_secs(120),
            body: Duration::from_secs(180),
            dot: Duration::from_secs(600),
        }
    }
}

/// One mail for one recipient. Addresses are ASCII: domains are in A-label form before they come here.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The envelope sender, to which bounces go.
    pub from: &'a lettre::Address,
    pub to: &'a lettre::Address,
    /// The whole message with CRLF line ends, as lettre's builder made it; dots are doubled on the way.
    pub bytes: &'a [u8],
    /// Set before the dot is written: from there on the relay may have the mail, whatever becomes of the call.
    pub dot: &'a AtomicBool,
}

/// What is wrong with [`Settings`].
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("relay host {0:?} is neither a host name nor an IP address")]
    Host(String),
    #[error("relay hello name {0:?} is not printable ASCII without spaces")]
    Hello(String),
    #[error("relay username and password must be set together")]
    Credentials,
    #[error("relay {0} must be at least 1")]
    Zero(&'static str),
    #[error("the CA file {} cannot be read as PEM: {why}", path.display())]
    CaFile {
        path: PathBuf,
        why: rustls::pki_types::pem::Error,
    },
    #[error("the CA file {} holds no certificate", path.display())]
    CaFileEmpty { path: PathBuf },
    #[error("the CA file {} holds a certificate that cannot be a trust anchor: {why}", path.display())]
    CaFileCertificate { path: PathBuf, why: rustls::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
}
