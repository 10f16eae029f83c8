//! The little HTTP/1.1 that the scripted model needs: read one request with a `Content-Length`, write one response,
//! close.
//!
//! One request per connection (`Connection: close`), so that a cut stream is simply a closed socket. Streams are
//! chunked: a client can then tell an end from a cut, because a cut stream lacks the last chunk.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest request head accepted, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The longest request body accepted, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// How long a request may take to arrive, and one write to be taken.
const IO_BOUND: Duration = Duration::from_secs(20);

/// A request as it came.
pub(super) struct Incoming {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Why no request could be read.
pub(super) enum ReadError {
    /// The peer closed before it sent a byte: no fault (a probe, or our own wake-up call).
    Closed,
    /// The status to answer with, and why.
    Refused(u16, &'static str),
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) fn read_request(stream: &mut TcpStream) -> Result<Incoming, ReadError> {
    stream.set_write_timeout(Some(IO_BOUND))?;
    let deadline = Instant::now() + IO_BOUND;
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > MAX_HEAD {
            return Err(ReadError::Refused(431, "the request head is too long"));
        }
        if !read_some(stream, &mut bytes, deadline)? {
            return Err(if bytes.is_empty() {
                ReadError::Closed
            } else {
                ReadError::Refused(400, "the request head is not complete")
            });
        }
    };
    let mut body = bytes.split_off(head_len);
    let head = String::from_utf8(bytes).map_err(|_| ReadError::Refused(400, "the request head is not UTF-8"))?;
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path)) = (start.next(), start.next()) else {
        return Err(ReadError::Refused(400, "no request line"));
    };
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    if find("transfer-encoding").is_some() {
        return Err(ReadError::Refused(411, "a chunked request body is not supported"));
    }
    let length = match find("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= MAX_BODY => length,
        Some(Ok(_)) => return Err(ReadError::Refused(413, "the request body is too long")),
        Some(Err(_)) => return Err(ReadError::Refused(400, "the content length is not a number")),
    };
    while body.len() < length {
        if !read_some(stream, &mut body, deadline)? {
            return Err(ReadError::Refused(400, "the request body is not complete"));
        }
    }
    body.truncate(length);
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(Incoming { method, path, headers, body })
}

/// Reads once; false at the end of the stream.
fn read_some(stream: &mut TcpStream, into: &mut Vec<u8>, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(count) => {
                into.extend(chunk.iter().take(count));
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// True if the peer has closed its side or reset the connection. Never blocks.
pub(super) fn is_peer_gone(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let gone = match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    gone || stream.set_nonblocking(false).is_err()
}

/// Writes a whole response with a JSON body.
pub(super) fn write_response(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &str,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} {}\r\nconnection: close\r\n", reason(status));
    text.push_str(&format!("content-length: {}\r\n", body.len()));
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        text.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes())
}

/// Begins a chunked stream of server-sent events.
pub(super) fn write_stream_head(stream: &mut TcpStream, headers: &[(String, String)]) -> io::Result<()> {
    let mut text = String::from("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n");
    text.push_str("cache-control: no-cache\r\ntransfer-encoding: chunked\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())
}

/// Writes one chunk.
pub(super) fn write_chunk(stream: &mut TcpStream, data: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes())
}

/// Ends a chunked stream in good order.
pub(super) fn write_last_chunk(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
