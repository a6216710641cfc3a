//! A private PgBouncer in transaction mode, before a PostgreSQL of the tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;

use super::out;
use super::postgres::{folder, unprivileged};
use super::process::Supervised;

const PROGRAM: &str = "/usr/sbin/pgbouncer";
const READY: &str = "process up";
const PORT_TAKEN: &str = "Address already in use";

/// Connections that it opens to a database, however many come to it.
pub const CONNECTIONS: usize = 4;

/// A running PgBouncer; it stops when the value is dropped or the test process ends.
#[derive(Debug)]
pub struct Pooler {
    /// The database that it was started for, through it.
    pub url: String,
    _process: Supervised,
}

impl Pooler {
    /// Starts one before the database at a `postgres://` URL. `settings` are further lines of its configuration.
    pub fn before(url: &str, settings: &str) -> Pooler {
        assert!(
            Path::new(PROGRAM).exists(),
            "no {PROGRAM}: apt-get install pgbouncer"
        );
        for _ in 0..10 {
            match Pooler::try_before(url, settings) {
                Ok(pooler) => return pooler,
                Err(log) => assert!(log.contains(PORT_TAKEN), "PgBouncer did not start:\n{log}"),
            }
        }
        panic!("ten free ports were taken, one after the other");
    }

    fn try_before(url: &str, settings: &str) -> Result<Pooler, String> {
        let server = url.split(['@', '/']).nth(3).expect("host and port");
        let (host, port) = server.split_once(':').expect("a port");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let own = free.expect("a free port").port();
        let folder = folder();
        let file = folder.join("pgbouncer.ini");
        let lines = format!(
            "[databases]
            * = host={host} port={port} user=confirmd
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {own}
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = {CONNECTIONS}
            max_client_conn = 200
            {settings}\n"
        );
        let lines = lines.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        std::fs::write(&file, lines).expect("a file");
        let words = [PROGRAM, file.to_str().expect("a path in UTF-8")];
        let mut process = Supervised::start(unprivileged(), "INT", &folder, &words, &[]);
        let mut said = BufReader::new(process.supervisor.stderr.take().expect("piped"));
        let mut log = String::new();
        while !log.contains(READY) {
            if said.read_line(&mut log).expect("UTF-8") == 0 {
                return Err(log);
            }
        }
        std::thread::spawn(move || match out::log("pgbouncer") {
            Some(mut file) => std::io::copy(&mut said, &mut file),
            None => std::io::copy(&mut said, &mut std::io::sink()),
        });
        Ok(Pooler {
            url: url.replace(server, &format!("127.0.0.1:{own}")),
            _process: process,
        })
    }
}
