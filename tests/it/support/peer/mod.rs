//! A scripted SMTP server on a real loopback socket.
//!
//! It accepts every mail unless a script says otherwise, keeps what it accepted, and writes down every connection and
//! command. A test waits for what it wants to see with [`Peer::until`]; nothing here sleeps.

mod dialogue;
pub mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How long a test waits for the peer to see something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A point of the dialogue at which the peer is about to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    Greeting,
    Ehlo,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After the 354, before the text is read.
    Body,
    Dot,
    Rset,
    Quit,
}

/// What the peer does at a point instead of going on.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this line; a 421 closes the connection.
    Reply(String),
    /// Writes these bytes as they are in place of the answer, and goes on.
    Raw(Vec<u8>),
    /// Never answers; reads on only to see the client close.
    Silence,
    /// Closes without an answer.
    Close,
    /// Writes one line without an end until the client closes.
    Endless,
    /// At the dot: keeps the mail as if it were accepted, then does this.
    Kept(Box<Act>),
}

impl Act {
    pub fn reply(line: &str) -> Act {
        Act::Reply(line.to_owned())
    }
}

/// Where a script is asked what to do.
#[derive(Debug)]
pub struct Moment<'a> {
    pub point: Point,
    /// From 0, over all connections.
    pub connection: usize,
    /// From 0, the transactions begun on this connection.
    pub transaction: usize,
    /// The sender of this transaction, from MAIL on.
    pub sender: Option<&'a str>,
    /// The recipient of this transaction, from RCPT on.
    pub recipient: Option<&'a str>,
}

type Script = dyn Fn(&Moment<'_>) -> Option<Act> + Send + Sync;

/// A mail that the peer accepted.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its place in the order of acceptance, from 0.
    pub index: usize,
    pub connection: usize,
    pub envelope_from: String,
    pub envelope_to: Vec<String>,
    /// Without the doubled dots and without the terminator.
    pub bytes: Vec<u8>,
}

/// How connections to the peer are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crypt {
    Clear,
    /// Offers STARTTLS when the capabilities say so.
    Starttls,
    Implicit,
}

/// What the peer has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    /// Connections that ended, from either side.
    pub closed: usize,
    pub mails: Vec<Mail>,
    /// Connection and command line, in order of arrival.
    pub commands: Vec<(usize, String)>,
    /// Mails to whose dot the answer was written.
    pub answered: BTreeSet<usize>,
    /// Dialogues that wait at a held point.
    pub waiting: usize,
    /// Where each open connection stands, and the recipient of its transaction once that is known.
    pub stands: BTreeMap<usize, (Point, Option<String>)>,
}

impl Seen {
    /// Commands that begin with this verb.
    pub fn count(&self, verb: &str) -> usize {
        self.commands
            .iter()
            .filter(|(_, line)| line.starts_with(verb))
            .count()
    }
}

/// What all connections share.
struct Shared {
    seen: watch::Sender<Seen>,
    script: Mutex<Arc<Script>>,
    held: watch::Sender<Option<Point>>,
    capabilities: Mutex<Vec<String>>,
    crypt: Crypt,
    certificate: tls::Certificate,
    journal: Option<Mutex<File>>,
}

impl Shared {
    /// Keeps a mail, the journal first: what the journal lacks was never acknowledged.
    fn keep(&self, mail: Mail) -> usize {
        if let Some(journal) = &self.journal {
            let id = message_id(&mail.bytes);
            let mut lines = String::new();
            for to in &mail.envelope_to {
                lines += &format!("{id} {to}\n");
            }
            let mut journal = lock(journal);
            journal
                .write_all(lines.as_bytes())
                .and_then(|()| journal.flush())
                .expect("journal is writable");
        }
        let mut index = 0;
        self.seen.send_modify(|seen| {
            index = seen.mails.len();
            seen.mails.push(Mail { index, ..mail });
        });
        index
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of the first Message-ID field, or `-`.
fn message_id(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    let field = header
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
    field
        .and_then(|line| line.split_once(':'))
        .map_or("-", |(_, id)| id.trim())
        .to_owned()
}

/// The server; it ends when this is dropped.
pub struct Peer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

/// A peer that is not started yet.
pub struct Builder {
    crypt: Crypt,
    capabilities: Vec<String>,
    journal: Option<PathBuf>,
}

impl Builder {
    pub fn crypt(mut self, crypt: Crypt) -> Builder {
        self.crypt = crypt;
        if crypt == Crypt::Starttls {
            self.capabilities.push("STARTTLS".to_owned());
        }
        self
    }

    /// Replaces the lines that EHLO answers.
    pub fn capabilities(mut self, lines: &[&str]) -> Builder {
        self.capabilities = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// Appends "Message-ID recipient" for each mail to this file before its 250 is sent.
    pub fn journal(mut self, path: &Path) -> Builder {
        self.journal = Some(path.to_owned());
        self
    }

    pub async fn start(self) -> Peer {
        let journal = self.journal.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            Mutex::new(file.expect("journal can be opened"))
        });
        let shared = Arc::new(Shared {
            seen: watch::Sender::new(Seen::default()),
            script: Mutex::new(Arc::new(|_: &Moment<'_>| None)),
            held: watch::Sender::new(None),
            capabilities: Mutex::new(self.capabilities),
            crypt: self.crypt,
            certificate: tls::Certificate::new(),
            journal,
        });
        let mut peer = Peer {
            shared,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            accepting: None,
        };
        peer.up().await;
        peer
    }
}

impl Peer {
    pub fn build() -> Builder {
        let capabilities = [
            "PIPELINING",
            "SIZE 10485760",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "SMTPUTF8",
            "AUTH PLAIN LOGIN",
        ];
        Builder {
            crypt: Crypt::Clear,
            capabilities: Vec::new(),
            journal: None,
        }
        .capabilities(&capabilities)
    }

    /// Starts a peer that accepts everything, in clear.
    pub async fn start() -> Peer {
        Peer::build().start().await
    }

    /// Starts one that also keeps a journal, see [`Builder::journal`].
    pub async fn with_journal(path: &Path) -> Peer {
        Peer::build().journal(path).start().await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate authority behind the peer's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.shared.certificate.ca_pem
    }

    /// Replaces the script; `None` lets the dialogue go on.
    pub fn script(&self, script: impl Fn(&Moment<'_>) -> Option<Act> + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Does the same each time at one point.
    pub fn at(&self, point: Point, act: Act) {
        self.script(move |moment| (moment.point == point).then(|| act.clone()));
    }

    /// Replaces the lines that EHLO answers from now on.
    pub fn offer(&self, lines: &[&str]) {
        *lock(&self.shared.capabilities) = lines.iter().map(|line| (*line).to_owned()).collect();
    }

    /// Makes each dialogue wait at a point, before the script is asked, until [`Peer::release`].
    pub fn hold(&self, point: Point) {
        self.shared.held.send_replace(Some(point));
    }

    pub fn release(&self) {
        self.shared.held.send_replace(None);
    }

    /// Refuses connections and cuts those that are open, as a server that is stopped.
    pub async fn down(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // the listener is closed when its task has ended
            let _ = accepting.await;
        }
    }

    /// Listens, on the same port as before.
    pub async fn up(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("SO_REUSEADDR");
        socket.bind(self.addr).expect("the port is free");
        let listener = socket.listen(1024).expect("the port is free");
        self.addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        self.accepting = Some(tokio::spawn(accept(listener, self.shared.clone())));
    }

    /// Looks at everything seen so far.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.borrow())
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.seen(|seen| seen.mails.clone())
    }

    /// Waits for this many accepted mails.
    pub async fn wait_for(&self, n: usize) {
        self.until(&format!("{n} mails"), |seen| seen.mails.len() >= n)
            .await;
    }

    /// Waits until what was seen is as wanted; panics when that takes too long.
    pub async fn until(&self, what: &str, mut wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.shared.seen.subscribe();
        let done = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| wanted(seen))).await;
        if done.is_err() {
            let state = self.seen(|seen| {
                let (connections, mails, last) =
                    (seen.connections, seen.mails.len(), seen.commands.last());
                format!("{connections} connections, {mails} mails, last command {last:?}")
            });
            panic!("the peer waited {PATIENCE:?} for {what}: {state}");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // dropped with this task, and every connection with it
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut index = 0;
        shared.seen.send_modify(|seen| {
            index = seen.connections;
            seen.connections += 1;
        });
        connections.spawn(dialogue::run(stream, index, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}
