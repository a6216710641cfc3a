//! Fills a database in which at least one person is confirmed: `cargo bench --bench fill -- URL PEOPLE`. Prints what a
//! person weighs, table by table.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints what the clock says"
)]

use sqlx::AssertSqlSafe;

#[path = "compare/fill.rs"]
mod fill;

use fill::Database;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [url, people] = words.as_slice() else {
        println!("usage: fill URL PEOPLE");
        return;
    };
    let people = people.parse().expect("a number of people");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(all(url, people));
}

async fn all(url: &str, people: u64) {
    let (database, [rows, tree]) = fill::fill(url, people).await;
    println!(
        "{people} people, {:.0} s for rows and {:.0} s for the tree",
        rows.as_secs_f64(),
        tree.as_secs_f64()
    );
    weigh(database, people).await;
}

/// Prints the bytes of every table with its indexes, for each person.
async fn weigh(database: Database, people: u64) {
    const SQLITE: &str =
        "select m.tbl_name, sum(case when m.type = 'table' then s.pgsize else 0 end), sum(s.pgsize)
        from (select name, sum(pgsize) as pgsize from dbstat where aggregate = true group by name) s
        join sqlite_master m on m.name = s.name group by m.tbl_name order by 3 desc";
    const POSTGRES: &str = "select relname::text, pg_table_size(oid), pg_total_relation_size(oid)
        from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 3 desc";
    let rows: Vec<(String, i64, i64)> = match database {
        Database::Sqlite(mut db) => {
            sqlx::query_as(AssertSqlSafe(SQLITE.to_owned()))
                .fetch_all(&mut db)
                .await
        }
        Database::Postgres(mut db) => {
            sqlx::query_as(AssertSqlSafe(POSTGRES.to_owned()))
                .fetch_all(&mut db)
                .await
        }
    }
    .expect("sizes");
    let each = |bytes: i64| bytes as f64 / people as f64;
    println!(
        "{:<16}{:>12}{:>12}   bytes a person",
        "", "rows", "and indexes"
    );
    for (table, rows, whole) in rows.iter().filter(|(_, _, whole)| each(*whole) >= 0.05) {
        println!("{table:<16}{:>12.1}{:>12.1}", each(*rows), each(*whole));
    }
    let (rows, whole) = rows
        .iter()
        .fold((0, 0), |(a, b), row| (a + row.1, b + row.2));
    println!("{:<16}{:>12.1}{:>12.1}", "all", each(rows), each(whole));
}
