//! The accept loop: HTTP/1.1 with a bound on connections, on slow clients and on stopping.
//!
//! No line that is logged here holds a URI: paths hold tokens.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};

use super::write_timeout::WriteTimeout;
use crate::telemetry::logs::field;

/// The head of a request, and what is read ahead of its body, in bytes; so many for each connection.
const BUFFER: usize = 32 * 1024;
/// How long accepting rests when the process or the machine is out of file descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(500);

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
/// connection. A client that does not read is cut. Handlers find the client in a [`Peer`] extension.
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
    let complete = (!request.body().is_end_stream()).then(Arc::<AtomicBool>::default);
    let mut request = request.map(|inner| match &complete {
        None => Body::empty(),
        Some(complete) => Body::new(Watched {
            inner,
            complete: complete.clone(),
        }),
    });
    request.extensions_mut().insert(Peer(peer));
    if let Ok(answered) = timeout(within, app.oneshot(request)).await {
        return answered;
    }
    let status = match complete.is_none_or(|complete| complete.load(Ordering::Relaxed)) {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::REQUEST_TIMEOUT,
    };
    let mut late = Response::new(Body::empty());
    *late.status_mut() = status;
    let headers = late.headers_mut();
    headers.insert(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
    Ok(late)
}

/// A request's body that remembers whether all of it came.
struct Watched {
    inner: Incoming,
    complete: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let last = matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream();
        if last {
            self.complete.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
