//! The relays that take mails, and how delivery feeds them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::kinds::{is_loopback_name, list, number, one_of, path, span, switch, text, words};
use super::read::{Table, fault, one_line};
use super::service::Server;

/// The name of the relay that `[smtp]` describes.
pub const MAIN: &str = "smtp";
const MOST: usize = 100;

/// `[smtp]`, or one of `[relays.*]`
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Where it is, and what it asks for.
    pub at: Place,
    /// The name given in EHLO.
    pub hello: String,
    /// Connections open at once.
    pub sessions: usize,
    /// An unused connection is closed after this time.
    pub idle: Duration,
    /// A connection is closed after this many mails.
    pub messages_per_connection: u32,
    /// Mails a second at most.
    pub rate: Option<u32>,
    /// The relays that take over, in this order, while this one does not work.
    pub fallback: Vec<String>,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// Where a relay is, and what it asks for.
#[derive(Clone, Debug)]
pub struct Place {
    /// A name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Set together with `password` or not at all.
    pub username: Option<String>,
    /// From the setting, `password_file` or a credential.
    pub password: Option<SecretString>,
    /// PEM certificates trusted besides Mozilla's roots.
    pub ca_file: Option<PathBuf>,
}

/// How the connection to the relay is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    None,
    /// After STARTTLS, which the relay must offer.
    Starttls,
    /// From the first byte.
    Implicit,
}

/// `[smtp.timeouts]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name lookup and TCP connection.
    pub connect: Duration,
    /// The relay's greeting.
    pub greeting: Duration,
    /// EHLO, STARTTLS, the TLS handshake and each step of AUTH.
    pub hello: Duration,
    /// The reply to MAIL.
    pub mail: Duration,
    /// The reply to RCPT.
    pub rcpt: Duration,
    /// The reply to DATA.
    pub data: Duration,
    /// The longest stall while the text is written.
    pub body: Duration,
    /// The reply to the final dot.
    pub dot: Duration,
}

impl Smtp {
    pub(super) fn read(mut table: Table, server: Option<&Server>) -> Option<Self> {
        let place = Place::read(&mut table);
        let hello = table.get("hello", printable);
        let sessions = table.get("sessions", number(1..=1000));
        let idle = table.get("idle", span("1 s", "1 hour"));
        let messages_per_connection = table.get("messages_per_connection", number(1..=100_000));
        let rate = table.get("rate", number(1..=100_000));
        let fallback = table.get("fallback", list(MOST, words));
        let timeouts = Timeouts::read(table.table("timeouts"));
        table.finish();
        Some(Self {
            at: place?,
            hello: hello.or(server?.host())?,
            sessions: sessions?,
            idle: idle?,
            messages_per_connection: messages_per_connection?,
            rate,
            fallback: fallback?,
            timeouts: timeouts?,
        })
    }

    /// Reads one of `[relays.*]`; what it does not say is as `[smtp]` says.
    pub(super) fn read_further(mut table: Table, main: Option<&Self>) -> Option<Self> {
        let place = Place::read(&mut table);
        let hello = table.get("hello", printable);
        let sessions = table.get("sessions", number(1..=1000));
        let messages_per_connection = table.get("messages_per_connection", number(1..=100_000));
        let rate = table.get("rate", number(1..=100_000));
        table.finish();
        let main = main?;
        Some(Self {
            at: place?,
            hello: hello.unwrap_or_else(|| main.hello.clone()),
            sessions: sessions.unwrap_or(main.sessions),
            messages_per_connection: messages_per_connection
                .unwrap_or(main.messages_per_connection),
            rate,
            fallback: Vec::new(),
            ..*main
        })
    }
}

impl Place {
    fn read(table: &mut Table) -> Option<Self> {
        const TLS: &[(&str, Tls)] = &[
            ("none", Tls::None),
            ("starttls", Tls::Starttls),
            ("implicit", Tls::Implicit),
        ];
        let host = table.required("host", "\"127.0.0.1\"", host);
        let written = table.has("tls");
        let tls = table.get("tls", one_of(TLS));
        let tls = tls.or((!written).then_some(Tls::Starttls));
        let port = table.get("port", number(1..=65_535));
        let allow_plaintext = table.get("allow_plaintext", switch).unwrap_or(false);
        let away = host.as_deref().is_some_and(|host| !is_loopback_name(host));
        if tls == Some(Tls::None) && away && !allow_plaintext {
            table.fault(
                "tls",
                "\"none\" would send mails in clear to another host",
                &format!(
                    "write \"starttls\" or \"implicit\", or {} = true",
                    table.key("allow_plaintext")
                ),
            );
        }
        let username = table.get("username", words);
        let password = password(table);
        if password
            .as_ref()
            .is_some_and(|p| p.expose_secret().is_empty())
        {
            let remedy = "write the password, or leave it out with the username";
            table.fault("password", "is empty", remedy);
        }
        if username.is_some() != password.is_some() {
            let (lacking, other) = match username {
                Some(_) => ("password", "username"),
                None => ("username", "password"),
            };
            let problem = format!("is missing beside {}", table.key(other));
            table.fault(lacking, &problem, "write both or neither");
        }
        let ca_file = table.get("ca_file", path);
        if let Some(Err(err)) = ca_file.as_ref().map(std::fs::File::open) {
            let problem = format!("cannot be read: {err}");
            table.fault("ca_file", &problem, "give the path of a PEM file");
        }
        Some(Self {
            host: host?,
            port: port.unwrap_or(match tls? {
                Tls::None => 25,
                Tls::Starttls => 587,
                Tls::Implicit => 465,
            }),
            tls: tls?,
            username,
            password,
            ca_file,
        })
    }
}

fn password(table: &mut Table) -> Option<SecretString> {
    let both = table.has("password") && table.has("password_file");
    let file = table.get("password_file", path);
    if both {
        let problem = format!("is written beside {}", table.key("password_file"));
        table.fault("password", &problem, "write only one of them");
    }
    let Some(file) = file else {
        return table.secret("password");
    };
    // Asked for, so that it is known; the file wins over a credential.
    let _ = table.get("password", text);
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(one_line(text).into()),
        Err(err) => {
            let problem = format!("{} cannot be read: {err}", file.display());
            table.fault(
                "password_file",
                &problem,
                "give the path of a readable file",
            );
            None
        }
    }
}

fn host(value: &config::Value) -> Result<String, super::read::Fault> {
    let host = printable(value)?;
    match host.contains(['/', '@', '['])
        || host
            .rsplit_once(':')
            .is_some_and(|(name, _)| !name.contains(':'))
    {
        false => Ok(host),
        true => Err(fault(
            format!("{host:?} is more than a host"),
            "write a name or an IP address alone; the port has a key of its own",
        )),
    }
}

fn printable(value: &config::Value) -> Result<String, super::read::Fault> {
    let text = words(value)?;
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(fault(
            "holds spaces or letters outside ASCII",
            "write the name in its ASCII form",
        )),
    }
}

impl Timeouts {
    fn read(mut table: Table) -> Option<Self> {
        let mut get = |key: &str| table.get(key, span("100 ms", "1 hour"));
        let all = [
            "connect", "greeting", "hello", "mail", "rcpt", "data", "body", "dot",
        ]
        .map(&mut get);
        table.finish();
        let [connect, greeting, hello, mail, rcpt, data, body, dot] = all;
        Some(Self {
            connect: connect?,
            greeting: greeting?,
            hello: hello?,
            mail: mail?,
            rcpt: rcpt?,
            data: data?,
            body: body?,
            dot: dot?,
        })
    }
}

/// Reads `[relays.*]`, and looks whether those that take over are there.
pub(super) fn relays(root: &mut Table, main: Option<&Smtp>) -> BTreeMap<String, Smtp> {
    let mut table = root.table("relays");
    let mut relays = BTreeMap::new();
    for name in table.names() {
        let section = table.table(&name);
        if name == MAIN {
            let remedy = format!("give the section another name; [{MAIN}] is the main relay");
            section.fault_here("is taken", &remedy);
        }
        relays.extend(Smtp::read_further(section, main).map(|relay| (name, relay)));
    }
    let fallback = main.map_or(&[][..], |main| &main.fallback);
    known_relays(root, "smtp.fallback", fallback, &relays);
    relays
}

/// Looks whether every relay that is named is there.
pub(super) fn known_relays(
    table: &Table,
    key: &str,
    names: &[String],
    relays: &BTreeMap<String, Smtp>,
) {
    for (at, name) in names.iter().enumerate() {
        if name != MAIN && !relays.contains_key(name) {
            let known: Vec<_> = relays.keys().map(String::as_str).collect();
            let remedy = match known.is_empty() {
                true => format!("add a section [relays.{name}]"),
                false => format!("write one of: {MAIN}, {}", known.join(", ")),
            };
            let problem = format!("{name:?} is no relay");
            table.fault(&format!("{key}[{at}]"), &problem, &remedy);
        }
    }
}

/// `[delivery]`
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// How often the queue is looked at when no signal comes.
    pub poll: Duration,
    /// By how much a claim outlives the deadline of the phase in progress.
    pub lease_margin: Duration,
    /// Mails claimed at once.
    pub batch: usize,
}

impl Delivery {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let poll = table.get("poll", span("10 ms", "1 hour"));
        let lease_margin = table.get("lease_margin", span("1 s", "1 hour"));
        let batch = table.get("batch", number(1..=10_000));
        table.finish();
        Some(Self {
            poll: poll?,
            lease_margin: lease_margin?,
            batch: batch?,
        })
    }
}
