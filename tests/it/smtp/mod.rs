//! `smtp::Relay` against a scripted peer.

mod connections;
mod encryption;
mod phases;
mod pipelining;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use confirmd::smtp::{Outgoing, Relay, Reply, Settings, Timeouts, Tls, Verdict};
use lettre::Address;

use crate::support::peer::Peer;

const MAIL: &[u8] = b"Message-ID: <1@lists.example>\r\nSubject: Please confirm\r\n\r\nHello\r\n";

/// Settings for a peer in clear: generous limits, so that only the phase under test can time out.
fn settings(peer: &Peer) -> Settings {
    let limit = Duration::from_secs(15);
    Settings {
        host: "127.0.0.1".to_owned(),
        port: peer.addr().port(),
        tls: Tls::None,
        username: None,
        password: None,
        ca_file: None,
        hello: "confirmd.example".to_owned(),
        sessions: 1,
        idle: Duration::from_secs(60),
        messages_per_connection: 100,
        timeouts: Timeouts {
            connect: limit,
            greeting: limit,
            hello: limit,
            mail: limit,
            rcpt: limit,
            data: limit,
            body: limit,
            dot: limit,
        },
    }
}

/// What a relay offers that takes commands at once, and one that takes them one by one.
const OFFERS: [&[&str]; 2] = [&["PIPELINING", "8BITMIME"], &["8BITMIME"]];

async fn offering(offer: &[&str]) -> Peer {
    Peer::build().capabilities(offer).start().await
}

fn relay(peer: &Peer) -> Relay {
    Relay::new(settings(peer)).expect("settings are right")
}

/// Sends [`MAIL`] to `to` on behalf of the same sender.
async fn send(relay: &Relay, to: &str) -> Verdict {
    send_bytes(relay, to, MAIL).await
}

async fn send_bytes(relay: &Relay, to: &str, bytes: &[u8]) -> Verdict {
    let from: Address = "bounce@lists.example".parse().unwrap();
    let to: Address = to.parse().unwrap();
    let mail = Outgoing {
        from: &from,
        to: &to,
        bytes,
        dot: &AtomicBool::new(false),
    };
    in_time(relay.send(mail, async || true)).await
}

/// Fails when the limit that is meant to end the call did not, but one of the generous ones would.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), call)
        .await
        .expect("the call ends by its own limit")
}

/// The verdict in one line.
fn line(verdict: Verdict) -> String {
    match verdict {
        Verdict::Sent { reply } => format!("sent {reply}"),
        Verdict::Refused { phase, reply } => format!("refused {phase}: {reply}"),
        Verdict::Rejected { phase, reply } => format!("rejected {phase}: {reply}"),
        Verdict::Deferred { phase, cause } => format!("deferred {phase}: {cause}"),
        Verdict::Misconfigured { phase, cause } => format!("misconfigured {phase}: {cause}"),
        Verdict::Ambiguous { cause } => format!("ambiguous: {cause}"),
        Verdict::Stopped => "stopped".to_owned(),
    }
}

fn is_sent(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Sent {
            reply: Reply { code: 250, .. }
        }
    )
}
