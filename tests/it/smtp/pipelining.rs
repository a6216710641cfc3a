//! What is different where the relay takes MAIL, RCPT and DATA at once (RFC 2920).

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use confirmd::smtp::{Outgoing, Relay, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{MAIL, OFFERS, in_time, is_sent, line, offering, relay, send, settings};
use crate::support::peer::{Act, Moment, Peer, Point};

/// Answers each point that is named.
fn answers(
    answers: &'static [(Point, &'static str)],
) -> impl Fn(&Moment<'_>) -> Option<Act> + Send + Sync + 'static {
    move |at| {
        let answer = answers.iter().find(|(point, _)| *point == at.point);
        answer.map(|(_, reply)| Act::reply(reply))
    }
}

/// Reads until the client has said all of this.
async fn said(stream: &mut TcpStream, end: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "closed");
    }
}

#[tokio::test]
async fn three_commands_go_at_once_and_their_replies_may_come_in_any_pieces() {
    let replies = b"250-2.1.0 ok\r\n250 ok\r\n250 2.1.5 ok\r\n354 go\r\n";
    for cut in 0..replies.len() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&Peer::start().await);
        settings.port = listener.local_addr().unwrap().port();
        let relay = Relay::new(settings).unwrap();
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(b"220 hello\r\n").await.unwrap();
            said(&mut stream, "EHLO confirmd.example\r\n").await;
            let hello = b"250-hello\r\n250 PIPELINING\r\n";
            stream.write_all(hello).await.unwrap();
            // a client that waits for the first reply before it says more never gets one
            said(&mut stream, "\r\nDATA\r\n").await;
            stream.write_all(&replies[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(&replies[cut..]).await.unwrap();
            said(&mut stream, "\r\n.\r\n").await;
            stream.write_all(b"250 kept\r\n").await.unwrap();
            stream
        };
        let (_stream, verdict) = tokio::join!(peer, send(&relay, "a@one.example"));
        assert!(is_sent(verdict), "cut at {cut}: {}", line(verdict));
    }
}

#[tokio::test]
async fn the_last_look_comes_before_the_first_command() {
    let peer = offering(OFFERS[0]).await;
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
    let no = relay.send(mail, async || {
        assert_eq!(
            peer.seen(|seen| (seen.count("EHLO"), seen.count("MAIL"))),
            (1, 0)
        );
        false
    });
    assert_eq!(no.await, Verdict::Stopped);
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(
        peer.seen(|seen| (seen.connections, seen.count("MAIL"), seen.count("RSET"))),
        (1, 1, 0)
    );

    // The kept connection is closed at MAIL: before the next one is told of the mail, there is another look.
    peer.script(|at| (at.point == Point::Mail && at.connection == 0).then_some(Act::Close));
    let looks = Cell::new(0);
    let twice = relay.send(mail, async || {
        looks.set(looks.get() + 1);
        looks.get() == 1
    });
    assert_eq!(in_time(twice).await, Verdict::Stopped);
    assert_eq!(looks.get(), 2);
    assert_eq!(
        peer.seen(|seen| (seen.connections, seen.mails.len(), seen.count("DATA"))),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn a_refusal_in_the_middle_is_told_and_the_transaction_is_reset() {
    for (point, reply, expected) in [
        (Point::Mail, "451 later", "deferred mail: 451"),
        (Point::Rcpt, "550 5.1.1 no", "refused rcpt: 550 5.1.1"),
        (Point::Data, "451 later", "deferred data: 451"),
    ] {
        let peer = offering(OFFERS[0]).await;
        let relay = relay(&peer);
        peer.at(point, Act::reply(reply));
        assert_eq!(line(send(&relay, "a@one.example").await), expected);
        assert_eq!(
            peer.seen(|seen| (seen.count("DATA"), seen.count("RSET"))),
            (1, 1)
        );
        peer.script(|_| None);
        assert!(is_sent(send(&relay, "b@two.example").await));
        assert_eq!(peer.seen(|seen| seen.connections), 1);
        assert_eq!(peer.mails()[0].envelope_to, ["b@two.example"]);
    }
}

#[tokio::test]
async fn a_relay_that_wants_the_text_of_a_refused_mail_gets_none() {
    // With no recipient a dot alone ends it, whatever the relay says to that; the connection goes on.
    for dot in ["554 5.5.1 no recipients", "250 2.0.0 ok"] {
        let peer = offering(OFFERS[0]).await;
        let relay = relay(&peer);
        peer.script(move |at| match at.point {
            Point::Rcpt => Some(Act::reply("550 5.1.1 no")),
            Point::Data => Some(Act::reply("354 go")),
            Point::Dot => Some(Act::reply(dot)),
            _ => None,
        });
        let verdict = send(&relay, "a@one.example").await;
        assert_eq!(line(verdict), "refused rcpt: 550 5.1.1");
        assert!(peer.mails().iter().all(|mail| mail.bytes.is_empty()));
        peer.script(|_| None);
        assert!(is_sent(send(&relay, "b@two.example").await));
        assert_eq!(
            peer.seen(|seen| (seen.connections, seen.count("RSET"))),
            (1, 0)
        );
    }
    // No answer to that dot: only the connection is lost.
    let peer = offering(OFFERS[0]).await;
    let relay = relay(&peer);
    peer.script(|at| match at.point {
        Point::Rcpt => Some(Act::reply("550 5.1.1 no")),
        Point::Data => Some(Act::reply("354 go")),
        Point::Dot => Some(Act::Close),
        _ => None,
    });
    let verdict = send(&relay, "a@one.example").await;
    assert_eq!(line(verdict), "refused rcpt: 550 5.1.1");
    peer.script(|_| None);
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(peer.seen(|seen| seen.connections), 2);
    // A recipient that was taken after a sender that was not could get an empty mail: not even a dot.
    let peer = offering(OFFERS[0]).await;
    let relay = self::relay(&peer);
    peer.script(answers(&[
        (Point::Mail, "451 later"),
        (Point::Rcpt, "250 ok"),
        (Point::Data, "354 go"),
    ]));
    let verdict = send(&relay, "a@one.example").await;
    assert_eq!(line(verdict), "deferred mail: 451");
    peer.until("the end of the connection", |seen| seen.closed == 1)
        .await;
    peer.script(|_| None);
    assert!(is_sent(send(&relay, "b@two.example").await));
    assert_eq!(
        peer.seen(|seen| (seen.connections, seen.mails.len())),
        (2, 1)
    );
}

#[tokio::test]
async fn a_refusal_counts_though_the_connection_breaks_behind_it() {
    for data in [
        Act::Close,
        Act::reply("421 4.3.2 closing"),
        Act::Raw(b"what?\r\n".to_vec()),
    ] {
        let peer = offering(OFFERS[0]).await;
        let relay = relay(&peer);
        peer.script(move |at| match at.point {
            Point::Rcpt => Some(Act::reply("550 5.1.1 no")),
            Point::Data => Some(data.clone()),
            _ => None,
        });
        let verdict = send(&relay, "a@one.example").await;
        assert_eq!(line(verdict), "refused rcpt: 550 5.1.1");
        peer.script(|_| None);
        assert!(is_sent(send(&relay, "b@two.example").await));
        assert_eq!(
            peer.seen(|seen| (seen.connections, seen.count("RSET"))),
            (2, 0)
        );
    }
}
