//! A private Postfix that queues each mail durably, as a smarthost does, and then throws it away.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Supervised;
use crate::sink::Relay;

/// Debian's package postfix brings them. The first must be started as root, and becomes `postfix` where it can.
const MASTER: &str = "/usr/lib/postfix/sbin/master";
const POSTFIX: &str = "/usr/sbin/postfix";
/// How long it may take to start, and to throw away what it queued.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVICES: &str = "
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
postlog unix-dgram n - n - 1 postlogd
";

/// A running Postfix; it and its folder go with the handle.
pub struct Postfix {
    addr: SocketAddr,
    log: BufReader<File>,
    line: String,
    /// Mails in its queue, or that were.
    taken: usize,
    /// Mails thrown away, by recipient.
    discarded: HashMap<String, usize>,
    _process: Supervised,
}

impl Postfix {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("confirmd-postfix.")
            .tempdir_in("/tmp")
            .expect("a folder")
            .keep();
        let addr = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        write_settings(&folder, addr);
        let (etc, log) = (folder.join("etc").display().to_string(), folder.join("log"));
        // Postfix would make it with its first line, which may come after its greeting.
        let read_log = File::create_new(&log).and_then(|_| File::open(&log));
        // It makes the folders of the queue.
        run(Command::new(POSTFIX).args(["-c", &etc, "check"]));
        let words = [MASTER, "-c", &etc, "-d"];
        let mut process = Supervised::start(&[], "TERM", &folder, &words, &[]);
        let began = Instant::now();
        while !greets(addr) {
            let ended = process.supervisor.try_wait().expect("it can be asked");
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "Postfix did not start: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            addr,
            log: BufReader::new(read_log.expect("its log")),
            line: String::new(),
            taken: 0,
            discarded: HashMap::new(),
            _process: process,
        }
    }

    /// Reads what it logged since.
    fn read(&mut self) {
        while self.log.read_line(&mut self.line).expect("its log") > 0 && self.line.ends_with('\n')
        {
            if self.line.contains(": message-id=<") {
                self.taken += 1;
            } else if self.line.contains(" status=sent ") {
                let to = self.line.split_once(" to=<").map(|(_, rest)| rest);
                let to = to.and_then(|rest| rest.split('>').next());
                *self
                    .discarded
                    .entry(to.expect("a recipient").to_owned())
                    .or_default() += 1;
            }
            self.line.clear();
        }
    }
}

impl Relay for Postfix {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn taken(&mut self) -> usize {
        self.read();
        self.taken
    }

    /// Waits until the queue is empty: only then the recipients are known.
    fn counts(&mut self) -> (usize, usize) {
        let began = Instant::now();
        loop {
            self.read();
            let mails: usize = self.discarded.values().sum();
            if mails >= self.taken {
                return (mails, self.discarded.len());
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{mails} of {} mails left the queue",
                self.taken
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Writes `main.cf` and `master.cf`. Nothing slows clients down but the work itself: the default would pause each of them
/// for a second whenever the queue grows.
fn write_settings(folder: &Path, addr: SocketAddr) {
    let (path, port) = (folder.display(), addr.port());
    let (etc, data) = (folder.join("etc"), folder.join("data"));
    for folder in [&etc, &folder.join("queue"), &data] {
        std::fs::create_dir(folder).expect("a folder");
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("ours");
    run(Command::new("chown").arg("postfix:").arg(&data));
    let main = format!(
        "compatibility_level = 3.6
queue_directory = {path}/queue
data_directory = {path}/data
maillog_file = {path}/log
maillog_file_prefixes = {path}
myhostname = mail.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
default_transport = discard:
local_transport = discard:
smtpd_peername_lookup = no
in_flow_delay = 0
"
    );
    std::fs::write(etc.join("main.cf"), main).expect("a file");
    let services = format!("127.0.0.1:{port} inet n - n - - smtpd{SERVICES}");
    std::fs::write(etc.join("master.cf"), services).expect("a file");
}

fn greets(addr: SocketAddr) -> bool {
    let mut greeting = [0; 4];
    let stream = TcpStream::connect(addr);
    stream.is_ok_and(|mut stream| stream.read_exact(&mut greeting).is_ok() && &greeting == b"220 ")
}

fn run(command: &mut Command) {
    let name = command.get_program().display().to_string();
    let done = command
        .output()
        .unwrap_or_else(|e| panic!("{name}: {e}: apt-get install postfix"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{name}: {said}");
}
