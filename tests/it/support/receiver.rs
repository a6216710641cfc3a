//! A place that takes what is posted: HTTP/1.1, in clear or in TLS, on a real socket; it answers as a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::daemon::PATIENCE;
use super::peer::tls::Certificate;

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Request line and headers, in lower case.
    pub head: String,
    pub body: String,
}

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with these bytes and closes.
    Answer(String),
    /// Never answers.
    Silence,
}

impl Act {
    /// A status line, headers and a body that nobody asked for.
    pub fn status(status: &str) -> Act {
        let body = "what the receiver says";
        let length = body.len();
        Act::Answer(format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }
}

/// A running receiver; it ends when dropped.
pub struct Receiver {
    pub addr: SocketAddr,
    /// Its authority, in PEM.
    pub ca_pem: String,
    posted: watch::Receiver<Vec<Posted>>,
    act: Arc<Mutex<Act>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts one that speaks TLS and answers 200.
    pub async fn start() -> Receiver {
        Self::on(true).await
    }

    /// Starts one in clear.
    pub async fn in_clear() -> Receiver {
        Self::on(false).await
    }

    async fn on(tls: bool) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let certificate = Certificate::new();
        let (tell, posted) = watch::channel(Vec::new());
        let act = Arc::new(Mutex::new(Act::status("200 OK")));
        let (tell, acts, acceptor) = (Arc::new(tell), act.clone(), certificate.acceptor);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, acts, acceptor) = (tell.clone(), acts.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match tls {
                        // A client that does not trust it goes away.
                        true => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                take(stream, &tell, &acts).await;
                            }
                        }
                        false => take(stream, &tell, &acts).await,
                    }
                });
            }
        });
        Receiver {
            addr,
            ca_pem: certificate.ca_pem,
            posted,
            act,
            task,
        }
    }

    /// Says what to do from now on.
    pub fn act(&self, act: Act) {
        *self.act.lock().expect("no panic") = act;
    }

    /// Returns what was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.borrow().clone()
    }

    /// Waits for a request with this body.
    pub async fn until(&mut self, body: &str) {
        let found = |all: &Vec<Posted>| all.iter().any(|one| one.body == body);
        let waited = timeout(PATIENCE, self.posted.wait_for(found)).await;
        waited.expect("it is posted").expect("it runs");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request, keeps it and answers.
async fn take(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    tell: &watch::Sender<Vec<Posted>>,
    act: &Mutex<Act>,
) {
    let mut bytes = Vec::new();
    let posted = loop {
        if let Some(posted) = whole(&bytes) {
            break posted;
        }
        if bytes.first() == Some(&0x16) {
            // A TLS handshake where none is spoken.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => {}
            Ok(_) => {}
        }
    };
    tell.send_modify(|all| all.push(posted));
    let act = act.lock().expect("no panic").clone();
    match act {
        // The client may be gone.
        Act::Answer(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Act::Silence => {
            // Until the client closes.
            let _ = stream.read_to_end(&mut bytes).await;
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Posted> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.lines().next()?;
    let is_whole = body.len() == length.parse::<usize>().ok()?;
    is_whole.then(|| Posted {
        head,
        body: body.to_owned(),
    })
}
