//! The same HTTP stack with nothing behind it: hyper and axum, built as confirmd builds them, in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

/// A part of this program in a process of its own; ends with its handle.
pub struct Part {
    pub child: Child,
    pub addr: SocketAddr,
    pub stdout: BufReader<std::process::ChildStdout>,
}

impl Part {
    /// Starts this program again as `part`, which says its address first.
    pub fn start(part: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--part", part])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let addr = line.trim().parse().expect("an address");
        Self {
            child,
            addr,
            stdout,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until killed: an empty 202 to a POST whose body was read, an empty 404 to a GET.
pub async fn serve() {
    let app = Router::new()
        .route("/v1/signups", post(async |_: Bytes| StatusCode::ACCEPTED))
        .route("/c/{token}", get(async || StatusCode::NOT_FOUND));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let service = TowerToHyperService::new(app.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(32 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}
