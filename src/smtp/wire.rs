//! The byte stream beneath lettre: plain or TLS, each reply whole, bounded and in step.
//!
//! lettre reads replies line by line without a bound on a line, parses the whole reply again after each of its lines,
//! and keeps bytes that came too early, be it before a TLS handshake or before a command was written. So [`Wire`] hears
//! a reply to its end before it passes it on, and speaks only when nothing but that reply was said.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::reply::{Garbled, Reply};

/// Bytes and lines in one reply. A greeting to EHLO, the longest of all, has some 30 lines.
const REPLY_BYTES: usize = 64 * 1024;
const REPLY_LINES: usize = 256;
/// Bytes kept of a line: codes and capabilities come first, and lettre fails on lines of 1,000 bytes.
const LINE_KEPT: usize = 900;

fn garbled(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Garbled(what))
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The last reply that was heard, as bytes; outlives the move of [`Wire`] into lettre.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, reply: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clear();
        heard.extend_from_slice(reply);
    }

    /// The codes of the last reply.
    pub(super) fn reply(&self) -> Option<Reply> {
        let bytes = self.bytes();
        let line =
            std::str::from_utf8(bytes.get(..bytes.iter().position(|&b| b == b'\r')?)?).ok()?;
        Some(Reply::new(line.get(..3)?.parse().ok()?, line.get(4..)?))
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    heard: Heard,
    /// The line that is being heard, cut at [`LINE_KEPT`].
    line: Vec<u8>,
    /// The reply that is being heard, then passed on: whole lines, made regular.
    reply: Vec<u8>,
    /// Bytes and lines received of it.
    bytes: usize,
    lines: usize,
    /// Its last line is there: it is our turn.
    complete: bool,
    /// Bytes of `reply` that were passed on.
    passed: usize,
    /// More came with the reply. The reply counts, perhaps a 250 to the dot, but nothing can follow it.
    surplus: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Wire {
        Wire {
            stream: Stream::Plain(stream),
            heard: Heard::default(),
            line: Vec::new(),
            reply: Vec::new(),
            bytes: 0,
            lines: 0,
            complete: false,
            passed: 0,
            surplus: false,
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Hears one reply, which stays for lettre to be read again.
    pub(super) async fn hear(&mut self) -> io::Result<Reply> {
        poll_fn(|cx| self.poll_hear(cx)).await?;
        self.heard.reply().ok_or_else(|| garbled("no reply code"))
    }

    /// Writes one command and hears its reply.
    pub(super) async fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.passed = self.reply.len();
        self.write_all(command.as_bytes()).await?;
        self.flush().await?;
        self.hear().await
    }

    /// Shakes hands. Whatever came in clear after the last reply is refused: somebody on the way may have put it there,
    /// to be read as if it had come encrypted (RFC 3207, section 6).
    pub(super) async fn secure(
        self,
        tls: &TlsConnector,
        name: ServerName<'static>,
    ) -> io::Result<Wire> {
        self.in_step()?;
        let Stream::Plain(tcp) = self.stream else {
            return Ok(self);
        };
        let stream = Stream::Tls(Box::new(tls.connect(name, tcp).await?));
        Ok(Wire { stream, ..self })
    }

    /// Reads until the reply is complete.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; 4096];
        while !self.complete {
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(self.stream.poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            for &byte in buffer.filled() {
                self.take(byte)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        if self.complete {
            self.surplus = true;
            return Ok(());
        }
        self.bytes += 1;
        if self.bytes > REPLY_BYTES || self.lines >= REPLY_LINES {
            return Err(garbled("reply too long"));
        }
        match byte {
            b'\n' => self.end_line(),
            // lettre fails on text that is not UTF-8, and nobody reads the text
            _ if self.line.len() < LINE_KEPT => {
                self.line.push(if byte.is_ascii() { byte } else { b'?' });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes `line` into `reply`: `250-text`, `250 text`, or `250` alone, which clients must bear (RFC 5321, 4.2).
    fn end_line(&mut self) -> io::Result<()> {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let more = match self.line[..] {
            [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9'] => false,
            [
                b'2'..=b'5',
                b'0'..=b'5',
                b'0'..=b'9',
                mark @ (b' ' | b'-'),
                ..,
            ] => mark == b'-',
            _ => return Err(garbled("not a reply")),
        };
        if !self.reply.is_empty() && self.reply[..3] != self.line[..3] {
            return Err(garbled("codes differ within a reply"));
        }
        self.lines += 1;
        self.reply.extend_from_slice(&self.line);
        if self.line.len() == 3 {
            self.reply.push(b' ');
        }
        self.reply.extend_from_slice(b"\r\n");
        self.line.clear();
        if !more {
            self.complete = true;
            self.heard.set(&self.reply);
        }
        Ok(())
    }

    fn in_step(&self) -> io::Result<()> {
        if self.surplus {
            Err(garbled("bytes after a reply"))
        } else {
            Ok(())
        }
    }

    /// Begins our turn: what the relay says now answers nothing that we asked.
    fn begin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.complete {
            return Ok(());
        }
        self.in_step()?;
        self.reply.clear();
        (self.bytes, self.lines, self.passed, self.complete) = (0, 0, 0, false);
        match self.poll_hear(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending if self.bytes == 0 => Ok(()),
            _ => Err(garbled("reply out of turn")),
        }
    }
}

impl Stream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp),
            Stream::Tls(tls) => Pin::new(tls.as_mut()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_hear(cx))?;
        let rest = &self.reply[self.passed..];
        let n = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..n]);
        self.passed += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin(cx)?;
        self.stream.writer().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.writer().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.writer().poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Plain(tcp) => tcp.peer_addr(),
            Stream::Tls(tls) => tls.get_ref().0.peer_addr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{super::Cause, *};

    /// A wire that has heard a greeting, and the relay's end of it.
    async fn greeted() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wire = Wire::new(
            TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap(),
        );
        let (mut relay, _) = listener.accept().await.unwrap();
        relay.write_all(b"220 hello\r\n").await.unwrap();
        assert_eq!(wire.hear().await.unwrap().code, 220);
        (wire, relay)
    }

    async fn arrived(wire: &Wire) {
        let Stream::Plain(tcp) = &wire.stream else {
            panic!("in clear")
        };
        let mut byte = [0];
        tcp.peek(&mut byte).await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_between_two_commands_answers_neither() {
        for early in ["250 ok\r\n", "2"] {
            let (mut wire, mut relay) = greeted().await;
            relay.write_all(early.as_bytes()).await.unwrap();
            arrived(&wire).await;
            let error = wire.ask("NOOP\r\n").await.unwrap_err();
            assert_eq!(Cause::from(&error), Cause::Malformed, "{early:?}");
        }
    }

    #[tokio::test]
    async fn a_close_between_two_commands_is_seen_before_the_second() {
        let (mut wire, relay) = greeted().await;
        drop(relay);
        arrived(&wire).await;
        let error = wire.ask("NOOP\r\n").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
