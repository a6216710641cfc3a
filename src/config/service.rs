//! What the process itself does: listeners, limits, evidence, logs, roles.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::Value;
use ipnet::IpNet;
use url::Url;

use super::kinds::{
    address, endpoint, list, listen, number, one_of, origin, path, span, switch, text, words,
};
use super::read::{Read, Table, fault};
use crate::domain::address::Address;
use crate::domain::consent::Keep;
use crate::domain::limits;

/// `[server]`: the API and the pages.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The origin of every link, without a slash at its end.
    pub public_url: String,
    /// Connections open at once.
    pub max_connections: usize,
    /// Longest time for the head of a request.
    pub header_timeout: Duration,
    /// Longest time from the head of a request to the answer.
    pub request_timeout: Duration,
    /// How long a soft stop lets running work finish.
    pub drain: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Server {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let socket = table.get("listen", listen);
        let url = "\"https://lists.acme.example\"";
        let public_url = table.required("public_url", url, origin);
        let max_connections = table.get("max_connections", number(1..=100_000));
        let header_timeout = table.get("header_timeout", span("100 ms", "5 minutes"));
        let request_timeout = table.get("request_timeout", span("100 ms", "1 hour"));
        let drain = table.get("drain", span("0 s", "1 hour"));
        let trusted_proxies = table.get("trusted_proxies", list(100, network));
        table.finish();
        Some(Self {
            listen: socket?,
            public_url: plain(&public_url?),
            max_connections: max_connections?,
            header_timeout: header_timeout?,
            request_timeout: request_timeout?,
            drain: drain?,
            trusted_proxies: trusted_proxies?,
        })
    }

    /// Returns the name for EHLO that `public_url` suggests: its host, or an address literal (RFC 5321, 4.1.3).
    pub(super) fn host(&self) -> Option<String> {
        match Url::parse(&self.public_url).ok()?.host()? {
            url::Host::Domain(name) => Some(name.to_owned()),
            url::Host::Ipv4(ip) => Some(format!("[{ip}]")),
            url::Host::Ipv6(ip) => Some(format!("[IPv6:{ip}]")),
        }
    }
}

/// Writes an origin without a slash at its end.
pub(super) fn plain(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Reads a network, or one address.
fn network(value: &Value) -> Read<IpNet> {
    let text = words(value)?;
    let one = text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse().or(one).map_err(|_| {
        fault(
            "is no network",
            "write an address or a network, as in \"127.0.0.1\" or \"10.0.0.0/8\"",
        )
    })
}

/// `[ops]`: the operator's listener.
#[derive(Clone, Debug)]
pub struct Ops {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Ops {
    pub(super) fn read(mut table: Table, server: Option<&Server>) -> Option<Self> {
        let socket = table.get("listen", listen);
        if let (Some(ours), Some(server)) = (socket, server)
            && overlap(ours, server.listen)
        {
            let problem = format!("is taken by server.listen, {}", server.listen);
            table.fault("listen", &problem, "write another port");
        }
        table.finish();
        Some(Self { listen: socket? })
    }
}

/// Tells whether two listeners would be in each other's way; port 0 is any that is free.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || all)
}

/// `[keys]`: the folder of cryptographic keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The folder.
    pub dir: PathBuf,
}

impl Keys {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let dir = table.required("dir", "\"data/keys\"", path);
        table.finish();
        Some(Self { dir: dir? })
    }
}

/// `[limits]`: how many mails one mailbox may be made to receive, and how many requests may wait.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The limits on confirmation mails.
    pub mails: limits::Limits,
    /// Own test addresses without limits.
    pub exempt: Vec<Address>,
    /// Requests that may wait for a commit at once.
    pub gate: usize,
}

impl Limits {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let per_list = table.get("per_list", span("0 s", "30 days"));
        let per_sender_day = table.get("per_sender_day", number(1..=1000));
        let per_sender_month = table.get("per_sender_month", number(1..=1000));
        let per_installation_day = table.get("per_installation_day", number(1..=1000));
        let hold = table.get("hold", span("1 day", "3650 days"));
        let exempt = table.get("exempt", list(1000, address));
        let gate = table.get("gate", number(1..=1_000_000));
        table.finish();
        Some(Self {
            mails: limits::Limits {
                per_list: per_list?,
                per_sender_day: per_sender_day?,
                per_sender_month: per_sender_month?,
                per_installation_day: per_installation_day?,
                hold: hold?,
            },
            exempt: exempt?,
            gate: gate?,
        })
    }
}

/// `[evidence]`: how much of network facts is kept.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Of an IP address.
    pub ip: Keep,
    /// Of a browser's name.
    pub user_agent: Keep,
    /// For how long both.
    pub keep_network: Duration,
}

impl Evidence {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        const KEEP: &[(&str, Keep)] = &[
            ("none", Keep::None),
            ("prefix", Keep::Prefix),
            ("full", Keep::Full),
        ];
        let ip = table.get("ip", one_of(KEEP));
        let user_agent = table.get("user_agent", one_of(KEEP));
        let keep_network = table.get("keep_network", span("1 hour", "3650 days"));
        table.finish();
        Some(Self {
            ip: ip?,
            user_agent: user_agent?,
            keep_network: keep_network?,
        })
    }
}

/// `[trail]`: where copies of checkpoints go.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The name of this installation's trail.
    pub origin: Option<String>,
    /// The folder that is compared with the database at start.
    pub copy: Option<PathBuf>,
    /// A program that is given each checkpoint.
    pub command: Vec<String>,
    /// An address to which each checkpoint is posted.
    pub endpoint: Option<Url>,
    /// PEM certificates that the endpoint's may go back to besides Mozilla's roots.
    pub ca_file: Option<PathBuf>,
    /// A program that has a checkpoint time-stamped once a day.
    pub stamp: Vec<String>,
    /// Longest time for the endpoint and for either program.
    pub timeout: Duration,
}

impl Trail {
    pub(super) fn read(mut table: Table, keys: Option<&Keys>) -> Option<Self> {
        let origin = table.get("origin", log_name);
        let copy = table.get("copy", words);
        let command = table.get("command", list(100, words));
        let endpoint = table.get("endpoint", endpoint);
        let ca_file = table.get("ca_file", path);
        if let Some(Err(err)) = ca_file.as_ref().map(std::fs::File::open) {
            let problem = format!("cannot be read: {err}");
            table.fault("ca_file", &problem, "give the path of a PEM file");
        }
        let stamp = table.get("stamp", list(100, words));
        let timeout = table.get("timeout", span("100 ms", "5 minutes"));
        table.finish();
        // Beside the folder of keys, so that whoever restores the database alone does not restore the copy with it.
        let beside = |keys: &Keys| keys.dir.with_file_name("checkpoints");
        Some(Self {
            origin,
            copy: match copy.as_deref() {
                Some("off") => None,
                Some(dir) => Some(PathBuf::from(dir)),
                None => keys.map(beside),
            },
            command: command?,
            endpoint,
            ca_file,
            stamp: stamp?,
            timeout: timeout?,
        })
    }
}

/// Reads the name of a log: a URL without its scheme, as C2SP asks for.
fn log_name(value: &Value) -> Read<String> {
    let name = text(value)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
    match !name.is_empty() && name.len() <= 200 && name.bytes().all(plain) {
        true => Ok(name),
        false => Err(fault(
            "is no name of a trail",
            "write a web address of yours without its scheme, as in \"lists.acme.example/confirmd\"",
        )),
    }
}

/// `[log]`: what is written to standard error, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// Levels by target, as `tracing` writes them.
    pub filter: String,
}

pub use crate::telemetry::logs::Format as LogFormat;

impl Log {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        const FORMATS: &[(&str, LogFormat)] =
            &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        let format = table.get("format", one_of(FORMATS));
        let filter = table.get("filter", |value| {
            let filter = words(value)?;
            crate::telemetry::logs::check(&filter).map_err(|err| {
                let remedy = "write levels by target, as in \"info,confirmd::smtp=debug\"";
                super::read::fault(format!("is no filter: {err}"), remedy)
            })?;
            Ok(filter)
        });
        table.finish();
        Some(Self {
            format: format?,
            filter: filter?,
        })
    }
}

/// `[templates]`: texts of the operator's own.
#[derive(Clone, Debug)]
pub struct Templates {
    /// The folder whose files replace built-in templates.
    pub dir: Option<PathBuf>,
}

impl Templates {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let dir = table.get("dir", path);
        if let Some(dir) = dir.as_ref().filter(|dir| !dir.is_dir()) {
            let problem = format!("no folder {}", dir.display());
            table.fault("dir", &problem, "create it, or leave the key out");
        }
        table.finish();
        Some(Self { dir })
    }
}

/// `[roles]`: what this process does.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Answers the API and the pages.
    pub http: bool,
    /// Sends mails.
    pub deliver: bool,
    /// Numbers and chains events, signs checkpoints.
    pub sequence: bool,
    /// Ends what has expired.
    pub sweep: bool,
}

impl Roles {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let http = table.get("http", switch);
        let deliver = table.get("deliver", switch);
        let sequence = table.get("sequence", switch);
        let sweep = table.get("sweep", switch);
        table.finish();
        Some(Self {
            http: http?,
            deliver: deliver?,
            sequence: sequence?,
            sweep: sweep?,
        })
    }
}

/// `[idempotency]`: repeats of one request.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// How long an `Idempotency-Key` is remembered.
    pub keep: Duration,
}

impl Idempotency {
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let keep = table.get("keep", span("1 hour", "90 days"));
        table.finish();
        Some(Self { keep: keep? })
    }
}
