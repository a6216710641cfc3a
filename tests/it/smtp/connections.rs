//! Which connections are opened, kept, used again, dropped and closed.

use std::time::Duration;

use confirmd::smtp::{Relay, SettingsError, Verdict};
use tokio::task::JoinSet;

use super::{MAIL, in_time, is_sent, line, relay, send, settings};
use crate::support::peer::{Act, Peer, Point};

#[tokio::test]
async fn a_relay_that_is_down_defers() {
    let mut peer = Peer::start().await;
    let relay = relay(&peer);
    peer.down().await;
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "deferred connect: connection refused"
    );
    peer.up().await;
    assert!(is_sent(send(&relay, "a@one.example").await));
}

#[tokio::test]
async fn a_connection_is_used_again_up_to_its_count() {
    let peer = Peer::start().await;
    let mut settings = settings(&peer);
    settings.messages_per_connection = 4;
    let relay = Relay::new(settings).unwrap();
    for _ in 0..10 {
        assert!(is_sent(send(&relay, "a@one.example").await));
    }
    peer.until("two goodbyes", |seen| seen.count("QUIT") == 2)
        .await;
    let by_connection = |n| {
        peer.mails()
            .iter()
            .filter(|mail| mail.connection == n)
            .count()
    };
    assert_eq!([0, 1, 2].map(by_connection), [4, 4, 2]);
}

#[tokio::test]
async fn one_421_defers_one_mail() {
    let peer = Peer::start().await;
    peer.script(|at| {
        let hit = at.point == Point::Rcpt && at.recipient == Some("r4@one.example");
        hit.then(|| Act::reply("421 4.7.0 too much"))
    });
    let mut settings = settings(&peer);
    settings.sessions = 3;
    let relay = Relay::new(settings).unwrap();
    let mut sending = JoinSet::new();
    for n in 0..10 {
        let relay = relay.clone();
        sending.spawn(async move { send(&relay, &format!("r{n}@one.example")).await });
    }
    let mut verdicts: Vec<String> = sending.join_all().await.into_iter().map(line).collect();
    verdicts.sort();
    assert_eq!(verdicts[0], "deferred rcpt: 421 4.7.0");
    assert_eq!(verdicts[1..], ["sent 250 2.0.0"; 9]);
    assert_eq!(peer.mails().len(), 9);
}

#[tokio::test]
async fn no_more_connections_than_sessions() {
    let peer = Peer::start().await;
    peer.hold(Point::Rcpt);
    let mut settings = settings(&peer);
    settings.sessions = 2;
    let relay = Relay::new(settings).unwrap();
    let mut sending = JoinSet::new();
    for _ in 0..6 {
        let relay = relay.clone();
        sending.spawn(async move { send(&relay, "a@one.example").await });
    }
    peer.until("two dialogues", |seen| seen.waiting == 2).await;
    peer.release();
    assert!(sending.join_all().await.into_iter().all(is_sent));
    assert_eq!(peer.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn a_connection_that_the_relay_closed_while_idle_is_replaced() {
    let mut peer = Peer::start().await;
    let relay = relay(&peer);
    assert!(is_sent(send(&relay, "a@one.example").await));
    peer.down().await;
    peer.until("the idle connection to end", |seen| seen.closed == 1)
        .await;
    peer.up().await;
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(peer.seen(|seen| seen.connections), 2);
}

#[tokio::test]
async fn the_first_command_on_a_kept_connection_is_tried_once_more() {
    for act in [
        Act::reply("421 4.4.2 idle for too long"),
        Act::Close,
        Act::Raw(b"what?\r\n".to_vec()),
    ] {
        let peer = Peer::start().await;
        let relay = relay(&peer);
        assert!(is_sent(send(&relay, "a@one.example").await));
        let once = act.clone();
        peer.script(move |at| {
            (at.point == Point::Mail && at.transaction == 1).then(|| once.clone())
        });
        assert!(is_sent(send(&relay, "b@two.example").await), "{act:?}");
        assert_eq!(peer.seen(|seen| seen.connections), 2);

        // a fresh connection is not
        peer.at(Point::Mail, act.clone());
        assert!(matches!(
            send(&relay, "c@three.example").await,
            Verdict::Deferred { .. }
        ));
        assert_eq!(peer.seen(|seen| seen.connections), 3);
        // nor are later commands
        peer.script(|_| None);
        assert!(is_sent(send(&relay, "d@four.example").await));
        peer.at(Point::Rcpt, act);
        assert!(matches!(
            send(&relay, "e@five.example").await,
            Verdict::Deferred { .. }
        ));
        assert_eq!(peer.seen(|seen| seen.connections), 4);
    }
}

#[tokio::test]
async fn a_kept_connection_that_answers_or_is_silent_is_not_replaced() {
    for (act, expected) in [
        (Act::reply("451 4.3.0 later"), "deferred mail: 451 4.3.0"),
        (Act::Silence, "deferred mail: timeout"),
    ] {
        let peer = Peer::start().await;
        let mut settings = settings(&peer);
        settings.timeouts.mail = Duration::from_secs(2);
        let relay = Relay::new(settings).unwrap();
        assert!(is_sent(send(&relay, "a@one.example").await));
        peer.script(move |at| {
            (at.point == Point::Mail && at.transaction == 1).then(|| act.clone())
        });
        assert_eq!(line(send(&relay, "b@two.example").await), expected);
        assert_eq!(peer.seen(|seen| seen.connections), 1);
    }
}

#[tokio::test]
async fn a_dropped_call_never_poisons_the_next() {
    for point in [
        Point::Greeting,
        Point::Ehlo,
        Point::Mail,
        Point::Rcpt,
        Point::Data,
        Point::Dot,
    ] {
        let peer = Peer::start().await;
        let relay = relay(&peer);
        peer.hold(point);
        let dropped = tokio::spawn({
            let relay = relay.clone();
            async move { send(&relay, "a@one.example").await }
        });
        peer.until("the dialogue to be held", |seen| seen.waiting == 1)
            .await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        peer.release();
        peer.script(|at| {
            let second = at.connection == 1 && at.point == Point::Rcpt;
            second.then(|| Act::reply("550 5.1.1 unknown"))
        });
        assert_eq!(
            line(send(&relay, "b@two.example").await),
            "refused rcpt: 550 5.1.1",
            "{point:?}"
        );
        assert_eq!(peer.seen(|seen| seen.connections), 2, "{point:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_quit() {
    let peer = Peer::start().await;
    let mut settings = settings(&peer);
    settings.idle = Duration::from_millis(50);
    let relay = Relay::new(settings).unwrap();
    for round in 1..=2 {
        assert!(is_sent(send(&relay, "a@one.example").await));
        peer.until("the idle connection to end", |seen| seen.closed == round)
            .await;
        assert_eq!(peer.seen(|seen| seen.count("QUIT")), round);
    }
}

#[tokio::test]
async fn close_says_goodbye_and_does_not_wait_for_ever() {
    let peer = Peer::start().await;
    let relay = relay(&peer);
    for act in [None, Some(Act::Silence)] {
        assert!(is_sent(send(&relay, "a@one.example").await));
        peer.script(move |at| act.clone().filter(|_| at.point == Point::Quit));
        in_time(relay.close()).await;
    }
    assert_eq!(
        peer.seen(|seen| (seen.connections, seen.count("QUIT"))),
        (2, 2)
    );
}

#[tokio::test]
async fn the_journal_holds_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let peer = Peer::with_journal(&path).await;
    let mut settings = settings(&peer);
    settings.sessions = 8;
    let relay = Relay::new(settings).unwrap();
    let mut sending = JoinSet::new();
    for n in 0..200 {
        let relay = relay.clone();
        sending.spawn(async move { send(&relay, &format!("r{n}@one.example")).await });
    }
    assert!(sending.join_all().await.into_iter().all(is_sent));
    peer.wait_for(200).await;
    let journal = std::fs::read_to_string(path).unwrap();
    let expected: Vec<String> = peer
        .mails()
        .iter()
        .map(|mail| format!("<1@lists.example> {}", mail.envelope_to[0]))
        .collect();
    assert_eq!(journal.lines().collect::<Vec<_>>(), expected);
    assert!(
        peer.mails()
            .iter()
            .enumerate()
            .all(|(n, mail)| mail.index == n && mail.bytes == MAIL)
    );
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let peer = Peer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let [missing, empty] = ["missing.pem", "empty.pem"].map(|name| folder.path().join(name));
    std::fs::write(&empty, "nothing here\n").unwrap();
    let error = |change: &dyn Fn(&mut confirmd::smtp::Settings)| {
        let mut settings = settings(&peer);
        change(&mut settings);
        Relay::new(settings).err().expect("the settings are wrong")
    };
    assert!(matches!(
        error(&|s| s.host = "[::1]".into()),
        SettingsError::Host(_)
    ));
    assert!(matches!(
        error(&|s| s.hello = "two words".into()),
        SettingsError::Hello(_)
    ));
    assert!(matches!(
        error(&|s| s.username = Some("u".into())),
        SettingsError::Credentials
    ));
    assert!(matches!(
        error(&|s| s.sessions = 0),
        SettingsError::Zero("sessions")
    ));
    assert!(matches!(
        error(&|s| s.ca_file = Some(empty.clone())),
        SettingsError::CaFileEmpty { .. }
    ));
    let unreadable = error(&|s| s.ca_file = Some(missing.clone())).to_string();
    assert!(unreadable.contains("missing.pem"), "{unreadable}");
}
