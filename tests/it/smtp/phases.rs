//! What each answer, silence and break at each phase comes to, and what it does to the connection.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use confirmd::smtp::{Outgoing, Relay, Settings, Verdict};

use super::{MAIL, OFFERS, is_sent, line, offering, relay, send, send_bytes, settings};
use crate::support::peer::{Act, Peer, Point};

/// Sends once with the script, checks the verdict, then once without: the next mail must go through, on
/// `connections` connections in total. The same whether the relay takes commands at once or one by one.
async fn row(
    settings: impl Fn(&Peer) -> Settings,
    point: Point,
    act: Act,
    expected: &str,
    connections: usize,
) {
    for offer in OFFERS {
        row_of(offer, &settings, point, act.clone(), expected, connections).await;
    }
}

async fn row_of(
    offer: &[&str],
    settings: impl Fn(&Peer) -> Settings,
    point: Point,
    act: Act,
    expected: &str,
    connections: usize,
) {
    let peer = offering(offer).await;
    let relay = Relay::new(settings(&peer)).unwrap();
    let act_named = format!("{act:?}").chars().take(60).collect::<String>();
    let name = format!("{point:?} {act_named} {}", offer[0]);
    peer.at(point, act);
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        expected,
        "{name}"
    );
    peer.script(|_| None);
    assert!(
        is_sent(send(&relay, "b@two.example").await),
        "the mail after {name}"
    );
    assert_eq!(
        peer.mails().last().unwrap().envelope_to,
        ["b@two.example"],
        "the mail after {name}"
    );
    assert_eq!(
        peer.seen(|seen| seen.connections),
        connections,
        "connections, {name}"
    );
}

#[tokio::test]
async fn every_reply_has_its_verdict() {
    use Point::*;
    for (point, reply, expected, connections) in [
        (
            Greeting,
            "421 4.3.2 busy",
            "deferred greeting: 421 4.3.2",
            2,
        ),
        (
            Greeting,
            "554 5.7.1 no",
            "misconfigured greeting: 554 5.7.1",
            2,
        ),
        (
            Greeting,
            "354 what",
            "deferred greeting: malformed answer",
            2,
        ),
        (Ehlo, "421 busy", "deferred hello: 421", 2),
        (
            Ehlo,
            "550 5.7.1 bad name",
            "misconfigured hello: 550 5.7.1",
            2,
        ),
        (Ehlo, "571 not you", "misconfigured hello: 571", 2),
        (Mail, "421 4.7.0 too many", "deferred mail: 421 4.7.0", 2),
        (Mail, "451 4.3.0 later", "deferred mail: 451 4.3.0", 1),
        (Mail, "550 5.7.1 sender", "misconfigured mail: 550 5.7.1", 1),
        (Mail, "354 what", "deferred mail: malformed answer", 2),
        (Rcpt, "421 later", "deferred rcpt: 421", 2),
        (Rcpt, "451 4.7.1 greylisted", "deferred rcpt: 451 4.7.1", 1),
        (Rcpt, "452 4.5.3 too many", "deferred rcpt: 452 4.5.3", 1),
        (Rcpt, "552 too many", "deferred rcpt: 552", 1),
        (
            Rcpt,
            "550 5.1.1 <a@one.example> unknown",
            "refused rcpt: 550 5.1.1",
            1,
        ),
        (Rcpt, "550 unknown", "refused rcpt: 550", 1),
        (
            Rcpt,
            "550 5.7.1 relaying",
            "misconfigured rcpt: 550 5.7.1",
            1,
        ),
        (Data, "451 later", "deferred data: 451", 1),
        (
            Data,
            "554 5.5.1 no valid recipients",
            "misconfigured data: 554 5.5.1",
            1,
        ),
        (Data, "554 no", "deferred data: 554", 1),
        (Data, "250 what", "deferred data: malformed answer", 2),
        (Dot, "421 4.3.2 closing", "deferred dot: 421 4.3.2", 2),
        (Dot, "451 4.3.0 later", "deferred dot: 451 4.3.0", 1),
        (Dot, "554 5.6.0 content", "rejected dot: 554 5.6.0", 1),
        (
            Dot,
            "550 5.1.1 unknown after all",
            "refused dot: 550 5.1.1",
            1,
        ),
        (Dot, "554 5.7.1 spam", "misconfigured dot: 554 5.7.1", 1),
        // whose second digit nobody defines is judged by the first (RFC 5321, section 4.3.2)
        (Mail, "577 sender", "misconfigured mail: 577", 1),
        (Rcpt, "471 later", "deferred rcpt: 471", 1),
        (Rcpt, "571 5.1.1 unknown", "refused rcpt: 571 5.1.1", 1),
        (Rcpt, "590 no", "refused rcpt: 590", 1),
        (Dot, "471 later", "deferred dot: 471", 1),
        (Dot, "571 refused", "rejected dot: 571", 1),
        (Dot, "354 what", "ambiguous: malformed answer", 2),
    ] {
        row(settings, point, Act::reply(reply), expected, connections).await;
    }
}

const POINTS: [(Point, &str); 6] = [
    (Point::Greeting, "deferred greeting: "),
    (Point::Ehlo, "deferred hello: "),
    (Point::Mail, "deferred mail: "),
    (Point::Rcpt, "deferred rcpt: "),
    (Point::Data, "deferred data: "),
    (Point::Dot, "ambiguous: "),
];

#[tokio::test]
async fn a_closed_connection_is_ambiguous_only_after_the_dot() {
    for (point, verdict) in POINTS {
        row(
            settings,
            point,
            Act::Close,
            &format!("{verdict}connection closed"),
            2,
        )
        .await;
    }
}

#[tokio::test]
async fn a_silent_relay_is_left_at_each_phase() {
    const SHORT: Duration = Duration::from_millis(60);
    for (point, verdict, offer) in POINTS
        .into_iter()
        .flat_map(|(point, verdict)| OFFERS.map(|offer| (point, verdict, offer)))
    {
        let short = |peer: &Peer| {
            let mut settings = settings(peer);
            let t = &mut settings.timeouts;
            let limit = match point {
                Point::Greeting => &mut t.greeting,
                Point::Ehlo => &mut t.hello,
                Point::Mail => &mut t.mail,
                Point::Rcpt => &mut t.rcpt,
                Point::Data => &mut t.data,
                _ => &mut t.dot,
            };
            *limit = SHORT;
            settings
        };
        let peer = offering(offer).await;
        let relay = Relay::new(short(&peer)).unwrap();
        peer.at(point, Act::Silence);
        assert_eq!(
            line(send(&relay, "a@one.example").await),
            format!("{verdict}timeout")
        );
        // the dialogue that timed out is not used again
        peer.until("the silent connection to end", |seen| seen.closed == 1)
            .await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_smtp_ends_the_dialogue() {
    let lines = "250-more\r\n".repeat(10_000);
    let huge = format!("250 {}\r\n", "x".repeat(200_000));
    for garbage in [
        "what?\r\n",
        "25\r\n",
        "999 no\r\n",
        "250-a\r\n251 b\r\n",
        "\r\n",
        &lines,
        &huge,
    ] {
        for (point, verdict) in POINTS {
            let act = Act::Raw(garbage.as_bytes().to_vec());
            row(
                settings,
                point,
                act,
                &format!("{verdict}malformed answer"),
                2,
            )
            .await;
        }
    }
    for (point, verdict) in POINTS {
        row(
            settings,
            point,
            Act::Endless,
            &format!("{verdict}malformed answer"),
            2,
        )
        .await;
    }
}

#[tokio::test]
async fn a_reply_too_many_is_never_taken_for_the_next_one() {
    // what comes of it where the commands go at once, and where they go one by one
    for (point, answer, expected) in [
        (
            Point::Greeting,
            "220 hello\r\n220 hello\r\n",
            ["deferred hello: malformed answer"; 2],
        ),
        (
            Point::Ehlo,
            "250-PIPELINING\r\n250 hello\r\n250 hello\r\n",
            ["deferred mail: malformed answer"; 2],
        ),
        (
            Point::Mail,
            "250 ok\r\n250 ok\r\n",
            [
                "deferred data: malformed answer",
                "deferred rcpt: malformed answer",
            ],
        ),
        (
            Point::Rcpt,
            "250 ok\r\n354 go\r\n354 go\r\n",
            [
                "deferred body: malformed answer",
                "deferred data: malformed answer",
            ],
        ),
        // lettre alone takes this 250 for the reply to the dot
        (
            Point::Data,
            "354 go\r\n250 ok\r\n",
            ["deferred body: malformed answer"; 2],
        ),
    ] {
        for (offer, expected) in OFFERS.into_iter().zip(expected) {
            let act = Act::Raw(answer.as_bytes().to_vec());
            row_of(offer, settings, point, act, expected, 2).await;
        }
    }
    // a 250 to the dot stands; what came with it costs only the connection
    let act = Act::Kept(Box::new(Act::Raw(
        b"250 2.0.0 kept\r\n421 closing\r\n".to_vec(),
    )));
    row(settings, Point::Dot, act, "sent 250 2.0.0", 2).await;
}

#[tokio::test]
async fn unusual_but_lawful_replies_are_understood() {
    let long = format!("250 {}\r\n", "x".repeat(2_000)).into_bytes();
    for answer in [
        &b"250\r\n"[..],
        b"250-ok\r\n250\r\n",
        b"250 gr\xfc\xdfe\r\n",
        b"250 ok\n",
        &long,
    ] {
        let act = Act::Kept(Box::new(Act::Raw(answer.to_vec())));
        row(settings, Point::Dot, act, "sent 250", 1).await;
        row(
            settings,
            Point::Rcpt,
            Act::Raw(answer.to_vec()),
            "sent 250 2.0.0",
            1,
        )
        .await;
    }
}

#[tokio::test]
async fn a_mail_that_was_kept_without_an_answer_is_ambiguous() {
    let peer = Peer::start().await;
    for (act, cause) in [(Act::Close, "connection closed"), (Act::Silence, "timeout")] {
        let mut settings = settings(&peer);
        if cause == "timeout" {
            settings.timeouts.dot = Duration::from_millis(60);
        }
        let relay = Relay::new(settings).unwrap();
        peer.at(Point::Dot, Act::Kept(Box::new(act)));
        assert_eq!(
            line(send(&relay, "a@one.example").await),
            format!("ambiguous: {cause}")
        );
    }
    assert_eq!(peer.mails().len(), 2);
}

/// More than the socket buffers of both sides hold, so that writing it stalls.
fn long_mail() -> Vec<u8> {
    let mut mail = b"Subject: long\r\n\r\n".to_vec();
    mail.resize(mail.len() + 32 * 1024 * 1024, b'x');
    mail
}

#[tokio::test]
async fn a_break_in_the_text_is_safe_to_retry() {
    let peer = Peer::start().await;
    let mut settings = settings(&peer);
    settings.timeouts.body = Duration::from_millis(200);
    let relay = Relay::new(settings).unwrap();
    let mail = long_mail();
    for (act, cause) in [(Act::Silence, "timeout"), (Act::Close, "connection closed")] {
        peer.at(Point::Body, act);
        assert_eq!(
            line(send_bytes(&relay, "a@one.example", &mail).await),
            format!("deferred body: {cause}")
        );
    }
    peer.script(|_| None);
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(peer.mails().len(), 1);
}

#[tokio::test]
async fn the_dot_has_its_own_time() {
    let peer = Peer::start().await;
    let mut settings = settings(&peer);
    settings.timeouts.body = Duration::from_millis(50);
    let relay = Relay::new(settings).unwrap();
    peer.hold(Point::Dot);
    let mut sending = std::pin::pin!(send(&relay, "a@one.example"));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut sending).await;
    assert!(
        early.is_err(),
        "gave up before the time of the dot was over: {early:?}"
    );
    peer.release();
    assert!(is_sent(sending.await));
}

#[tokio::test]
async fn the_text_arrives_as_it_is() {
    let peer = Peer::start().await;
    let relay = relay(&peer);
    let dots = b"Subject: dots\r\n\r\n.\r\n..\r\n.leading\r\n\r\n.\r\n";
    let mut chunks = b"Subject: chunks\r\n\r\n".to_vec();
    for n in 0..8_000 {
        chunks.extend_from_slice(format!(".{n}\r\n").as_bytes());
    }
    for mail in [MAIL, dots, &chunks] {
        assert!(is_sent(send_bytes(&relay, "a@one.example", mail).await));
        assert!(
            peer.mails().last().unwrap().bytes == mail,
            "{:?}",
            String::from_utf8_lossy(&mail[..30])
        );
    }
    assert!(is_sent(
        send_bytes(&relay, "a@one.example", b"Subject: open end\r\n\r\nx").await
    ));
    assert!(
        peer.mails()
            .last()
            .unwrap()
            .bytes
            .ends_with(b"\r\n\r\nx\r\n")
    );
    let first = &peer.mails()[0];
    assert_eq!(
        (first.envelope_from.as_str(), &first.envelope_to[..]),
        ("bounce@lists.example", &["a@one.example".to_owned()][..])
    );
}

#[tokio::test]
async fn the_last_look_comes_after_rcpt_where_commands_go_one_by_one() {
    let peer = offering(OFFERS[1]).await;
    let relay = relay(&peer);
    let (from, to) = (
        "bounce@lists.example".parse().unwrap(),
        "a@one.example".parse().unwrap(),
    );
    let mail = Outgoing {
        from: &from,
        to: &to,
        bytes: MAIL,
        dot: &AtomicBool::new(false),
    };

    let verdict = relay.send(mail, async || {
        assert_eq!(
            peer.seen(|seen| (seen.count("RCPT"), seen.count("DATA"))),
            (1, 0)
        );
        false
    });
    assert_eq!(verdict.await, Verdict::Stopped);
    assert_eq!(
        peer.seen(|seen| (seen.count("DATA"), seen.count("RSET"))),
        (0, 1)
    );
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(peer.seen(|seen| seen.connections), 1);

    peer.at(Point::Rcpt, Act::reply("550 5.1.1 unknown"));
    let verdict = relay
        .send(mail, async || -> bool { panic!("nobody asked") })
        .await;
    assert_eq!(line(verdict), "refused rcpt: 550 5.1.1");
}

#[tokio::test]
async fn a_connection_that_cannot_be_reset_is_dropped() {
    for rset in [
        Act::reply("502 what"),
        Act::reply("421 bye"),
        Act::Close,
        Act::Silence,
    ] {
        let peer = Peer::start().await;
        let mut settings = settings(&peer);
        settings.timeouts.mail = Duration::from_millis(500);
        let relay = Relay::new(settings).unwrap();
        peer.script(move |at| match at.point {
            Point::Rcpt => Some(Act::reply("550 5.1.1 unknown")),
            Point::Rset => Some(rset.clone()),
            _ => None,
        });
        for connections in 1..=2 {
            assert_eq!(
                line(send(&relay, "a@one.example").await),
                "refused rcpt: 550 5.1.1"
            );
            assert_eq!(peer.seen(|seen| seen.connections), connections);
        }
    }
}

#[tokio::test]
async fn a_refused_hello_is_told_though_quit_is_not_answered() {
    let peer = Peer::start().await;
    let mut settings = settings(&peer);
    settings.timeouts.hello = Duration::from_millis(500);
    let relay = Relay::new(settings).unwrap();
    peer.script(|at| match at.point {
        Point::Ehlo => Some(Act::reply("550 5.7.1 bad name")),
        Point::Quit => Some(Act::Silence),
        _ => None,
    });
    assert_eq!(
        line(send(&relay, "a@one.example").await),
        "misconfigured hello: 550 5.7.1"
    );
}

#[tokio::test]
async fn the_last_look_may_wait_in_a_task_of_its_own() {
    let peer = Peer::start().await;
    let relay = relay(&peer);
    let (answer, asked) = tokio::sync::oneshot::channel::<bool>();
    let sending = tokio::spawn(async move {
        let (from, to) = (
            "bounce@lists.example".parse().unwrap(),
            "a@one.example".parse().unwrap(),
        );
        let mail = Outgoing {
            from: &from,
            to: &to,
            bytes: MAIL,
            dot: &AtomicBool::new(false),
        };
        let mut asked = Some(asked);
        let look = || {
            let asked = asked.take().expect("one look");
            async move { asked.await == Ok(true) }
        };
        relay.send(mail, look).await
    });
    peer.until("the greeting", |seen| seen.count("EHLO") == 1)
        .await;
    assert_eq!(peer.seen(|seen| seen.count("DATA")), 0);
    answer.send(true).unwrap();
    assert!(is_sent(sending.await.unwrap()));
}
