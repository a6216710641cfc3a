//! The accept loop: HTTP/1.1 with a bound on connections, on slow clients and on stopping.
//!
//! No line that is logged here holds a URI: paths hold tokens.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};
use tower::{Service, ServiceExt};

use super::due::Due;
use super::write_timeout::WriteTimeout;
use crate::telemetry::logs::field;

/// The head of a request, and what is read ahead of its body, in bytes; so many for each connection.
const BUFFER: usize = 32 * 1024;
/// How long accepting rests when the process or the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(500);
/// How long an app may take to say itself that a request is late: it knows the words.
const GRACE: Duration = Duration::from_millis(100);

/// The address of the other end of the connection, as an extension of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What answers requests, as a [`axum::Router`] does.
pub trait App:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> App for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What one listener grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; while all are in use none is accepted.
    pub connections: usize,
    /// Longest time for the head of a request, and for an idle connection.
    pub header_timeout: Duration,
    /// Longest time from the head of a request, its body included, to the head of the answer; and for which a client may
    /// take nothing of what is written to it.
    pub request_timeout: Duration,
    /// How long running requests may take after the soft stop.
    pub drain: Duration,
}

/// Serves connections until `soft`, then finishes the running requests, until the drain's end or `hard`.
///
/// A request whose body does not come in time is answered 408, one that we do not answer in time 503; both close the
/// connection. A client that does not read is cut. Handlers find the client in a [`Peer`] extension, and their deadline in
/// a `Due`.
///
/// # Errors
/// When the listener can never accept again.
pub async fn serve<S: App>(
    listener: TcpListener,
    app: S,
    limits: Limits,
    soft: impl Future<Output = ()>,
    hard: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::pin!(soft, hard);
    let free = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    // Whether what runs may be finished.
    let ended = loop {
        let accepted = tokio::select! {
            biased;
            () = &mut hard => break Ok(false),
            () = &mut soft => break Ok(true),
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &free) => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let connection = connection(stream, peer, app.clone(), limits);
                let connection = graceful.watch(connection);
                connections.spawn(async move {
                    if let Err(err) = connection.await {
                        tracing::debug!({ field::ERROR } = %err, "connection ended early");
                    }
                    drop(place);
                });
            }
            Err(err) if err.kind() == ErrorKind::InvalidInput => break Err(err),
            Err(err) => {
                tracing::warn!({ field::ERROR } = %err, "cannot accept connections for a moment");
                tokio::select! {
                    () = sleep(BACK_OFF) => {}
                    () = &mut hard => break Ok(false),
                    () = &mut soft => break Ok(true),
                }
            }
        }
    };
    // New connections are refused from here on.
    drop(listener);
    if !matches!(ended, Ok(false)) {
        tokio::select! {
            () = hard => {}
            () = graceful.shutdown() => {}
            () = sleep(limits.drain) => {}
        }
    }
    while let Some(ended) = connections.try_join_next() {
        report(ended);
    }
    if !connections.is_empty() {
        tracing::warn!({ field::COUNT } = connections.len(), "connections were cut");
        connections.shutdown().await;
    }
    ended.map(drop)
}

/// Waits for a free place first, so that a full server leaves connections in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    loop {
        // The semaphore is never closed.
        let place = free
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        match listener.accept().await {
            Ok((stream, peer)) => return Ok((stream, peer, place)),
            // The client was gone before we came.
            Err(err)
                if matches!(
                    err.kind(),
                    ErrorKind::ConnectionAborted
                        | ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::Interrupted
                ) => {}
            Err(err) => return Err(err),
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err_and(|err| err.is_panic()) {
        tracing::error!("a handler panicked; its connection was closed");
    }
}

fn connection<S: App>(
    stream: TcpStream,
    peer: SocketAddr,
    app: S,
    limits: Limits,
) -> http1::Connection<
    TokioIo<WriteTimeout<TcpStream>>,
    impl hyper::service::HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send>,
> {
    // Without it a small answer can wait for the acknowledgement of the one before.
    if let Err(err) = stream.set_nodelay(true) {
        tracing::debug!({ field::ERROR } = %err, "no TCP_NODELAY");
    }
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        answer(app.clone(), request, peer, limits.request_timeout)
    });
    let stream = WriteTimeout::new(stream, limits.request_timeout);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
}

async fn answer<S: App>(
    app: S,
    request: Request<Incoming>,
    peer: SocketAddr,
    within: Duration,
) -> Result<Response<Body>, Infallible> {
    // RFC 9112, section 3.2; hyper leaves it to us.
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && hosts != 1 {
        return Ok(bare(StatusCode::BAD_REQUEST));
    }
    let (due, mut request) = Due::watch(request, Instant::now() + within);
    let extensions = request.extensions_mut();
    extensions.insert(Peer(peer));
    extensions.insert(due.clone());
    let answered = timeout_at(due.at + GRACE, app.oneshot(request)).await;
    answered.unwrap_or_else(|_| Ok(bare(due.refusal())))
}

/// Refuses in the place of the app.
fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
    }
    response
}
