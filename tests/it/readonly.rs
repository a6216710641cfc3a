//! Reading changes nothing: a thousand requests that only look, over links in every state.

use crate::support::app::{TestApp, both, path};
use crate::support::http::Connection;
use crate::support::links::{BY_LINK, MORE, every_link, fresh, with};

const REQUESTS: usize = 1000;
const METHODS: [&str; 4] = ["GET", "HEAD", "OPTIONS", "GET"];

/// What link scanners, prefetching browsers and mail proxies send.
const VISITORS: &[&[(&str, &str)]] = &[
    &[],
    &[
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
    ],
    &[("x-moz", "prefetch"), ("user-agent", "Mozilla/5.0")],
    &[
        ("user-agent", "Mozilla/5.0 (compatible; SafeLinks)"),
        ("accept", "*/*"),
    ],
    &[
        ("user-agent", "GoogleImageProxy"),
        ("via", "1.1 proxy"),
        ("x-forwarded-for", "10.0.0.1"),
    ],
    &[
        ("cookie", "session=1"),
        ("authorization", "Bearer x"),
        ("origin", "https://evil.example"),
    ],
    &[
        ("x-http-method-override", "POST"),
        ("x-method-override", "POST"),
    ],
    &[
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "26"),
    ],
    &[
        ("range", "bytes=0-10"),
        ("if-none-match", "*"),
        ("accept-language", "nl, en;q=0.5"),
    ],
];

/// Sends mixed requests to links, each link by every method. The error is what changed in the database.
async fn look(app: &TestApp, links: &[(&'static str, String)]) -> Result<(), String> {
    let before = app.dump().await;
    let mut connection = Connection::open(app.addr).await.expect("a connection");
    let mut statuses = [0; 6];
    for n in 0..REQUESTS {
        let (name, link) = &links[n % links.len()];
        let method = METHODS[(n / links.len()) % METHODS.len()];
        let visitor = VISITORS[n % VISITORS.len()];
        let query = ["", "?List-Unsubscribe=One-Click", "?list=all&by=page"][n % 3];
        let target = format!("{}{query}", path(link));
        let body: &[u8] = match visitor.iter().any(|(name, _)| *name == "content-length") {
            true => b"List-Unsubscribe=One-Click",
            false => b"",
        };
        let answer = connection.send(method, &target, visitor, body).await;
        let answer = answer.unwrap_or_else(|e| panic!("{method} {name}: {e}"));
        let class = usize::from(answer.status / 100);
        assert!(
            class == 2 || class == 4,
            "{method} {name}: {}",
            answer.status
        );
        statuses[class] += 1;
    }
    // Both kinds came in numbers: the links were genuine ones, and answered.
    assert!(statuses[2] > 400 && statuses[4] > 200, "{statuses:?}");
    let after = app.dump().await;
    match before == after {
        true => Ok(()),
        false => Err(difference(&before, &after)),
    }
}

fn difference(before: &str, after: &str) -> String {
    let only = |a: &str, b: &str| {
        let other: Vec<_> = b.lines().collect();
        let lines = a.lines().filter(|line| !other.contains(line));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    format!(
        "gone:\n{}\nnew:\n{}",
        only(before, after),
        only(after, before)
    )
}

both!(a_thousand_looks_leave_every_row_as_it_was, |db| {
    let app = TestApp::with(db, &with(&[MORE]), "").await;
    let links = every_link(&app).await;
    assert!(links.len() > 40, "{}", links.len());
    for kind in ["c ", "d ", "u ", "r "] {
        let of_kind = links.iter().filter(|(name, _)| name.starts_with(kind));
        assert!(of_kind.count() > 5, "{kind}");
    }
    let looked = look(&app, &links).await;
    looked.unwrap_or_else(|changed| panic!("a look changed the database:\n{changed}"));
});

both!(the_comparison_sees_a_get_that_writes, |db| {
    let lists = with(&[MORE, BY_LINK]);
    let app = TestApp::with(db, &lists, "").await;
    let mut links = every_link(&app).await;
    // This list chose that opening its link confirms; closing others closed nothing of it.
    crate::support::links::put_in_force(&app, &lists).await;
    let [confirm, _] = fresh(&app, "by.link@example.org", &["instant"]).await;
    links.push(("c that writes", confirm));
    let changed = look(&app, &links).await.expect_err("a write went unseen");
    assert!(changed.contains("subscription.confirmed"), "{changed}");
    for table in ["subscription:", "signup:", "signup_list:", "event:"] {
        assert!(
            changed.contains(&format!("\n{table}")),
            "{table}: {changed}"
        );
    }
});
