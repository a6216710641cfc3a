//! What a transaction promises: all of it or nothing, also where its writes wait to go out together.

use confirmd::domain::consent::Hash;
use confirmd::store::{Error, Tx};

use crate::support::app::{Db, LISTS, TestApp, both};

const TEMPLATE: &str = "a template";

async fn keep(tx: &mut Tx, app: &TestApp) {
    let template = (Hash::of(TEMPLATE.as_bytes()), TEMPLATE.to_owned());
    let now = app.flows.clock.now();
    tx.keep_templates(&[template], now).await.expect("a write");
}

async fn is_kept(tx: &mut Tx) -> bool {
    let read = tx.template(Hash::of(TEMPLATE.as_bytes()));
    read.await.expect("a read").is_some()
}

both!(
    a_transaction_reads_what_it_wrote_and_leaves_nothing_when_it_is_dropped,
    |db| {
        let app = TestApp::start(db).await;
        let pool = &app.flows.pool;
        let mut tx = pool.begin().await.unwrap();
        keep(&mut tx, &app).await;
        drop(tx);
        let mut tx = pool.begin().await.unwrap();
        assert!(!is_kept(&mut tx).await, "dropped before anything was asked");
        keep(&mut tx, &app).await;
        assert!(is_kept(&mut tx).await);
        drop(tx);
        let mut tx = pool.begin().await.unwrap();
        assert!(!is_kept(&mut tx).await, "dropped after");
        keep(&mut tx, &app).await;
        let mut reader = pool.read().await.unwrap();
        assert!(!is_kept(&mut reader).await, "not committed yet");
        drop(reader);
        tx.commit().await.unwrap();
        assert!(is_kept(&mut pool.read().await.unwrap()).await);
    }
);

both!(
    one_that_begins_waits_for_what_a_dropped_one_leaves_to_undo,
    |db| {
        let app = TestApp::start(db).await;
        for _ in 0..50 {
            let mut tx = app.flows.pool.begin().await.unwrap();
            keep(&mut tx, &app).await;
            assert!(is_kept(&mut tx).await);
            // A statement on its way when its transaction is given up.
            let cut_off = tokio::time::timeout(std::time::Duration::ZERO, is_kept(&mut tx));
            let _ = cut_off.await;
            drop(tx);
        }
        let mut tx = app.flows.pool.begin().await.unwrap();
        assert!(!is_kept(&mut tx).await);
        tx.commit().await.unwrap();
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_longer_for_a_lock_than_the_server_lets_is_told_to_come_back() {
    let mut app = TestApp::start(Db::Postgres).await;
    let email = "patience@example.org";
    let mail = app.mail_for(email, &["weekly"]).await;
    let short = "do $$ begin
        execute format('alter database %I set lock_timeout = ''100ms''', current_database());
        end $$";
    app.execute(short).await.expect("set");
    app.restart_with(LISTS, "").await;
    let tx = app.hold_mailbox(email).await;
    let answer = app.press(&mail.confirm(), "").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    tx.commit().await.expect("committed");
    assert_eq!(app.press(&mail.confirm(), "").await.status, 200);
}

both!(
    a_write_that_fails_at_last_is_known_to_have_failed_with_all_before_it,
    |db| {
        let app = TestApp::start(db).await;
        app.sign_up("anna@example.org", &["weekly"]).await;
        let pool = &app.flows.pool;
        let mut tx = pool.begin().await.unwrap();
        let now = app.flows.clock.now();
        let (_, mails) = tx.free_and_pick(now, now, 1).await.unwrap();
        drop(tx);
        assert_eq!(mails.len(), 1);
        let twice = async || -> Result<(), Error> {
            let mut tx = pool.begin().await?;
            keep(&mut tx, &app).await;
            tx.queue(&mails).await?;
            tx.commit().await
        };
        let error = twice().await.unwrap_err();
        assert!(error.is_defect() && !error.is_unknown(), "{error}");
        assert!(!is_kept(&mut pool.read().await.unwrap()).await);
        assert_eq!(app.count("message").await, 1);
        // Nothing of it is in the way of the next.
        let mut tx = pool.begin().await.unwrap();
        keep(&mut tx, &app).await;
        tx.commit().await.unwrap();
        assert!(is_kept(&mut pool.read().await.unwrap()).await);
    }
);
