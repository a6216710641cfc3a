//! A private PostgreSQL: one cluster for the whole test process, one database for each test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::out;
use super::process::Supervised;

const READY: &str = "database system is ready to accept connections";
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";

/// Starts the server again when it was told to end by another than its supervisor, who asks by TERM.
const AGAIN: &str = r#"
trap 'end=yes; kill -INT "$server"' TERM
while :; do
  "$@" & server=$!
  wait "$server" && [ ! "$end" ] && continue
  wait "$server"; exit
done
"#;

/// Makes a fresh, empty database in the shared cluster.
pub fn database() -> Database<'static> {
    shared().database()
}

/// Starts the cluster that the functional tests share, once.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

/// A running PostgreSQL; it stops when the value is dropped or the test process ends, in whatever way.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    made: AtomicU32,
    _process: Supervised,
}

/// One database of a cluster; dropped with the value, so that a thousand tests do not fill the disk.
#[derive(Debug)]
pub struct Database<'c> {
    /// `postgres://` over loopback TCP, as the owner of the database, who is no superuser.
    pub url: String,
    name: String,
    cluster: &'c Cluster,
}

impl Cluster {
    /// Creates and starts a cluster. Its durability is PostgreSQL's own: confirmd refuses a server without `fsync`.
    pub fn start() -> Cluster {
        let bin = newest(Path::new("/usr/lib/postgresql")).unwrap_or_else(|e| panic!("{e}"));
        // PostgreSQL cannot choose a port itself. Another process may take ours between the asking and the using: ask again.
        for _ in 0..10 {
            match Cluster::try_start(&bin) {
                Ok(cluster) => return cluster,
                Err(log) => assert!(log.contains(PORT_TAKEN), "PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("ten free ports were taken, one after the other");
    }

    fn try_start(bin: &Path) -> Result<Cluster, String> {
        let folder = folder();
        let mut initdb = unprivileged().to_vec();
        let (program, data) = (text(&bin.join("initdb")), text(&folder.join("data")));
        initdb.extend([
            &*program,
            "-D",
            &data,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]);
        run(Command::new(initdb[0])
            .args(&initdb[1..])
            .current_dir("/")
            .env("LC_ALL", "C"));

        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "max_connections=300".to_owned(),
            "shared_buffers=64MB".to_owned(),
        ];
        let program = text(&bin.join("postgres"));
        let mut words = vec!["sh", "-c", AGAIN, "again", &*program, "-D", &data];
        words.extend(settings.iter().flat_map(|setting| ["-c", setting]));
        let mut process =
            Supervised::start(unprivileged(), "TERM", &folder, &words, &[("LC_ALL", "C")]);
        await_ready(&mut process)?;

        let cluster = Cluster {
            folder,
            bin: bin.to_owned(),
            port,
            made: AtomicU32::new(0),
            _process: process,
        };
        cluster.admin("CREATE ROLE confirmd LOGIN");
        Ok(cluster)
    }

    /// Makes a fresh, empty database.
    pub fn database(&self) -> Database<'_> {
        self.create("template0")
    }

    /// Makes a database that begins as a copy of `template`, which must have no open connection.
    pub fn database_from(&self, template: &Database) -> Database<'_> {
        self.create(&template.name)
    }

    fn create(&self, template: &str) -> Database<'_> {
        let name = format!("t{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.admin(&format!(
            "CREATE DATABASE {name} OWNER confirmd TEMPLATE {template}"
        ));
        Database {
            url: format!("postgres://confirmd@127.0.0.1:{}/{name}", self.port),
            name,
            cluster: self,
        }
    }

    /// Writes a database out as `pg_dump` does.
    pub fn dump(&self, url: &str) -> Vec<u8> {
        let dumped = Command::new(self.bin.join("pg_dump")).arg(url).output();
        let dumped = dumped.expect("pg_dump");
        assert!(
            dumped.status.success(),
            "{}",
            String::from_utf8_lossy(&dumped.stderr)
        );
        dumped.stdout
    }

    /// Backs a database up as its operator would, while others write.
    pub fn back_up(&self, url: &str, file: &Path) {
        let words = ["--format=custom", "--file", &text(file), "--dbname", url].map(str::to_owned);
        run(Command::new(self.bin.join("pg_dump")).args(words));
    }

    /// Makes a database from such a backup.
    pub fn restore(&self, file: &Path) -> Database<'_> {
        let database = self.database();
        let words = [
            "--no-owner",
            "--exit-on-error",
            "--dbname",
            &database.url,
            &text(file),
        ];
        run(Command::new(self.bin.join("pg_restore")).args(words));
        database
    }

    /// Shuts the server down, every connection with it, and has it started again.
    pub fn restart(&self) {
        let pid = std::fs::read_to_string(self.folder.join("data/postmaster.pid"));
        let pid = pid.expect("it runs").lines().next().map(str::to_owned);
        run(Command::new("kill").args(["-INT", &pid.expect("its first line")]));
    }

    /// Runs SQL as the superuser.
    pub fn admin(&self, sql: &str) -> String {
        self.psql("postgres", "postgres", sql)
    }

    fn psql(&self, user: &str, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .arg("-h")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-U", user, "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        psql.stdin
            .take()
            .expect("piped")
            .write_all(sql.as_bytes())
            .expect("psql reads");
        let done = psql.wait_with_output().expect("psql");
        assert!(
            done.status.success(),
            "psql: {}\n{sql}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout)
            .expect("UTF-8 from psql")
            .trim_end()
            .to_owned()
    }
}

impl Database<'_> {
    /// Runs SQL as the database's owner; the rows come back one a line, columns between `|`.
    pub fn sql(&self, sql: &str) -> String {
        self.cluster.psql("confirmd", &self.name, sql)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // A failed test keeps its own message as the only one; the files go with the cluster.
        if !std::thread::panicking() {
            self.cluster
                .admin(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        }
    }
}

/// Waits until the server says that it is ready, and sends what it says later to the run's logs.
fn await_ready(process: &mut Supervised) -> Result<(), String> {
    let mut said = BufReader::new(process.supervisor.stderr.take().expect("piped"));
    let mut log = String::new();
    while !log.contains(READY) {
        if said.read_line(&mut log).expect("PostgreSQL writes UTF-8") == 0 {
            return Err(log);
        }
    }
    std::thread::spawn(move || match out::log("postgres") {
        Some(mut file) => std::io::copy(&mut said, &mut file),
        None => std::io::copy(&mut said, &mut std::io::sink()),
    });
    Ok(())
}

/// Makes a folder for a program that refuses root. Not in TMPDIR: a socket's path holds 107 bytes, and the unprivileged
/// user must get there.
pub fn folder() -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("confirmd-pg.")
        .tempdir_in("/tmp")
        .expect("a folder")
        .keep();
    if !unprivileged().is_empty() {
        run(Command::new("chown").arg("postgres:").arg(&folder));
    }
    folder
}

/// `initdb`, `postgres` and `pgbouncer` refuse root: there, the words before a command that make it run as the user of
/// Debian's package.
pub fn unprivileged() -> &'static [&'static str] {
    let root = std::fs::metadata("/proc/self").expect("/proc").uid() == 0;
    if root {
        &[
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ]
    } else {
        &[]
    }
}

/// Finds the newest PostgreSQL below `versions` (Debian does not put these programs into PATH).
fn newest(versions: &Path) -> Result<PathBuf, String> {
    let of = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    std::fs::read_dir(versions)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").is_file() && path.join("bin/psql").is_file())
        .max_by_key(|path| of(path))
        .map(|path| path.join("bin"))
        .ok_or_else(|| {
            format!(
                "no PostgreSQL server below {}: apt-get install postgresql",
                versions.display()
            )
        })
}

fn run(command: &mut Command) {
    let done = command
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    assert!(
        done.status.success(),
        "{}: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn databases_of_the_shared_cluster_are_apart_and_copy_a_template() {
    let (template, other) = (database(), database());
    template.sql("CREATE TABLE seen (who text); INSERT INTO seen VALUES ('here')");
    let copy = shared().database_from(&template);
    assert_eq!(copy.sql("SELECT who FROM seen"), "here");
    assert_eq!(other.sql("SELECT to_regclass('seen') IS NULL"), "t");
    assert_eq!(
        copy.sql("SELECT current_setting('is_superuser'), current_setting('max_connections')"),
        "off|300"
    );
    assert!(
        copy.url.starts_with("postgres://confirmd@127.0.0.1:"),
        "{}",
        copy.url
    );
}

#[test]
fn a_durable_cluster_syncs_and_goes_with_its_handle() {
    let cluster = Cluster::start();
    let database = cluster.database();
    assert_eq!(
        database.sql("SELECT current_setting('fsync'), current_setting('synchronous_commit')"),
        "on|on"
    );
    drop(database);
    let folder = cluster.folder.clone();
    drop(cluster);
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[test]
fn a_missing_server_names_the_package() {
    let empty = tempfile::tempdir().expect("a folder");
    let said = newest(empty.path()).expect_err("nothing is there");
    assert!(said.ends_with("apt-get install postgresql"), "{said}");
}
