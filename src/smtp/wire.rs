//! The byte stream of a session: plain or TLS, each reply whole, bounded and in step.
//!
//! lettre, which greets and logs in over it, reads replies line by line without a bound on a line, parses the whole reply
//! again after each of its lines, and keeps bytes that came too early, be it before a TLS handshake or before a command
//! was written. So [`Wire`] hears a reply to its end before it passes it on, and speaks only when nothing but the replies
//! that were due was said.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

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

#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// The last reply that was heard to its end.
    heard: Vec<u8>,
    /// The first that was a refusal.
    refusal: Option<Reply>,
    /// Received and not yet heard: the replies that follow, where several commands were sent at once.
    ahead: Vec<u8>,
    /// The line that is being heard, cut at [`LINE_KEPT`].
    line: Vec<u8>,
    /// The reply that is being heard, then passed on: whole lines, made regular.
    reply: Vec<u8>,
    /// Bytes and lines received of it.
    bytes: usize,
    lines: usize,
    /// Its last line is there: it is our turn, or that of the next reply.
    complete: bool,
    /// Bytes of `reply` that were passed on.
    passed: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Wire {
        Wire {
            stream: Stream::Plain(stream),
            heard: Vec::new(),
            refusal: None,
            ahead: Vec::new(),
            line: Vec::new(),
            reply: Vec::new(),
            bytes: 0,
            lines: 0,
            complete: false,
            passed: 0,
        }
    }

    /// The last reply, as bytes.
    pub(super) fn heard(&self) -> &[u8] {
        &self.heard
    }

    /// The codes of the last reply.
    pub(super) fn last(&self) -> Option<Reply> {
        let line = self.heard.split(|&b| b == b'\r').next()?;
        let line = std::str::from_utf8(line).ok()?;
        Some(Reply::new(line.get(..3)?.parse().ok()?, line.get(4..)?))
    }

    /// The first refusal. What lettre makes of it is its own: it knows second digits up to 5, and answers with QUIT.
    pub(super) fn refusal(&self) -> Option<Reply> {
        self.refusal
    }

    /// Hears the next reply. The last one of a turn stays for lettre to be read again.
    pub(super) async fn hear(&mut self) -> io::Result<Reply> {
        if self.complete {
            self.forget();
        }
        poll_fn(|cx| self.poll_hear(cx)).await?;
        self.last().ok_or_else(|| garbled("no reply code"))
    }

    /// Begins our turn and writes commands, all in one go.
    pub(super) async fn say(&mut self, commands: &str) -> io::Result<()> {
        self.write_all(commands.as_bytes()).await?;
        self.flush().await
    }

    /// Writes one command and hears its reply.
    pub(super) async fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.say(command).await?;
        self.hear().await
    }

    /// Begins our turn without a word: fails when the relay said more than was due, or closed.
    pub(super) async fn turn(&mut self) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.begin(cx))).await
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

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Plain(tcp) => tcp.peer_addr(),
            Stream::Tls(tls) => tls.get_ref().0.peer_addr(),
        }
    }

    /// Passes the reply on, once it is whole.
    pub(super) fn poll_pass_on(
        &mut self,
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

    /// Reads until the reply is complete; what comes with its end stays ahead.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut taken = 0;
            while !self.complete && taken < self.ahead.len() {
                self.take(self.ahead[taken])?;
                taken += 1;
            }
            self.ahead.drain(..taken);
            if self.complete {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads what has come; 0 is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; 4096];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(self.stream.poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
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

    /// Takes `line` into `reply`: `250-text`, `250 text`, or `250` alone, which clients must bear (RFC 5321, 4.2). A code
    /// that nobody defines is judged by its first digit (4.3.2): relays say 571 and 590.
    fn end_line(&mut self) -> io::Result<()> {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let more = match self.line[..] {
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => false,
            [
                b'2'..=b'5',
                b'0'..=b'9',
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
            self.heard.clone_from(&self.reply);
            let refusal = self.last().filter(|reply| reply.class() > 3);
            self.refusal = self.refusal.or(refusal);
        }
        Ok(())
    }

    fn in_step(&self) -> io::Result<()> {
        match self.ahead.is_empty() {
            true => Ok(()),
            false => Err(garbled("bytes after a reply")),
        }
    }

    fn forget(&mut self) {
        self.reply.clear();
        (self.bytes, self.lines, self.passed, self.complete) = (0, 0, 0, false);
    }

    /// Begins our turn: what the relay says now answers nothing that we asked.
    fn begin(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.complete {
            return Ok(());
        }
        self.in_step()?;
        self.forget();
        match self.poll_more(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(_)) => Err(garbled("reply out of turn")),
            Poll::Ready(Err(error)) => Err(error),
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
    async fn replies_are_told_apart_wherever_they_are_cut() {
        let replies = b"250-2.1.0 one\r\n250 more\r\n550 5.1.1 two\r\n354 three\r\n";
        for cut in 0..replies.len() {
            let (mut wire, mut relay) = greeted().await;
            wire.say("MAIL\r\nRCPT\r\nDATA\r\n").await.unwrap();
            let mut codes = Vec::new();
            relay.write_all(&replies[..cut]).await.unwrap();
            let first = replies[..cut].windows(2).filter(|w| w == b"\r\n").count();
            for _ in 1..first {
                codes.push(wire.hear().await.unwrap().code);
            }
            relay.write_all(&replies[cut..]).await.unwrap();
            while codes.len() < 3 {
                codes.push(wire.hear().await.unwrap().code);
            }
            assert_eq!(codes, [250, 550, 354], "cut at {cut}");
            wire.turn().await.unwrap();
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
