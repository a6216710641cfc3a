//! Claims that end without an outcome: the mail is tried again, then alone, then set aside where everybody sees it.

use super::claims::{claimed, end_leases};
use super::*;
use crate::decline::no_of;
use crate::support::app::{LISTS, both};
use crate::support::serve::command;

both!(a_mail_that_is_lost_three_times_is_set_aside, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let poison = app.sign_up("poison@example.org", &["weekly"]).await;
    for _ in 0..2 {
        assert_eq!(claimed(&app, 10).await.jobs.len(), 1);
        end_leases(&app).await;
    }
    for i in 0..5 {
        app.sign_up(&format!("p{i}@example.org"), &["weekly"]).await;
    }
    // Lost twice: it goes alone, since one of several may be what kills the others.
    let alone = claimed(&app, 10).await;
    assert_eq!(alone.jobs.len(), 1);
    assert_eq!(alone.jobs[0].to.as_str(), "poison@example.org");
    end_leases(&app).await;
    app.deliver().await;
    assert_eq!(app.peer.mails().len(), 5, "the others are not kept");
    assert_eq!(message(&app, &poison).await, "quarantined 0 0");
    let last = last_event(&app, &poison).await;
    assert_eq!(
        (&last["type"], &last["claims"]),
        (&"message.quarantined".into(), &3.into())
    );
    app.pass(24 * 60 * MINUTE);
    app.deliver().await;
    assert_eq!(app.peer.mails().len(), 5, "it stays where it is");

    let said = |words: &[&str]| {
        let done = command(&app, words);
        let text = String::from_utf8(done.stdout).expect("UTF-8");
        (done.status.code(), text)
    };
    let (code, list) = said(&["message", "list", "--format", "json"]);
    let mail: Value = serde_json::from_str(&list).expect("one line of JSON");
    assert_eq!(code, Some(0));
    assert_eq!(
        (&mail["signup"], &mail["lost_claims"]),
        (&poison.as_str().into(), &3.into())
    );
    assert!(said(&["message", "list"]).1.contains("lost 3 times"));
    assert!(said(&["stats"]).1.contains("1 set aside"));
    let id = mail["id"].as_str().expect("an id");
    assert_eq!(said(&["message", "release", id]).0, Some(0));
    assert_eq!(said(&["message", "release", id]).0, Some(1));
    assert_eq!(said(&["message", "list"]).1, "no mail is set aside\n");
    // It is tried again, though in vain: these claims pinned templates that nobody has.
    app.deliver().await;
    assert_eq!(message(&app, &poison).await, "queued 1 0");
    let kinds = kinds(&app, &poison).await;
    let expected = [
        "message.quarantined",
        "message.released",
        "message.deferred",
    ];
    assert_eq!(kinds[1..], expected);
});

both!(an_outcome_ends_the_count_of_lost_claims, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    for _ in 0..4 {
        for _ in 0..2 {
            assert_eq!(claimed(&app, 10).await.jobs.len(), 1);
            end_leases(&app).await;
        }
        app.peer.at(
            crate::support::peer::Point::Rcpt,
            crate::support::peer::Act::reply("451 4.7.1 later"),
        );
        app.deliver().await;
        app.pass(5 * 60 * MINUTE);
    }
    assert_eq!(message(&app, &signup).await, "queued 4 0");
});

both!(a_mail_that_is_set_aside_ends_with_its_link, |db| {
    let lists = LISTS.replace("frequency = \"P7D\"", "link_life = \"1 hour\"");
    let app = TestApp::with(db, &lists, QUICK).await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    for _ in 0..3 {
        assert_eq!(claimed(&app, 10).await.jobs.len(), 1);
        app.execute("update message set lease_until = created_at where state = 'claimed'")
            .await
            .expect("it runs");
    }
    app.deliver().await;
    assert_eq!(message(&app, &signup).await, "quarantined 0 0");
    app.pass(61 * MINUTE);
    app.sweep().await;
    assert_eq!(message(&app, &signup).await, "cancelled 0 0");
    assert_eq!(app.outcome(&signup).await, "accepted weekly=expired");
    // It stands in no other's way.
    app.pass(11 * MINUTE);
    app.mail_for("anna@example.org", &["weekly"]).await;
});

both!(a_mail_that_is_set_aside_ends_with_its_no, |db| {
    let app = TestApp::with(db, LISTS, QUICK).await;
    let signup = app.sign_up("anna@example.org", &["weekly"]).await;
    for _ in 0..3 {
        assert_eq!(claimed(&app, 10).await.jobs.len(), 1);
        end_leases(&app).await;
    }
    app.deliver().await;
    assert_eq!(message(&app, &signup).await, "quarantined 0 0");
    let page = app.press(&no_of(&app, &signup), "reason=no").await;
    assert_eq!(page.status, 200, "{}", page.body);
    app.sweep().await;
    app.deliver().await;
    assert_eq!(message(&app, &signup).await, "cancelled 0 0");
    assert_eq!(app.outcome(&signup).await, "accepted weekly=declined");
    // Who wants it after all gets a mail.
    app.pass(11 * MINUTE);
    app.mail_for("anna@example.org", &["weekly"]).await;
    assert_eq!(app.peer.mails().len(), 1);
});
