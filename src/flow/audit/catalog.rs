//! The catalog: words and facts are kept under the hash of what they say.

use super::report::{At, Check, Report};
use crate::domain::consent::Hash;
use crate::store::{Error, Tx};

const PAGE: i64 = 200;

/// Compares all words and facts with their hashes.
pub(super) async fn compare(tx: &mut Tx, report: &mut Report) -> Result<(), Error> {
    for (list, locale, (hash, body)) in tx.kept_words().await? {
        if Hash::of(body.as_bytes()) != hash {
            let what =
                format!("the words of list {list} in {locale} are not those of their hash {hash}");
            report.add(Check::Catalog, At::Nothing, what);
        }
    }
    let mut after = Vec::new();
    loop {
        let page = tx.facts_after(&after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = last.0.to_vec();
        for (hash, body) in page {
            if Hash::of(body.as_bytes()) != hash {
                let what = format!("the facts {hash} are not those of their hash");
                report.add(Check::Catalog, At::Nothing, what);
            }
        }
    }
}
