//! STARTTLS, implicit TLS and AUTH.

use std::time::Duration;

use confirmd::smtp::{Cause, Phase, Probe, Relay, Settings, Tls};

use super::{is_sent, line, send, settings};
use crate::support::peer::{Act, Crypt, Peer, Point};

/// Settings that trust `ca`, kept in a folder that lives as long as the settings are needed.
fn trusting(peer: &Peer, ca: &str, tls: Tls) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let settings = Settings {
        tls,
        ca_file: Some(ca_file),
        ..settings(peer)
    };
    (folder, settings)
}

fn logging_in(settings: Settings) -> Settings {
    Settings {
        username: Some("user".into()),
        password: Some("secret".to_owned().into()),
        ..settings
    }
}

fn verbs(peer: &Peer) -> Vec<String> {
    peer.seen(|seen| {
        seen.commands
            .iter()
            .map(|(_, line)| line.split(' ').next().unwrap().to_owned())
            .collect()
    })
}

#[tokio::test]
async fn starttls_comes_before_everything_else() {
    let peer = Peer::build()
        .capabilities(&["auth plain login"])
        .crypt(Crypt::Starttls)
        .start()
        .await;
    let (_folder, settings) = trusting(&peer, peer.ca_pem(), Tls::Starttls);
    let relay = Relay::new(logging_in(settings)).unwrap();
    assert!(is_sent(send(&relay, "a@one.example").await));
    assert!(is_sent(send(&relay, "b@two.example").await));
    let first = ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"];
    assert_eq!(verbs(&peer)[..7], first);
    assert_eq!(
        verbs(&peer)[7..],
        first[4..],
        "the second mail goes over the same connection"
    );
}

#[tokio::test]
async fn starttls_that_is_not_offered_is_not_done_without() {
    let peer = Peer::build().capabilities(&["AUTH PLAIN"]).start().await;
    let relay = Relay::new(logging_in(Settings {
        tls: Tls::Starttls,
        ..settings(&peer)
    }))
    .unwrap();
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "misconfigured tls: not offered by the relay"
    );
    assert_eq!(verbs(&peer), ["EHLO"]);
}

#[tokio::test]
async fn starttls_that_is_refused_is_not_done_without() {
    for (act, expected) in [
        (Act::reply("454 4.7.0 not now"), "deferred tls: 454 4.7.0"),
        (
            Act::reply("502 5.5.1 never"),
            "misconfigured tls: 502 5.5.1",
        ),
        (Act::Close, "deferred tls: connection closed"),
    ] {
        let peer = Peer::build().crypt(Crypt::Starttls).start().await;
        peer.at(Point::Starttls, act);
        let (_folder, settings) = trusting(&peer, peer.ca_pem(), Tls::Starttls);
        let relay = Relay::new(settings).unwrap();
        assert_eq!(line(send(&relay, "a@one.example").await), expected);
        assert_eq!(verbs(&peer), ["EHLO", "STARTTLS"]);
    }
}

#[tokio::test]
async fn words_in_clear_after_starttls_are_refused() {
    let peer = Peer::build().crypt(Crypt::Starttls).start().await;
    peer.at(
        Point::Starttls,
        Act::Raw(b"220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n".to_vec()),
    );
    let (_folder, settings) = trusting(&peer, peer.ca_pem(), Tls::Starttls);
    let relay = Relay::new(settings).unwrap();
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "deferred tls: malformed answer"
    );
    assert_eq!(verbs(&peer), ["EHLO", "STARTTLS"]);
}

#[tokio::test]
async fn a_certificate_from_elsewhere_is_refused() {
    let other = Peer::start().await;
    for (crypt, tls) in [
        (Crypt::Starttls, Tls::Starttls),
        (Crypt::Implicit, Tls::Implicit),
    ] {
        let peer = Peer::build().crypt(crypt).start().await;
        let (_folder, settings) = trusting(&peer, other.ca_pem(), tls);
        let without = Settings {
            ca_file: None,
            ..settings.clone()
        };
        for settings in [settings, without] {
            let relay = Relay::new(settings).unwrap();
            assert_eq!(
                line(send(&relay, "a@one.example").await),
                "misconfigured tls: TLS handshake failed"
            );
        }
        assert_eq!(peer.mails().len(), 0);
    }
}

#[tokio::test]
async fn implicit_tls_is_spoken_from_the_first_byte() {
    let peer = Peer::build().crypt(Crypt::Implicit).start().await;
    let (_folder, settings) = trusting(&peer, peer.ca_pem(), Tls::Implicit);
    // a name with more than one address perhaps, of which one answers
    let relay = Relay::new(Settings {
        host: "localhost".to_owned(),
        ..settings
    })
    .unwrap();
    assert!(is_sent(send(&relay, "a@one.example").await));
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(verbs(&peer)[..2], ["EHLO", "MAIL"]);
    assert_eq!(peer.seen(|seen| seen.connections), 1);
}

#[tokio::test]
async fn a_relay_in_clear_fails_the_handshake() {
    let peer = Peer::start().await;
    let relay = Relay::new(Settings {
        tls: Tls::Implicit,
        ..settings(&peer)
    })
    .unwrap();
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "misconfigured tls: TLS handshake failed"
    );

    let peer = Peer::start().await;
    peer.at(Point::Greeting, Act::Silence);
    let mut settings = Settings {
        tls: Tls::Implicit,
        ..settings(&peer)
    };
    settings.timeouts.hello = Duration::from_millis(60);
    let relay = Relay::new(settings).unwrap();
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "deferred tls: timeout"
    );
}

#[tokio::test]
async fn both_ways_to_log_in_are_spoken() {
    for (offer, spoken) in [
        ("AUTH LOGIN PLAIN", &["AUTH PLAIN AHVzZXIAc2VjcmV0"][..]),
        ("AUTH LOGIN", &["AUTH LOGIN", "dXNlcg==", "c2VjcmV0"]),
    ] {
        let peer = Peer::build().capabilities(&[offer]).start().await;
        let relay = Relay::new(logging_in(settings(&peer))).unwrap();
        assert!(is_sent(send(&relay, "a@one.example").await));
        let lines: Vec<String> =
            peer.seen(|seen| seen.commands.iter().map(|(_, line)| line.clone()).collect());
        assert_eq!(lines[1..=spoken.len()], *spoken);
    }
}

#[tokio::test]
async fn a_refused_login_is_configuration() {
    for (act, expected) in [
        (
            Act::reply("535 5.7.8 wrong"),
            "misconfigured auth: 535 5.7.8",
        ),
        (Act::reply("454 4.7.0 later"), "deferred auth: 454 4.7.0"),
        (Act::reply("421 busy"), "deferred auth: 421"),
        (Act::reply("571 no"), "misconfigured auth: 571"),
        (Act::reply("334 and"), "deferred auth: malformed answer"),
        (Act::Close, "deferred auth: connection closed"),
        (Act::Silence, "deferred auth: timeout"),
    ] {
        for offer in ["AUTH PLAIN", "AUTH LOGIN"] {
            let peer = Peer::build().capabilities(&[offer]).start().await;
            peer.at(Point::Auth, act.clone());
            let mut settings = logging_in(settings(&peer));
            if matches!(act, Act::Silence) {
                settings.timeouts.hello = Duration::from_millis(500);
            }
            let relay = Relay::new(settings).unwrap();
            assert_eq!(
                line(send(&relay, "a@one.example").await),
                expected,
                "{offer}"
            );
            assert_eq!(peer.seen(|seen| seen.count("MAIL")), 0);
        }
    }
    let peer = Peer::build().capabilities(&["SIZE"]).start().await;
    let relay = Relay::new(logging_in(settings(&peer))).unwrap();
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "misconfigured auth: not offered by the relay"
    );
}

#[tokio::test]
async fn a_probe_tells_what_works_and_sends_nothing() {
    let peer = Peer::build()
        .capabilities(&["PIPELINING", "AUTH PLAIN"])
        .crypt(Crypt::Starttls)
        .start()
        .await;
    let (_folder, settings) = trusting(&peer, peer.ca_pem(), Tls::Starttls);
    let relay = Relay::new(logging_in(settings)).unwrap();
    assert_eq!(
        relay.probe().await,
        Ok(Probe {
            tls: true,
            auth: true,
            pipelining: true
        })
    );
    assert_eq!(verbs(&peer), ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]);

    peer.at(Point::Auth, Act::reply("535 5.7.8 wrong"));
    let (phase, cause) = relay.probe().await.unwrap_err();
    assert_eq!(
        (phase, cause.to_string().as_str()),
        (Phase::Auth, "535 5.7.8")
    );
    assert!(matches!(cause, Cause::Reply(_)));
}
