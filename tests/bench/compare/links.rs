//! Links as the mails carry them. The same inputs give the same token, so they are made here from the installation's keys
//! instead of being read out of a hundred thousand mails; and forged ones.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use confirmd::domain::time::Timestamp;
use confirmd::flow::keyring;
use confirmd::store::connect::connect;
use confirmd::token::{LinkKeys, Purpose};
use sqlx::types::Uuid;

use crate::daemon::Home;
use crate::fill;

const A_DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Returns the link keys of an installation.
pub async fn keys(home: &Home) -> LinkKeys {
    let pool = connect(&fill::location(&home.url), 1)
        .await
        .expect("the database");
    let keys = keyring::open_existing(&pool, &home.keys())
        .await
        .expect("keys");
    pool.close().await;
    keys.expect("keys").links
}

/// Returns the paths of links of one purpose for all subjects that a query picks.
pub async fn paths(
    home: &Home,
    keys: &LinkKeys,
    purpose: Purpose,
    sql: &'static str,
) -> Vec<String> {
    let expires = (purpose == Purpose::Confirm).then(|| Timestamp::from_seconds(now()) + 7 * A_DAY);
    let path = |id: Uuid| {
        let token = keys.sign(keys.signing(), purpose, id, expires);
        format!("{}{}", purpose.path(), token.expect("the key is here"))
    };
    home.ids(sql).await.into_iter().map(path).collect()
}

/// Returns what writes requests with forged tokens: well-formed, of a real key, each another one, and none of ours.
pub fn forged(keys: &LinkKeys) -> impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static {
    let mut bytes = [0; 46];
    bytes[0] = 1;
    bytes[1..5].copy_from_slice(&keys.signing().0);
    bytes[5] = b'c';
    bytes[22..30].copy_from_slice(&(now() + 86_400).to_be_bytes());
    move |n, into| {
        let mut bytes = bytes;
        for (i, part) in [6, 14, 30, 38].into_iter().enumerate() {
            let noise = (n + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(i as u32 * 13);
            bytes[part..part + 8].copy_from_slice(&noise.to_be_bytes());
        }
        into.extend_from_slice(b"GET /c/");
        let begin = into.len();
        into.resize(begin + confirmd::token::CHARACTERS, 0);
        let _ = BASE64.encode_slice(bytes, &mut into[begin..]);
        into.extend_from_slice(
            b" HTTP/1.1\r\nhost: lists.acme.example\r\naccept-language: en\r\n\r\n",
        );
    }
}

/// Returns what presses each of these links once.
pub fn press(
    paths: Vec<String>,
    body: &'static str,
) -> impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static {
    move |n, into| {
        let path = &paths[n as usize];
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: lists.acme.example\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        into.extend_from_slice(head.as_bytes());
    }
}

fn now() -> i64 {
    confirmd::clock::Clock::System.now().as_seconds()
}
