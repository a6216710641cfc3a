//! The accept loop against clients on real sockets: slow, many, and there while it stops.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::routing::{get, post};
use confirmd::http::listen::{Limits, Peer, serve};
use confirmd::http::ops;
use confirmd::lifecycle::Stop;
use confirmd::telemetry::logs;
use confirmd::telemetry::metrics::Metrics;
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SHORT: Duration = Duration::from_millis(150);
/// Long enough for any machine; reached only by a failure.
const LONG: Duration = Duration::from_secs(30);

const PATIENT: Limits = Limits {
    connections: 64,
    header_timeout: LONG,
    request_timeout: LONG,
    drain: LONG,
};

struct Server {
    at: SocketAddr,
    stop: Stop,
    running: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(app: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = Stop::new();
        let (soft, hard) = (stop.soft(), stop.hard());
        let running = tokio::spawn(serve(listener, app, limits, soft, hard));
        Self { at, stop, running }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.at).await.unwrap())
    }

    async fn ended(self) {
        timeout(LONG, self.running).await.unwrap().unwrap().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the server closes; what it sent.
    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let read = self.0.read_to_end(&mut all);
        // A connection that is cut may end by a reset.
        let _ = timeout(LONG, read)
            .await
            .expect("the connection stays open");
        String::from_utf8(all).unwrap()
    }

    /// Reads one answer whose body ends with an exclamation mark.
    async fn answer(&mut self) -> String {
        let mut all = String::new();
        while !all.ends_with('!') {
            let mut byte = [0];
            let read = timeout(LONG, self.0.read(&mut byte)).await;
            assert_eq!(read.expect("no answer").unwrap(), 1, "closed after {all:?}");
            all.push(char::from(byte[0]));
        }
        all
    }
}

fn hello() -> Router {
    Router::new()
        .route("/", get(async || "hello!"))
        .route(
            "/body",
            post(async |body: Bytes| format!("{} bytes!", body.len())),
        )
        .route(
            "/never",
            post(async |_: Bytes| std::future::pending::<()>().await),
        )
        .route("/panic", get(async || -> &str { panic!("planted") }))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_slow_head_is_cut_and_so_is_an_idle_connection() {
    let limits = Limits {
        header_timeout: SHORT,
        ..PATIENT
    };
    let server = Server::start(hello(), limits).await;
    let mut slow = server.client().await;
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    assert!(!slow.rest().await.contains("200"));
    let mut silent = server.client().await;
    silent.rest().await;
    let mut idle = server.client().await;
    idle.send(GET).await;
    assert!(idle.rest().await.ends_with("hello!"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_makes_room_for_others() {
    let limits = Limits {
        connections: 2,
        request_timeout: SHORT,
        ..PATIENT
    };
    // More than the kernel keeps on both ends together.
    const LARGE: usize = 64 << 20;
    let app = hello().route("/large", get(async || vec![b'x'; LARGE]));
    let server = Server::start(app, limits).await;
    let (mut large, mut many) = (server.client().await, server.client().await);
    large.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let asks = GET.repeat(100);
    let asks = async { while many.0.write_all(asks.as_bytes()).await.is_ok() {} };
    timeout(LONG, asks)
        .await
        .expect("the connection stays open");
    let mut next = server.client().await;
    next.send(GET).await;
    next.answer().await;
}

#[tokio::test]
async fn an_answer_that_comes_in_parts_may_take_long() {
    let limits = Limits {
        header_timeout: SHORT * 2,
        request_timeout: SHORT,
        ..PATIENT
    };
    let release = Arc::new(Notify::new());
    let go = release.clone();
    let app = Router::new().route(
        "/",
        get(async move || {
            let parts = stream::iter(["first!", "second!"]).then(move |part| {
                let go = go.clone();
                async move {
                    if part == "second!" {
                        go.notified().await;
                    }
                    Ok::<_, Infallible>(part)
                }
            });
            Body::from_stream(parts)
        }),
    );
    let server = Server::start(app, limits).await;
    let mut client = server.client().await;
    client.send(GET).await;
    assert!(client.answer().await.ends_with("first!"));
    // A silent one is cut after longer than an answer may take.
    server.client().await.rest().await;
    release.notify_one();
    assert!(client.answer().await.ends_with("second!"));
}

#[tokio::test]
async fn a_slow_body_is_answered_408_and_cut() {
    let limits = Limits {
        request_timeout: SHORT,
        ..PATIENT
    };
    let server = Server::start(hello(), limits).await;
    let head = "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    let mut slow = server.client().await;
    slow.send(&format!("{head}12345")).await;
    let answer = slow.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    let mut whole = Server::start(hello(), PATIENT).await.client().await;
    whole.send(&format!("{head}1234567890")).await;
    assert!(whole.answer().await.ends_with("10 bytes!"));
}

#[tokio::test]
async fn a_slow_handler_is_answered_503_which_may_be_tried_again() {
    let limits = Limits {
        request_timeout: SHORT,
        ..PATIENT
    };
    let server = Server::start(hello(), limits).await;
    let mut client = server.client().await;
    client
        .send("POST /never HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let answer = client.rest().await.to_lowercase();
    assert!(answer.starts_with("http/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 10\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_names_one_host_or_is_refused() {
    let server = Server::start(hello(), PATIENT).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\n", "200"),
        ("GET / HTTP/1.0\r\n", "200"),
    ] {
        let mut client = server.client().await;
        client.send(request).await;
        client.send("Connection: close\r\n\r\n").await;
        let answer = client.rest().await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}{answer}");
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_served_and_the_next_has_its_turn() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let app = Router::new().route(
        "/",
        get(async move |Extension(Peer(peer)): Extension<Peer>| {
            seen.lock().unwrap().push(peer);
            "hello!"
        }),
    );
    let limits = Limits {
        connections: 2,
        ..PATIENT
    };
    let server = Server::start(app, limits).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    let mut three = server.client().await;
    three.send(GET).await;
    let waiting = three.0.local_addr().unwrap();
    for _ in 0..200 {
        one.send(GET).await;
        two.send(GET).await;
        one.answer().await;
        two.answer().await;
    }
    assert!(!asked.lock().unwrap().contains(&waiting));
    drop(one);
    three.answer().await;
    assert_eq!(asked.lock().unwrap().last(), Some(&waiting));
    two.send(GET).await;
    two.answer().await;
}

#[tokio::test]
async fn a_soft_stop_refuses_the_new_and_finishes_the_running() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, go) = (entered.clone(), release.clone());
    let app = Router::new().route(
        "/",
        get(async move || {
            enter.notify_one();
            go.notified().await;
            "hello!"
        }),
    );
    let server = Server::start(app, PATIENT).await;
    let (mut running, mut idle) = (server.client().await, server.client().await);
    running.send(GET).await;
    entered.notified().await;
    server.stop.trigger_soft();
    // The idle one is closed at once; by then nothing is accepted.
    assert_eq!(idle.rest().await, "");
    assert!(TcpStream::connect(server.at).await.is_err());
    assert!(!server.running.is_finished());
    release.notify_one();
    let answer = running.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello!"),
        "{answer}"
    );
    server.ended().await;
}

#[tokio::test]
async fn a_hard_stop_and_the_end_of_the_drain_cut_what_runs() {
    for hard in [true, false] {
        let drain = if hard { LONG } else { SHORT };
        let entered = Arc::new(Notify::new());
        let enter = entered.clone();
        let app = Router::new().route(
            "/",
            get(async move || {
                enter.notify_one();
                std::future::pending::<()>().await;
            }),
        );
        let server = Server::start(app, Limits { drain, ..PATIENT }).await;
        let (mut running, mut idle) = (server.client().await, server.client().await);
        running.send(GET).await;
        entered.notified().await;
        server.stop.trigger_soft();
        assert_eq!(idle.rest().await, "");
        if hard {
            server.stop.trigger_hard();
        }
        assert_eq!(running.rest().await, "");
        server.ended().await;
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_connection_alone() {
    let limits = Limits {
        connections: 1,
        ..PATIENT
    };
    let server = Server::start(hello(), limits).await;
    let mut client = server.client().await;
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    let mut next = server.client().await;
    next.send(GET).await;
    next.answer().await;
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_line_holds_a_path() {
    let lines = Lines::default();
    let writer = lines.clone();
    let all = logs::subscriber(
        logs::Format::Text,
        "trace,hyper=trace,sqlx=trace",
        move || writer.clone(),
    );
    let _guard = tracing::subscriber::set_default(all.unwrap());
    // With one subscriber alone, tracing would ask the thread that meets a line first, which may be another test's.
    let other = logs::subscriber(logs::Format::Text, "off", std::io::sink);
    let _other = tracing::Dispatch::new(other.unwrap());
    let limits = Limits {
        request_timeout: SHORT,
        header_timeout: SHORT,
        ..PATIENT
    };
    let server = Server::start(hello(), limits).await;
    for request in [
        "GET /c/s3cret HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /c/s3cret HTTP/1.1\r\nHost",
        "GET /c/s3cret NONSENSE\r\n\r\n",
        "POST /never?t=s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "POST /never?t=s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\ns3",
    ] {
        let mut client = server.client().await;
        client.send(request).await;
        client.rest().await;
    }
    server.stop.trigger_soft();
    server.ended().await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("connection ended early"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn the_operators_listener_tells_alive_ready_and_numbers() {
    let metrics = Arc::new(Metrics::new(1_700_000_000));
    metrics.confirm();
    let asked = Arc::new(AtomicUsize::new(0));
    let ready = move || {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                Ok(None)
            } else {
                Err("the database does not answer.".to_owned())
            }
        }
    };
    let server = Server::start(ops::router(metrics, ready), PATIENT).await;
    let ask = async |path: &str| {
        let mut client = server.client().await;
        client
            .send(&format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ))
            .await;
        client.rest().await
    };
    assert!(ask("/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(ask("/readyz").await.starts_with("HTTP/1.1 200 "));
    let answer = ask("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.ends_with("the database does not answer.\n"),
        "{answer}"
    );
    let answer = ask("/metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    assert!(answer.contains("\nconfirmd_confirms_total 1\n"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}
