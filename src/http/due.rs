//! Until when a request is answered, and what it is refused with then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Instant;

/// The deadline of a request, as an extension of it.
#[derive(Clone, Debug)]
pub struct Due {
    /// When.
    pub at: Instant,
    /// Whether all of the body came; nothing where there is none.
    complete: Option<Arc<AtomicBool>>,
}

impl Due {
    /// Watches the body of a request that is due at an instant.
    pub fn watch(request: Request<Incoming>, at: Instant) -> (Self, Request<Body>) {
        let complete = (!request.body().is_end_stream()).then(Arc::<AtomicBool>::default);
        let request = request.map(|inner| match &complete {
            None => Body::empty(),
            Some(complete) => Body::new(Watched {
                inner,
                complete: complete.clone(),
            }),
        });
        (Self { at, complete }, request)
    }

    /// What is answered then: 408 where it is the client's body that did not come, else 503.
    pub fn refusal(&self) -> StatusCode {
        let complete = self.complete.as_ref();
        match complete.is_none_or(|complete| complete.load(Ordering::Relaxed)) {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::REQUEST_TIMEOUT,
        }
    }
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
